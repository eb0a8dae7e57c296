"""The network that is trained: from scratch, from weights, and frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from googlenet_deploy.device.specification import BVLC
from googlenet_deploy.errors import UsageError
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.checkpoint import Checkpoint, save_checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.training.data.dataset import TrainingData
from googlenet_deploy.training.network import FREEZE_CHOICES, TRUNK, build_network, freeze
from googlenet_deploy.training.options import TrainingOptions


def data(*classes: str) -> TrainingData:
    return TrainingData(Path(), classes)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    architecture = ARCHITECTURES["bvlc"]
    path = tmp_path / "w.safetensors"
    model = GoogLeNet(architecture, 3, width=0.125)
    save_checkpoint(path, Checkpoint(model, architecture, BVLC, class_names=("x", "y", "z")))
    return str(path)


def test_choices_from_scratch_are_filled_in() -> None:
    network = build_network(TrainingOptions(width=0.125), data("a", "b"))
    assert network.options.architecture == "torchvision"
    assert (network.options.input_size, network.options.resize) == (224, 256)
    assert network.options.learning_rate == 0.05
    assert network.preprocessing.crop == (224, 224)
    assert network.model.aux1 is not None


def test_without_random_crops_the_whole_image_is_used() -> None:
    network = build_network(TrainingOptions(width=0.125, input_size=64, augmentation="light"), data("a", "b"))
    assert network.preprocessing.resize == 64


def test_fresh_weights_depend_on_the_seed_and_leave_the_callers_random_state() -> None:
    options = TrainingOptions(width=0.125, seed=5)
    state = torch.random.get_rng_state()
    first = build_network(options, data("a", "b")).model.state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(3)
    second = build_network(options, data("a", "b")).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_other_classes_replace_the_classifier_and_keep_the_trunk(weights: str) -> None:
    network = build_network(TrainingOptions(weights=weights), data("a", "b"))
    assert network.model.num_classes == 2
    assert network.model.fc.weight.shape[0] == 2
    assert network.model.aux1.fc2.weight.shape[0] == network.model.aux2.fc2.weight.shape[0] == 2
    assert network.preprocessing == BVLC
    assert network.options.learning_rate == pytest.approx(0.001)
    assert (network.options.architecture, network.options.width) == ("bvlc", 0.125)
    assert "classifier replaced: 2 classes" in network.notes[0]
    kept = build_network(TrainingOptions(weights=weights), data("x", "y", "z"))
    assert torch.equal(kept.model.conv1.conv.weight, network.model.conv1.conv.weight)
    assert "classifier kept" in kept.notes[0]
    assert len(network.weights_sha256) == 64


def test_the_input_size_of_weights_can_be_changed(weights: str) -> None:
    network = build_network(TrainingOptions(weights=weights, input_size=112), data("a", "b"))
    assert (network.preprocessing.crop, network.preprocessing.resize) == ((112, 112), 128)
    assert network.preprocessing.channels == "BGR"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"architecture": "torchvision"}, "--architecture torchvision contradicts"), ({"width": 0.5}, "--width 0.5")],
)
def test_options_that_contradict_the_weights(weights: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_network(TrainingOptions(weights=weights, **options), data("a", "b"))


def test_freeze_needs_weights_and_a_known_module(weights: str) -> None:
    with pytest.raises(UsageError, match="needs --weights"):
        build_network(TrainingOptions(freeze="trunk"), data("a", "b"))
    with pytest.raises(UsageError, match="inception9z"):
        build_network(TrainingOptions(weights=weights, freeze="inception9z"), data("a", "b"))


@pytest.mark.parametrize("last", FREEZE_CHOICES)
def test_freeze_takes_all_modules_up_to_one(last: str) -> None:
    model = GoogLeNet(ARCHITECTURES["torchvision"], 2, width=0.125)
    modules = freeze(model, last)
    frozen = {name.partition(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    count = 0 if last == "none" else len(TRUNK) if last == "trunk" else TRUNK.index(last) + 1
    assert frozen == set(TRUNK[:count])
    assert len(modules) == count
    assert model.fc.weight.requires_grad


@pytest.mark.parametrize(
    ("freeze_up_to", "auxiliary"),
    [("none", True), ("inception3b", True), ("inception4a", False), ("inception5a", False), ("trunk", False)],
)
def test_auxiliary_classifiers_only_where_they_train_something(
    weights: str, freeze_up_to: str, auxiliary: bool
) -> None:
    model = build_network(TrainingOptions(weights=weights, freeze=freeze_up_to), data("a", "b")).model
    assert (model.aux1 is not None) == auxiliary


def test_a_new_classifier_that_learns_alone_learns_as_from_scratch(weights: str) -> None:
    frozen = build_network(TrainingOptions(weights=weights, freeze="trunk"), data("a", "b"))
    assert frozen.options.learning_rate == pytest.approx(0.01)
    kept = build_network(TrainingOptions(weights=weights, freeze="trunk"), data("x", "y", "z"))
    assert kept.options.learning_rate == pytest.approx(0.001)
