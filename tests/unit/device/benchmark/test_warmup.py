from __future__ import annotations

from typing import Any

import pytest
from fake_clock import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st

from googlenet_deploy.device.benchmark.warmup import BLOCK_RUNS, BLOCKS, TOLERANCE, warm_up


def warmed(clock: Any, latency: Any, **limits: float) -> Any:
    runs = iter(range(10**6))
    return warm_up(lambda: clock.advance(latency(next(runs))), clock, **limits)


def test_a_steady_latency_settles_after_the_least_time(clock: Any) -> None:
    found = warmed(clock, lambda _: 0.01)
    assert found.settled
    assert 1.0 <= found.seconds <= 1.25
    assert found.medians == pytest.approx([10.0] * len(found.medians))


def test_rising_clocks_are_waited_for(clock: Any) -> None:
    found = warmed(clock, lambda run: max(0.01, 0.05 * 0.98**run))
    assert found.settled
    assert found.seconds > 2.5
    assert found.medians[-BLOCKS:] == pytest.approx([10.0] * BLOCKS)


def test_a_latency_that_never_settles_ends_and_is_told(clock: Any) -> None:
    found = warmed(clock, lambda run: 0.01 * 1.5 ** (run // 20 % 2))
    assert not found.settled
    assert found.seconds == pytest.approx(20.0, abs=0.05)
    assert "at most 20 s" in found.to_dict()["rule"]


def test_very_slow_models_still_run_once(clock: Any) -> None:
    found = warmed(clock, lambda _: 60.0)
    assert (found.runs, found.settled) == (1, False)


def test_no_warm_up_at_all(clock: Any) -> None:
    found = warmed(clock, lambda _: 0.01, min_seconds=0.0, max_seconds=0.0)
    assert found.runs == 1


@settings(deadline=None, max_examples=50)
@given(st.floats(0.001, 0.05), st.floats(0.0, 0.5), st.integers(0, 300))
def test_what_has_settled_is_level(base: float, jump: float, when: int) -> None:
    found = warmed(FakeClock(), lambda run: base * (1 + jump * (run < when)), max_seconds=5.0)
    latest = found.medians[-BLOCKS:]
    level = len(latest) == BLOCKS and max(latest) - min(latest) <= TOLERANCE * min(latest)
    assert not found.settled or level
    assert found.seconds <= 5.0 + 0.1
    assert found.runs >= BLOCK_RUNS
