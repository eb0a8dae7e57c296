"""The training state: all that a run needs to resume as if it had never stopped.

It is a safetensors file: the weights, their average, the optimiser's momenta and the confusion matrix of the best
epoch as tensors, everything else as JSON in the metadata; so nothing is ever unpickled. Random numbers need no state:
they depend only on seed, epoch and step.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from googlenet_deploy import __version__
from googlenet_deploy.device.files import atomic_path, exclusive
from googlenet_deploy.device.json_decode import decode
from googlenet_deploy.errors import BadWeightsError, requires
from googlenet_deploy.training.meter import require_finite
from googlenet_deploy.training.options import EXECUTION

with requires("train"):
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file
    from torch import Tensor

    from googlenet_deploy.model.checkpoint_forms import read_safetensors
    from googlenet_deploy.training.loop import EpochResult
    from googlenet_deploy.training.validation import Validation, agreement_numbers, agreement_of

if TYPE_CHECKING:
    from googlenet_deploy.training.loop import Trainer
    from googlenet_deploy.training.network import TrainedNetwork


FORMAT = "googlenet_deploy training state"
VERSION = 1
# What may change when a run is resumed; it then differs from an uninterrupted one, which is reported.
CHANGEABLE = ("learning_rate", "clip")
# Options that name files.
FILES = ("weights", "distill_from")
BEST_CONFUSION = "best.confusion"


@dataclass(frozen=True)
class TrainingState:
    """A training state as stored.

    Attributes:
        tensors: By name.
        values: Everything else, JSON-serialisable: "epoch", "step", "meter", "scaler", "record", "classes", "best",
            "log", "history".
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


def capture_state(trainer: Trainer, best: EpochResult | None, **values: Any) -> TrainingState:  # noqa: ANN401
    """The state after the last completed step.

    Args:
        trainer: The trainer.
        best: The best epoch so far.
        values: Further JSON-serialisable values to store.

    Raises:
        GoogLeNetDeployError: A loss or a weight is not finite, so the state is unusable.
    """
    meter = trainer.meter
    meter.flush()
    tensors = _tensors(trainer)
    where = f"step {trainer.step} of epoch {trainer.epoch}"
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            require_finite(float("nan"), f"{name} after {where}")
    if best is not None:
        tensors = {**tensors, BEST_CONFUSION: torch.from_numpy(best.validation.confusion)}
    head = {
        "version": VERSION,
        "epoch": trainer.epoch,
        "step": trainer.step,
        "meter": [meter.loss, meter.correct, meter.images],
        "scaler": trainer.precision.state(),
        "best": None if best is None else _best_values(best),
    }
    return TrainingState(tensors, {**head, **values})


