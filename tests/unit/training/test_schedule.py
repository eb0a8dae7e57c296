"""The learning rate over the epochs."""

from __future__ import annotations

import pytest

from googlenet_deploy.training.loop import learning_rate
from googlenet_deploy.training.options import TrainingOptions


def test_cosine_rises_falls_and_ends_at_zero() -> None:
    options = TrainingOptions(epochs=10, warmup_epochs=2)
    rates = [learning_rate(options, 0.1, epoch / 4) for epoch in range(1, 41)]
    assert rates[3] == pytest.approx(0.05)
    assert max(rates) == pytest.approx(0.1)
    assert rates[7:] == sorted(rates[7:], reverse=True)
    assert learning_rate(options, 0.1, 6) == pytest.approx(0.05)
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)


def test_the_papers_schedule_loses_four_percent_every_eight_epochs() -> None:
    options = TrainingOptions(epochs=40, schedule="step", warmup_epochs=0)
    assert learning_rate(options, 0.1, 7.99) == 0.1
    assert learning_rate(options, 0.1, 8.0) == pytest.approx(0.096)
    assert learning_rate(options, 0.1, 39) == pytest.approx(0.1 * 0.96**4)


def test_the_warm_up_never_takes_more_than_half_of_a_short_run() -> None:
    options = TrainingOptions(epochs=1, warmup_epochs=5)
    assert learning_rate(options, 0.1, 0.5) == pytest.approx(0.1)
    assert learning_rate(options, 0.1, 1.0) == pytest.approx(0.0)
