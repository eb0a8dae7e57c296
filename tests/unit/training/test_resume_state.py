"""The training state: exact, checked, and never unpickled."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from googlenet_deploy.device.signals import Stopped
from googlenet_deploy.errors import BadWeightsError, GoogLeNetDeployError, OutputError
from googlenet_deploy.training.loop import EpochResult, RunControl, Trainer
from googlenet_deploy.training.resume_state import (
    FORMAT,
    TrainingState,
    capture_state,
    check_same_run,
    load_state,
    restore_state,
    save_state,
)

MakeTrainer = Callable[..., Trainer]
RECORD: dict[str, Any] = {
    "options": {"architecture": "bvlc", "learning_rate": 0.1, "epochs": 3, "device": "cpu"},
    "weights_sha256": "",
    "data": {"sha256": "00"},
}
EXTRA: dict[str, Any] = {"record": RECORD, "classes": ["a", "b"], "log": 0}


def run_until(trainer: Trainer, epoch: int, step: int) -> EpochResult | None:
    """Trains up to a step and stops there; the last epoch that ended."""
    ended: list[EpochResult] = []

    class StopThere(RunControl):
        def after_step(self, *, stop: bool) -> None:
            if (trainer.epoch, trainer.step) == (epoch, step):
                raise Stopped

    with contextlib.suppress(Stopped):
        ended.extend(trainer.epochs(StopThere()))
    return ended[-1] if ended else None


def numbers(trainer: Trainer) -> list[torch.Tensor]:
    return [*trainer.model.state_dict().values(), *trainer.average.state_dict().values()]


@pytest.mark.parametrize(("epoch", "step"), [(1, 2), (2, 1), (2, 3)], ids=["early", "later", "end of an epoch"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_interrupted_run_ends_bit_by_bit_as_an_uninterrupted_one(
    make_trainer: MakeTrainer, tmp_path: Path, epoch: int, step: int, precision: str
) -> None:
    options = {"epochs": 3, "augmentation": "light", "mixup": 0.2, "precision": precision}
    whole = make_trainer(**options)
    wanted = list(whole.epochs())

    first = make_trainer(**options)
    best = run_until(first, epoch, step)
    save_state(tmp_path / "s.safetensors", capture_state(first, best, **EXTRA))

    second = make_trainer(**options)
    restored = restore_state(tmp_path / "s.safetensors", load_state(tmp_path / "s.safetensors"), second)
    assert (restored is None) == (best is None)
    if best is not None and restored is not None:
        assert restored.validation.confusion.tolist() == best.validation.confusion.tolist()
        assert restored.loss == best.loss
    got = list(second.epochs())
    assert [(r.epoch, r.loss, r.accuracy, r.validation.loss) for r in got] == [
        (r.epoch, r.loss, r.accuracy, r.validation.loss) for r in wanted[epoch - 1 :]
    ]
    assert all(torch.equal(a, b) for a, b in zip(numbers(whole), numbers(second), strict=True))


def test_a_state_of_weights_that_are_no_numbers_is_not_made(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    run_until(trainer, 1, 2)
    with torch.no_grad():
        trainer.model.fc.bias[0] = torch.nan
    with pytest.raises(GoogLeNetDeployError, match=r"model.fc.bias after step 2 of epoch 1 is nan"):
        capture_state(trainer, None, **EXTRA)


@pytest.fixture
def stored(make_trainer: MakeTrainer, tmp_path: Path) -> Path:
    trainer = make_trainer()
    run_until(trainer, 1, 1)
    path = tmp_path / "s.safetensors"
    save_state(path, capture_state(trainer, None, **EXTRA))
    return path


BEST = {
    "epoch": 1, "loss": 1.0, "accuracy": 2.0, "learning_rate": 0.1, "images_per_second": 3.0, "seconds": 4.0,
    "validation_loss": 1.0, "agreement": None,
}  # fmt: skip


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "null", "[]", "1", "", "{", '{"version": 1}'])
def test_other_json_is_no_state(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.state.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"format": FORMAT, "state": text})
    with pytest.raises(BadWeightsError, match=r"m\.state\.safetensors: is a damaged training state"):
        load_state(path)


def changed(path: Path, **values: Any) -> Path:
    """The file with other values in its JSON."""
    state = load_state(path)
    save_state(path, TrainingState(state.tensors, {**state.values, **values}))
    return path


def test_a_state_of_another_architecture_does_not_fit(stored: Path, make_trainer: MakeTrainer) -> None:
    with pytest.raises(BadWeightsError, match=r"does not fit this network: model.conv1.conv.bias is missing"):
        restore_state(stored, load_state(stored), make_trainer(architecture="bvlc"))


@pytest.mark.parametrize(
    ("record", "classes", "message"),
    [
        ({}, ("a", "b", "c"), "is of a run with 2 classes, the data has 3"),
        ({}, ("a", "z"), "other classes than the data has"),
        ({"options": {"architecture": "torchvision"}}, ("a", "b"), "of a bvlc GoogLeNet, this one trains torchvision"),
        ({"options": {"architecture": "bvlc", "epochs": 9}}, ("a", "b"), "is of a run with epochs 3, this has 9"),
        ({"weights_sha256": "11"}, ("a", "b"), "other initial weights"),
        ({"data": {"sha256": "11"}}, ("a", "b"), "other images"),
    ],
)
def test_a_state_of_another_run_is_refused(
    stored: Path, record: dict[str, Any], classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(BadWeightsError, match=message) as caught:
        check_same_run(stored, load_state(stored), {**RECORD, **record}, classes)
    assert str(stored) in caught.value.message


def test_what_cannot_change_the_result_may_differ_and_the_learning_rate_is_told(stored: Path) -> None:
    options = {**RECORD["options"], "device": "cuda", "learning_rate": 0.01}
    notes = check_same_run(stored, load_state(stored), {**RECORD, "options": options}, ("a", "b"))
    assert notes == ["learning_rate was 0.1, is now 0.01: the run continues differently"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": 99}, "version 99"),
        ({"meter": [1.0]}, "is a damaged training state"),
        ({"epoch": "soon"}, "is a damaged training state"),
        ({"best": {"epoch": 1}}, "is a damaged training state"),
        ({"best": {**BEST, "loss": "low"}}, r"state\.best\.loss is not float"),
        ({"best": {**BEST, "colour": 1}}, "unknown entry 'colour'"),
        ({"version": float("inf")}, "is a damaged training state"),
        ({"version": "1"}, r"state\.version is not int"),
        ({"epoch": -1}, r"state\.epoch is below 0"),
        ({"log": -5}, r"state\.log is below 0"),
        ({"log": []}, r"state\.log is not int"),
        ({"classes": 1}, r"state\.classes is not a list"),
        ({"classes": ["a", 2]}, r"state\.classes\[1\] is not str"),
        ({"record": {}}, "names no architecture"),
        ({"record": {"options": []}}, "names no architecture"),
        ({"record": "none"}, r"state\.record is not an object"),
        ({"scaler": {"scale": "big"}}, r"state\.scaler\.scale is not float"),
        ({"meter": {"loss": 1}}, r"state\.meter is not a list"),
    ],
)
def test_damaged_values_are_refused(
    stored: Path, make_trainer: MakeTrainer, values: dict[str, Any], message: str
) -> None:
    changed(stored, **values)
    with pytest.raises(BadWeightsError, match=message):
        restore_state(stored, load_state(stored), make_trainer())


def test_other_files_are_no_states(tmp_path: Path, stored: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors", {"format": "pt"})
    with pytest.raises(BadWeightsError, match="is not a training state"):
        load_state(tmp_path / "w.safetensors")
    (tmp_path / "t.safetensors").write_bytes(stored.read_bytes()[:500])
    with pytest.raises(BadWeightsError, match="damaged"):
        load_state(tmp_path / "t.safetensors")
    save_file(load_file(stored), tmp_path / "j.safetensors", {"format": FORMAT, "state": "{"})
    with pytest.raises(BadWeightsError, match="is a damaged training state"):
        load_state(tmp_path / "j.safetensors")


def test_a_full_disk_leaves_the_state_that_was_there(
    stored: Path, monkeypatch: pytest.MonkeyPatch, make_trainer: MakeTrainer
) -> None:
    from safetensors import SafetensorError

    from googlenet_deploy.training import resume_state as module

    before = stored.read_bytes()

    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(OutputError, match=r"(?i)no space left"):
        save_state(stored, capture_state(make_trainer(), None, **EXTRA))
    assert stored.read_bytes() == before
    assert list(stored.parent.glob(".*")) == []


def test_the_state_is_plain_tensors_and_json(stored: Path) -> None:
    state = load_state(stored)
    assert json.loads(json.dumps(state.values)) == state.values
    assert {name.partition(".")[0] for name in state.tensors} == {"model", "average", "optimizer"}
