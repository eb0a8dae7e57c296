"""Pruning by predicted latency and energy."""

from __future__ import annotations

import pytest
import torch

from googlenet_deploy.analysis.prediction.predict import predict
from googlenet_deploy.device.registry import load_member
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import UsageError
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.model.widths import scaled_widths
from googlenet_deploy.training.pruning.options import MEASURES
from googlenet_deploy.training.pruning.select import select_widths
from googlenet_deploy.training.pruning.skeleton import Skeleton

MODEL = GoogLeNet(ARCHITECTURES["plain"], 3, width=0.5)
NANO = load_target("nano")


def test_it_is_the_prediction_of_that_network() -> None:
    latency, energy = (load_member(MEASURES[name])(MODEL, 64, NANO) for name in ("latency", "energy"))
    widths = scaled_widths(0.5).with_channels({"inception5b.conv1x1": 16})
    found = predict(Skeleton(MODEL, 64).build(widths), NANO, "fp16").best
    assert latency(widths) == found.latency.value
    assert energy(widths) == found.energy.value
    assert latency(widths) < latency(scaled_widths(0.5))
    assert energy(widths) < energy(scaled_widths(0.5))


def test_widths_are_selected_until_the_prediction_holds() -> None:
    measure = load_member(MEASURES["latency"])(MODEL, 64, NANO)
    widths = scaled_widths(0.5)
    scores = {name: torch.arange(count, dtype=torch.float64) + 1.0 for name, count in widths.channels.items()}
    goal = 0.98 * measure(widths)
    found = select_widths(widths, scores, measure, goal, 128)  # which five layers exceed
    assert 0.95 * measure(widths) < measure(found) <= goal
    assert all(count in (128, widths.channels[name]) for name, count in found.channels.items())


@pytest.mark.parametrize("by", ["latency", "energy"])
def test_it_is_that_of_a_module(by: str) -> None:
    with pytest.raises(UsageError, match=f"--prune-by {by} is a prediction for a module"):
        load_member(MEASURES[by])(MODEL, 64, None)
    with pytest.raises(UsageError, match="is software, which has no speed of its own"):
        load_member(MEASURES[by])(MODEL, 64, load_target("jetpack-5.1"))(MODEL.widths)
