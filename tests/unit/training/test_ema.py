"""The average of the weights."""

from __future__ import annotations

import pytest
import torch

from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.training.ema import Average, default_decay


def model() -> GoogLeNet:
    return GoogLeNet(ARCHITECTURES["torchvision"], 2, width=0.125)


def run(decay: float, values: list[float]) -> tuple[float, float, int]:
    """Average of fc.bias, of a BatchNorm statistic, and of its counter, after the weights took `values` in turn."""
    net = model()
    average = Average(net, decay)
    bn = net.conv1.bn
    for count, value in enumerate(values, 1):
        with torch.no_grad():
            net.fc.bias.fill_(value)
            bn.running_mean.fill_(value)
            bn.num_batches_tracked.fill_(count)
        average.update()
    kept = average.module.requires_grad_(False)
    return float(kept.fc.bias[0]), float(kept.conv1.bn.running_mean[0]), int(kept.conv1.bn.num_batches_tracked)


def test_no_averaging_takes_the_last_weights() -> None:
    assert run(0.0, [1.0, 5.0, 3.0]) == (3.0, 3.0, 3)


def test_constant_weights_stay() -> None:
    bias, mean, count = run(0.99, [2.0] * 5)
    assert bias == pytest.approx(2.0)
    assert mean == pytest.approx(2.0)
    assert count == 5


def test_the_decay_grows_from_a_tenth_and_is_bounded() -> None:
    # The second update has decay 1/10, the third 2/11.
    assert run(0.99, [0.0, 1.0])[0] == pytest.approx(0.9)
    assert run(0.99, [0.0, 1.0, 1.0])[0] == pytest.approx(1 - 0.1 * 2 / 11)
    assert run(0.05, [0.0, 1.0])[0] == pytest.approx(0.95)


@pytest.mark.parametrize(("steps", "decay"), [(10, 0.9), (400, 0.95), (10**9, 0.9999)])
def test_the_default_window_is_a_twentieth_of_the_run_within_bounds(steps: int, decay: float) -> None:
    assert default_decay(steps) == pytest.approx(decay)
