"""Runs a model with the settings that `tune` chose."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple

from googlenet_deploy.device.files import PathLike, sha256_file
from googlenet_deploy.device.onnx_model.header import model_sha256
from googlenet_deploy.device.runner.select import runs_engine
from googlenet_deploy.device.system.jetson import power_mode
from googlenet_deploy.device.system.machine import describe_machine
from googlenet_deploy.device.text import printable
from googlenet_deploy.device.tune.tuned_file import Tuned, TuneSetting, load_tuned
from googlenet_deploy.errors import InputError

# The properties that identify a machine; other differences, such as the kernel, do not determine speed.
_IDENTITY = ("model", "processor", "gpu")


class TunedChoice(NamedTuple):
    """The model to run, and its setting.

    Attributes:
        file: The model.
        setting: How to run it.
        engine: Whether the model is an engine.
        notes: Differences from the machine that was tuned.
    """

    file: Path
    setting: TuneSetting
    engine: bool
    notes: List[str]


def tuned_choice(path: PathLike, model: PathLike, root: Path = Path("/")) -> TunedChoice:
    """Reads the choice in a ``tuned.json`` for a model.

    Args:
        path: The ``tuned.json``.
        model: The model, which must be the chosen one; or the folder that was passed to `tune`.
        root: Root of the file system.

    Raises:
        InputError: The file cannot be used, has no choice, or is for a different model.
    """
    tuned = load_tuned(path)
    choice = tuned.choice
    if choice is None:
        raise InputError(path, "contains no choice: nothing met the limits", "relax them and run tune again")
    chosen = tuned.model(choice)
    file = Path(model)
    if file.is_dir():
        file = _inside(file, chosen.path, path)
    engine = runs_engine(file, "auto")
    if not file.exists():
        raise InputError(file, "no such file", f"{path} chose {printable(chosen.path)}")
    if (sha256_file(file) if engine else model_sha256(file)) != chosen.sha256:
        raise InputError(
            path, f"chose {printable(chosen.path)}, which {file} is not", "pass that model, or run tune again"
        )
    return TunedChoice(file, choice.setting, engine, _differences(path, tuned, choice.setting, root))


def _inside(folder: Path, name: str, tuned: PathLike) -> Path:
    file = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(tuned, f"is damaged: {printable(name)} is not inside the folder")
    return file


def _differences(path: PathLike, tuned: Tuned, setting: TuneSetting, root: Path) -> List[str]:
    """The differences since the model was tuned; empty if there are none."""
    here = vars(describe_machine(root))
    notes = []
    for name in _IDENTITY:
        there = tuned.machine.get(name, "")
        # Only NVML reports the name of a discrete GPU, and it is not used here.
        if there and here[name] and there != here[name]:
            notes.append(
                f"{path} is of another machine ({name} {printable(there)}, here {here[name]}): tune again here"
            )
    mode, present = setting.power_mode or tuned.machine.get("power_mode", ""), power_mode(root)
    if mode and present and mode != present:
        notes.append(f"{path} is for power mode {printable(mode)}, the present one is {present}: see nvpmodel -m")
    return notes
