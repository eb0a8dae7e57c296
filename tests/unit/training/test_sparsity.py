"""2:4 sparsity: which weights are pruned, and that they stay zero in training, averaging, resuming and INT8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from googlenet_deploy.analysis.sparsity import holds_pattern
from googlenet_deploy.device.specification import BVLC
from googlenet_deploy.errors import UsageError
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.checkpoint import Checkpoint, save_checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.training.data.dataset import TrainingData
from googlenet_deploy.training.network import build_network
from googlenet_deploy.training.options import TrainingOptions
from googlenet_deploy.training.resume_state import capture_state, load_state, restore_state, save_state
from googlenet_deploy.training.sparsity import follows, mask_of, prunable, prune, weights_of

from .conftest import MakeTrainer

DATA = TrainingData(Path(), ("a", "b"))


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A dense net of a quarter of the width, of the classes a and b."""
    path = tmp_path / "w.safetensors"
    model = GoogLeNet(ARCHITECTURES["torchvision"], 2, width=0.25, auxiliary=True)
    save_checkpoint(path, Checkpoint(model, ARCHITECTURES["torchvision"], BVLC, class_names=("a", "b")))
    return str(path)


@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([(), (1, 1), (3, 3), (1, 5)]), st.integers(0, 99))
def test_the_two_largest_of_every_four_input_channels_stay(
    outputs: int, fours: int, kernel: tuple[int, ...], seed: int
) -> None:
    weight = torch.randn(outputs, 4 * fours, *kernel, generator=torch.Generator().manual_seed(seed))
    mask = mask_of(weight)
    groups, kept = (x.reshape(outputs, fours, 4, -1) for x in (weight.abs(), mask))
    assert (kept.sum(dim=2) == 2).all()
    assert (groups.masked_fill(~kept, 9.0).amin(dim=2) >= groups.masked_fill(kept, 0.0).amax(dim=2)).all()
    assert holds_pattern((weight * mask).numpy())


def test_of_equal_weights_the_first_stay() -> None:
    assert mask_of(torch.ones(1, 4)).tolist() == [[True, True, False, False]]


def test_layers_without_channels_in_fours_and_auxiliary_classifiers_stay_dense() -> None:
    model = GoogLeNet(ARCHITECTURES["bvlc"], 3, width=0.25, auxiliary=True)
    dense = {name for name, _ in weights_of(model)} - {name for name, _ in prunable(model)}
    assert "conv1.conv" in dense
    assert not any(name.startswith("aux") for name, _ in prunable(model))
    before = model.aux1.fc2.weight.clone()
    assert f"{len(dense)} layers stay dense" in prune(model)
    assert torch.equal(model.aux1.fc2.weight, before)
    assert follows(model)
    assert np.count_nonzero(model.conv1.conv.weight.detach().numpy() == 0) == 0


def test_nothing_to_prune_is_an_error() -> None:
    with pytest.raises(UsageError, match="fours"):
        prune(nn.Sequential(nn.Conv2d(3, 4, 1)))


def test_only_trained_weights_that_may_adapt_are_pruned(weights: str) -> None:
    with pytest.raises(UsageError, match="prunes trained weights"):
        build_network(TrainingOptions(width=0.25, sparsity="2:4"), DATA)
    with pytest.raises(UsageError, match="exclude each other"):
        build_network(TrainingOptions(weights=weights, sparsity="2:4", freeze="conv2"), DATA)
    with pytest.raises(UsageError, match="--sparsity"):
        TrainingOptions(sparsity="1:2")


def test_weights_that_have_the_pattern_keep_it_unless_told_otherwise(weights: str, tmp_path: Path) -> None:
    dense = build_network(TrainingOptions(weights=weights), DATA)
    assert dense.options.sparsity == "none"
    assert not follows(dense.model)
    pruned = build_network(TrainingOptions(weights=weights, sparsity="2:4"), DATA)
    assert pruned.options.sparsity == "2:4"
    assert "half of the weights" in pruned.notes[-1]
    path = tmp_path / "sparse.safetensors"
    save_checkpoint(path, Checkpoint(pruned.model, pruned.architecture, BVLC, class_names=("a", "b")))
    kept = build_network(TrainingOptions(weights=str(path)), DATA)
    assert kept.options.sparsity == "2:4"
    other = build_network(TrainingOptions(weights=str(path), sparsity="none"), DATA)
    assert other.options.sparsity == "none"
    assert "lose" in other.notes[-1]


@pytest.mark.parametrize("options", [{}, {"clip": 0.1, "accumulate": 2}])
def test_training_moves_every_kept_weight_and_no_zero(
    make_trainer: MakeTrainer, weights: str, options: dict[str, object]
) -> None:
    trainer = make_trainer(width=None, weights=weights, sparsity="2:4", learning_rate=0.05, **options)
    before = {name: weight.detach().clone() for name, weight in prunable(trainer.model)}
    list(trainer.epochs())
    for model in (trainer.model, trainer.averaged_model):
        assert follows(model)
        for name, weight in prunable(model):
            assert not weight[before[name] == 0].any(), name
    moved = [float((weight != before[name]).float().mean()) for name, weight in prunable(trainer.model)]
    assert max(moved) <= 0.5
    assert np.mean(moved) > 0.4


RECORD = {
    "options": {"architecture": "bvlc", "learning_rate": 0.1, "epochs": 3, "device": "cpu"},
    "weights_sha256": "",
    "data": {"sha256": "00"},
}


def test_a_run_that_goes_on_has_the_same_zeros_and_weights(
    make_trainer: MakeTrainer, weights: str, tmp_path: Path
) -> None:
    options = {"width": None, "weights": weights, "sparsity": "2:4"}
    whole = make_trainer(**options)
    results = whole.epochs()
    next(results)
    state = tmp_path / "s.safetensors"
    save_state(state, capture_state(whole, None, record=RECORD, classes=["a", "b"], log=0))
    list(results)
    second = make_trainer(**options)
    restore_state(state, load_state(state), second)
    list(second.epochs())
    assert follows(second.model)
    ours, theirs = second.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
