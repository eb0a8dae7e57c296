"""The loop's arithmetic, frozen modules, divided steps, precision, and its stop on a loss that is no number."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from googlenet_deploy.errors import DeviceError, GoogLeNetDeployError
from googlenet_deploy.model.googlenet import TrainingOutputs
from googlenet_deploy.training import loop
from googlenet_deploy.training.data.mixup import Targets
from googlenet_deploy.training.loop import ClassifierLoss, Trainer, failures_in_words

MakeTrainer = Callable[..., Trainer]


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def trained(trainer: Trainer) -> Trainer:
    list(trainer.epochs())
    return trainer


def test_the_loss_of_uniform_logits() -> None:
    logits, targets = torch.zeros(4, 10), Targets(torch.arange(4))
    assert float(ClassifierLoss(0.1, 0.3)(logits, logits, targets)) == pytest.approx(math.log(10))
    outputs = TrainingOutputs(logits, logits, logits)
    assert float(ClassifierLoss(0.0, 0.3)(outputs, logits, targets)) == pytest.approx(1.6 * math.log(10))


def test_training_lowers_the_loss_and_averages_the_weights(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(epochs=4)
    results = list(trainer.epochs())
    assert [result.epoch for result in results] == [1, 2, 3, 4]
    assert results[-1].loss < results[0].loss
    assert results[-1].learning_rate == pytest.approx(0.0, abs=1e-12)
    assert not torch.equal(trainer.averaged_model.fc.weight, trainer.model.fc.weight)


def test_without_averaging_the_last_weights_are_kept(make_trainer: MakeTrainer) -> None:
    trainer = trained(make_trainer(decay=0.0))
    assert torch.equal(trainer.averaged_model.fc.weight, trainer.model.fc.weight)


def test_the_callers_random_state_is_left_alone(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(epochs=1)
    state = torch.random.get_rng_state()
    trained(trainer)
    assert torch.equal(state, torch.random.get_rng_state())


def test_frozen_modules_keep_weights_and_statistics(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    trainer.frozen = loop.freeze(trainer.model, "inception3a")
    trainer.optimizer = loop.make_optimizer(trainer.model, trainer.options)
    before = copy.deepcopy(trainer.model.state_dict())
    after = trained(trainer).model.state_dict()
    for name in before:
        if name.startswith(("conv1.", "conv2.", "conv3.", "inception3a.")):
            assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["inception3b.branch1.conv.weight"], after["inception3b.branch1.conv.weight"])
    assert not torch.equal(before["inception3b.branch1.bn.running_mean"], after["inception3b.branch1.bn.running_mean"])


def test_biases_and_norms_do_not_decay(make_trainer: MakeTrainer) -> None:
    kernels, others = make_trainer().optimizer.param_groups
    assert kernels["weight_decay"] > 0 == others["weight_decay"]
    assert all(p.dim() > 1 for p in kernels["params"])
    assert all(p.dim() == 1 for p in others["params"])


@pytest.mark.parametrize("options", [{}, {"mixup": 0.4, "augmentation": "light"}], ids=["plain", "mixup"])
def test_a_step_in_parts_is_the_step_as_a_whole(make_trainer: MakeTrainer, options: dict[str, object]) -> None:
    """Without BatchNorm, whose statistics are those of each part. Dropout is on, and drops the same."""
    whole, parts = (trained(make_trainer(architecture="bvlc", accumulate=n, **options)) for n in (1, 2))
    torch.testing.assert_close(weights(whole), weights(parts), rtol=1e-4, atol=1e-6)
    assert not torch.equal(weights(whole), weights(make_trainer(architecture="bvlc", **options)))


def test_memory_order_does_not_change_the_result(make_trainer: MakeTrainer) -> None:
    first, second = (
        trained(make_trainer(channels_last=order, architecture="bvlc", epochs=1)) for order in (True, False)
    )
    assert first.model.conv3.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert second.model.conv3.conv.weight.is_contiguous()
    torch.testing.assert_close(weights(first), weights(second), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
@pytest.mark.parametrize("architecture", ["bvlc", "torchvision"])
def test_mixed_precision_computes_in_it_and_keeps_float_weights(
    make_trainer: MakeTrainer, precision: str, dtype: torch.dtype, architecture: str
) -> None:
    one_step = {"architecture": architecture, "epochs": 1, "batch_size": 12, "schedule": "step"}
    exact, trainer = make_trainer(**one_step), make_trainer(precision=precision, **one_step)
    trainer.precision.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, enabled=precision == "fp16")
    seen = set()
    trainer.model.conv2.conv.register_forward_hook(
        lambda module, inputs, output: seen.add((module.training, output.dtype))
    )
    before = weights(trainer)
    (wanted,), (got,) = exact.epochs(), trainer.epochs()
    assert seen == {(True, dtype)}  # validation, by another copy, is in float32
    assert got.loss != wanted.loss
    assert got.loss == pytest.approx(wanted.loss, rel=0.1)
    assert got.left_out == 0
    assert not torch.equal(weights(trainer), before)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())


def test_a_step_that_overflows_is_left_out_and_counted(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(precision="fp16", epochs=1, batch_size=12)
    trainer.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = weights(trainer)
    (result,) = trainer.epochs()
    assert result.left_out == 1
    assert torch.equal(weights(trainer), before)


def test_clipping_bounds_a_step(make_trainer: MakeTrainer) -> None:
    options = {"momentum": 0.0, "weight_decay": 0.0, "schedule": "step", "warmup_epochs": 0, "learning_rate": 1.0}
    trainer = make_trainer(epochs=1, clip=1e-3, **options)
    before = weights(trainer)
    trained(trainer)
    assert 0 < float((weights(trainer) - before).norm()) <= trainer.steps * 1e-3 * 1.01


def test_a_compiled_network_learns_the_same(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the backend that compiles nothing, so that no C++ compiler is needed."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net: compile_(net, backend="eager"))
    plain, compiled = (trained(make_trainer(compile=on, epochs=1)) for on in (False, True))
    torch.testing.assert_close(weights(plain), weights(compiled), rtol=1e-4, atol=1e-6)


def test_failures_of_pytorch_become_words() -> None:
    from torch._dynamo.exc import BackendCompilerFailed, Unsupported

    with pytest.raises(DeviceError, match="memory is too small") as caught, failures_in_words():
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert "--accumulate" in str(caught.value.remedy)
    assert issubclass(BackendCompilerFailed, RuntimeError)
    with pytest.raises(DeviceError, match=r"torch.compile fails: inductor raised: no C compiler$"), failures_in_words():
        raise Unsupported("inductor raised:\n\n  no C compiler\nand a long trace")
    with pytest.raises(RuntimeError, match="else"), failures_in_words():
        raise RuntimeError("something else")


def test_a_loss_that_is_no_number_stops_and_says_where(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "learning_rate", lambda options, peak, epoch: 0.05 if epoch <= 1 else math.inf)
    epochs = make_trainer(epochs=3).epochs()
    next(epochs)
    with pytest.raises(GoogLeNetDeployError, match="the loss in step 2 of epoch 2 is nan") as caught:
        next(epochs)
    assert "--lr" in str(caught.value.remedy)


def test_validation_counts_every_image_once(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    between = []
    result = trainer.evaluate(trainer.model, lambda: between.append(1))
    assert len(between) == 2
    assert result.confusion.sum(axis=1).tolist() == [2, 2]
    assert result.accuracy.total == 4
    assert result.accuracy.successes == int(np.trace(result.confusion))
    assert [score.total for score in result.class_accuracy()] == [2, 2]
    assert math.isfinite(result.loss)