def save_state(path: str | Path, state: TrainingState) -> None:
    """Writes a state, atomically.

    Raises:
        OutputError: The file cannot be written; the previous state is kept.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    metadata = {"format": FORMAT, "state": json.dumps(state.values, ensure_ascii=False)}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            # safetensors reports a full disk as its own error; the atomic file turns OSError into a clear error.
            raise OSError(str(error)) from error


def load_state(path: str | Path) -> TrainingState:
    """Reads what `save_state` wrote.

    Raises:
        BadWeightsError: The file is damaged or is not a training state.
    """
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise BadWeightsError(path, "is not a training state", "pass the --output of the run to resume")
    try:
        values = json.loads(metadata.get("state", "null"))
        version = values.get("version") if isinstance(values, dict) else None
        if isinstance(version, int) and version != VERSION:
            raise BadWeightsError(path, f"is a training state of version {version}, this tool reads {VERSION}")
        decode(_Values, values, "state")
    except RecursionError as error:
        raise BadWeightsError(path, "is a damaged training state: its values are nested too deeply") from error
    except ValueError as error:
        raise BadWeightsError(path, f"is a damaged training state: {error}") from error
    return TrainingState(tensors, values)


@dataclass(frozen=True)
class _Best:
    """The best epoch, as `_best_values` writes it."""

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    images_per_second: float
    seconds: float
    validation_loss: float
    agreement: tuple[float, ...] | None


@dataclass(frozen=True)
class _Epoch:
    """An epoch, as `log.epoch_values` writes it."""

    epoch: int
    train_loss: float
    train_accuracy_percent: float
    learning_rate: float
    validation_loss: float
    validation_accuracy_percent: float
    images_per_second: float
    seconds: float
    steps_left_out: int
    best: bool
    agreement: float | None = None
    logit_sqnr_db: float | None = None


@dataclass(frozen=True)
class _Values:
    """The JSON values of a state, by name; see `TrainingState`."""

    version: int
    epoch: int
    step: int
    meter: tuple[float, float, float]
    scaler: Mapping[str, float]
    best: _Best | None
    record: Mapping[str, Any]
    classes: tuple[str, ...]
    log: int
    history: tuple[_Epoch, ...] = ()  # states of earlier versions lack it

    def __post_init__(self) -> None:
        for name in ("epoch", "step", "log"):
            if getattr(self, name) < 0:
                raise ValueError(f"state.{name} is below 0")
        options = self.record.get("options")
        if not isinstance(options, dict) or not isinstance(options.get("architecture"), str):
            raise ValueError("state.record.options names no architecture")  # noqa: TRY004 - bad data


def check_same_run(
    path: str | Path, state: TrainingState, record: Mapping[str, Any], classes: tuple[str, ...]
) -> list[str]:
    """Checks that a state belongs to the run to be resumed.

    Args:
        path: The state's file, for messages.
        state: The state.
        record: The training record of this run.
        classes: Its classes.

    Returns:
        Human-readable notes on permitted changes.

    Raises:
        BadWeightsError: It belongs to another network, data set, or set of options; the message names the difference.
    """
    theirs, other_classes = state.values["record"], tuple(state.values["classes"])
    if other_classes != classes:
        numbers = f"{len(other_classes)} classes, the data has {len(classes)}"
        names = "other classes than the data has"
        raise BadWeightsError(path, f"is of a run with {numbers if len(other_classes) != len(classes) else names}")
    options, old = record["options"], theirs["options"]
    if options["architecture"] != old["architecture"]:
        raise BadWeightsError(
            path, f"is of a run of a {old['architecture']} GoogLeNet, this one trains {options['architecture']}"
        )
    different = {name: (old.get(name), value) for name, value in options.items() if old.get(name) != value}
    # Files are known by their hash, wherever they are.
    wrong = [name for name in different if name not in (*EXECUTION, *CHANGEABLE, *FILES)]
    if wrong:
        before, now = different[wrong[0]]
        raise BadWeightsError(path, f"is of a run with {wrong[0]} {before}, this has {now}", "pass the same options")
    for key, what in (
        ("weights_sha256", "other initial weights"),
        ("table_sha256", "another calibration table"),
        ("teacher_sha256", "another network to imitate"),
        ("data", "other images"),
    ):
        if record.get(key) != theirs.get(key):
            raise BadWeightsError(path, f"is of a run with {what}", "use what that run used, or begin a new one")
    return [
        f"{name} was {before}, is now {now}: the run continues differently"
        for name, (before, now) in different.items()
        if name in CHANGEABLE
    ]


def restore_state(path: str | Path, state: TrainingState, trainer: Trainer) -> EpochResult | None:
    """Restores a trainer to the point where the state was captured.

    Args:
        path: The state's file, for messages.
        state: The state.
        trainer: A trainer that has not started; changed in place.

    Returns:
        The best epoch so far.

    Raises:
        BadWeightsError: The state is damaged.
    """
    try:
        trainer.adapt(state.tensors)
    except (KeyError, ValueError) as error:
        raise BadWeightsError(path, f"is a damaged training state: {error}") from error
    _make_room(trainer, state.tensors)
    wanted = _tensors(trainer)
    unfit = [name for name, tensor in wanted.items() if getattr(state.tensors.get(name), "shape", None) != tensor.shape]
    if unfit:
        raise BadWeightsError(path, f"does not fit this network: {unfit[0]} is missing or of another shape")
    try:
        with torch.no_grad():
            for name, tensor in wanted.items():
                tensor.copy_(state.tensors[name])
        values = state.values
        trainer.epoch, trainer.step = int(values["epoch"]), int(values["step"])
        loss, correct, images = values["meter"]
        trainer.meter.reset(float(loss), int(correct), int(images))
        trainer.precision.restore(values["scaler"])
        return None if values["best"] is None else _best(values["best"], state.tensors[BEST_CONFUSION])
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise BadWeightsError(path, f"is a damaged training state: {error}") from error


def _tensors(trainer: Trainer) -> dict[str, Tensor]:
    """All tensors that change during the run, by name; not copies."""
    tensors = {f"model.{name}": tensor for name, tensor in trainer.model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in trainer.average.state_dict().items()}
    for index, parameter in enumerate(_optimised(trainer)):
        for key, value in trainer.optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
    return {**tensors, **trainer.own_tensors()}


def _make_room(trainer: Trainer, stored: Mapping[str, Tensor]) -> None:
    """Allocates the tensors that the optimiser creates at its first step: shaped like their parameters, or scalars."""
    parameters = dict(enumerate(_optimised(trainer)))
    for name, tensor in stored.items():
        kind, _, rest = name.partition(".")
        index, _, key = rest.partition(".")
        parameter = parameters.get(int(index)) if kind == "optimizer" and index.isdigit() else None
        if parameter is not None:
            room = torch.zeros(()) if tensor.dim() == 0 else torch.empty_like(parameter)
            trainer.optimizer.state[parameter][key] = room


def _optimised(trainer: Trainer) -> list[Tensor]:
    return [parameter for group in trainer.optimizer.param_groups for parameter in group["params"]]


def _best_values(best: EpochResult) -> dict[str, Any]:
    names = ("epoch", "loss", "accuracy", "learning_rate", "images_per_second", "seconds")
    agreement = best.validation.agreement
    return {
        **{name: getattr(best, name) for name in names},
        "validation_loss": best.validation.loss,
        "agreement": None if agreement is None else agreement_numbers(agreement),
    }


def _best(values: Mapping[str, Any], confusion: Tensor) -> EpochResult:
    known = dict(values)
    agreement = known.pop("agreement")
    near = None if agreement is None else agreement_of(agreement)
    validation = Validation(float(known.pop("validation_loss")), confusion.numpy(), near)
    return EpochResult(validation=validation, **known)


@dataclass(frozen=True)
class Outputs:
    """The output files of a run.

    Attributes:
        best: The weights of the best epoch.
        log: A text log, or None.
        tensorboard: A folder for TensorBoard, or None.
    """

    best: Path
    log: Path | None = None
    tensorboard: Path | None = None

    @property
    def last(self) -> Path:
        """The weights of the last epoch: ``model.last.safetensors`` beside ``model.safetensors``."""
        return self.best.with_suffix(f".last{self.best.suffix}")

    @property
    def state(self) -> Path:
        """The training state of an unfinished run: ``model.state.safetensors``."""
        return self.best.with_suffix(".state.safetensors")

    def lock(self) -> AbstractContextManager[None]:
        """Locks the output against a second run, whose state and weights would be mixed with this one's.

        Raises:
            OutputError: Another run holds the lock, or its file cannot be created.
        """
        lock = self.best.with_name(f".{self.best.name}.lock")
        return exclusive(lock, self.best, "another run is training it", "wait for it, or use another --output")


PACKAGES = ("torch", "kornia", "numpy", "pillow")


def training_record(network: TrainedNetwork, data: Mapping[str, Any], device: str) -> dict[str, Any]:
    """What is constant during the run: options, data, versions. No times, so that equal runs produce equal files.

    Args:
        network: The trained network.
        data: Facts about the images.
        device: The device it runs on.
    """
    return {
        "options": network.options.to_record(),
        "weights_sha256": network.weights_sha256,
        **({"table_sha256": network.table_sha256} if network.table_sha256 else {}),
        **({"teacher_sha256": network.teacher_sha256} if network.teacher_sha256 else {}),
        "data": dict(data),
        "device": device,
        "versions": {
            "googlenet_deploy": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
    }


def epoch_record(result: EpochResult) -> dict[str, Any]:
    """The checkpoint's record of the epoch whose weights it holds."""
    accuracy, agreement = result.validation.accuracy, result.validation.agreement
    values = {
        "top1_percent": accuracy.percent,
        "correct": accuracy.successes,
        "images": accuracy.total,
        "loss": result.validation.loss,
    }
    if agreement is not None:
        values |= {"agreement_percent": 100.0 * agreement.equal / agreement.images, "logit_sqnr_db": agreement.sqnr}
    return {"epoch": result.epoch, "validation": values}
