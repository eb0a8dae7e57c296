from __future__ import annotations

from typing import Any

import numpy as np

from googlenet_deploy.device.runner.protocol import ScopedTimes, run_timed


class PlainRunner:
    def run(self, batch: Any) -> dict[str, Any]:
        return {"logits": batch + 1}


class OwnTimes(PlainRunner):
    def run_timed(self, batch: Any) -> tuple[dict[str, Any], ScopedTimes]:
        return self.run(batch), ScopedTimes(0.001, 0.002, 0.003)


def test_all_of_a_plain_run_counts_as_compute() -> None:
    ticks = iter((1.0, 1.5))
    outputs, times = run_timed(PlainRunner(), np.zeros(1), clock=lambda: next(ticks))  # type: ignore[arg-type]
    assert outputs["logits"][0] == 1
    assert times == ScopedTimes(None, 0.5, None)


def test_a_runner_that_measures_its_scopes_is_asked() -> None:
    _, times = run_timed(OwnTimes(), np.zeros(1))  # type: ignore[arg-type]
    assert times == ScopedTimes(0.001, 0.002, 0.003)
