"""The loop's arithmetic, frozen modules, and its stop on a loss that is no number."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from googlenet_deploy.errors import GoogLeNetDeployError
from googlenet_deploy.model.googlenet import TrainingOutputs
from googlenet_deploy.training import loop
from googlenet_deploy.training.data import read_image_folder
from googlenet_deploy.training.images import ImageStore, centre
from googlenet_deploy.training.loop import Trainer, training_loss
from googlenet_deploy.training.network import build_network
from googlenet_deploy.training.options import TrainingOptions
from googlenet_deploy.training.validation import validate

SMALL = {"width": 0.125, "input_size": 32, "augmentation": "none", "batch_size": 4, "epochs": 2}


@pytest.fixture
def parts(tmp_path: Path, make_folder: Callable[..., Path]) -> Callable[..., Trainer]:
    """A data set and a function that makes a trainer for it."""
    data = read_image_folder(make_folder(tmp_path / "d", {"a": 8, "b": 8}), validation_share=0.25, seed=0)

    def make(decay: float = 0.9, **options: Any) -> Trainer:
        network = build_network(TrainingOptions(**{**SMALL, **options}), data)
        stores = [
            ImageStore(part, network.preprocessing, centre, budget=10**9, workers=1, quiet=True)
            for part in (data.train, data.validation)
        ]
        return Trainer(network, *stores, decay=decay, device=torch.device("cpu"), workers=1, quiet=True)

    return make


def test_the_loss_of_uniform_logits() -> None:
    logits, labels = torch.zeros(4, 10), torch.arange(4)
    assert float(training_loss(logits, labels, 0.1, 0.3)) == pytest.approx(math.log(10))
    outputs = TrainingOutputs(logits, logits, logits)
    assert float(training_loss(outputs, labels, 0.0, 0.3)) == pytest.approx(1.6 * math.log(10))


def test_training_lowers_the_loss_and_averages_the_weights(parts: Callable[..., Trainer]) -> None:
    trainer = parts(epochs=4)
    results = list(trainer.epochs())
    assert [result.epoch for result in results] == [1, 2, 3, 4]
    assert results[-1].loss < results[0].loss
    assert results[-1].learning_rate == pytest.approx(0.0, abs=1e-12)
    assert not torch.equal(trainer.averaged_model.fc.weight, trainer.model.fc.weight)


def test_without_averaging_the_last_weights_are_kept(parts: Callable[..., Trainer]) -> None:
    trainer = parts(decay=0.0)
    list(trainer.epochs())
    assert torch.equal(trainer.averaged_model.fc.weight, trainer.model.fc.weight)


def test_the_callers_random_state_is_left_alone(parts: Callable[..., Trainer]) -> None:
    trainer = parts(epochs=1)
    state = torch.random.get_rng_state()
    list(trainer.epochs())
    assert torch.equal(state, torch.random.get_rng_state())


def test_frozen_modules_keep_weights_and_statistics(parts: Callable[..., Trainer]) -> None:
    trainer = parts()
    trainer.frozen = loop.freeze(trainer.model, "inception3a")
    trainer.optimizer = loop._optimizer(trainer.model, 0.9, 1e-4)
    before = copy.deepcopy(trainer.model.state_dict())
    list(trainer.epochs())
    after = trainer.model.state_dict()
    for name in before:
        frozen = name.startswith(("conv1.", "conv2.", "conv3.", "inception3a."))
        if frozen:
            assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["inception3b.branch1.conv.weight"], after["inception3b.branch1.conv.weight"])
    assert not torch.equal(before["inception3b.branch1.bn.running_mean"], after["inception3b.branch1.bn.running_mean"])


def test_biases_and_norms_do_not_decay(parts: Callable[..., Trainer]) -> None:
    optimizer = parts().optimizer
    kernels, others = optimizer.param_groups
    assert kernels["weight_decay"] > 0 == others["weight_decay"]
    assert all(p.dim() > 1 for p in kernels["params"])
    assert all(p.dim() == 1 for p in others["params"])


def test_a_loss_that_is_no_number_stops_and_says_where(
    parts: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "learning_rate", lambda options, peak, epoch: 0.05 if epoch <= 1 else math.inf)
    epochs = parts(epochs=3).epochs()
    next(epochs)
    with pytest.raises(GoogLeNetDeployError, match="the loss in step 2 of epoch 2 is nan") as caught:
        next(epochs)
    assert "--lr" in caught.value.remedy


def test_validation_counts_every_image_once(parts: Callable[..., Trainer]) -> None:
    trainer = parts()
    result = validate(trainer.model, trainer.validation, 2, batch_size=3, workers=1, device=torch.device("cpu"))
    assert result.confusion.sum(axis=1).tolist() == [2, 2]
    assert result.accuracy.total == 4
    assert result.accuracy.successes == int(np.trace(result.confusion))
    assert [score.total for score in result.class_accuracy()] == [2, 2]
    assert math.isfinite(result.loss)
