"""The configuration of a deployment."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from googlenet_deploy.calibration.methods import AUTO, METHODS
from googlenet_deploy.device.builder.options import MODEL_PRECISIONS, parse_batch
from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.options import check_options, option
from googlenet_deploy.device.targets.target import Target, load_target
from googlenet_deploy.errors import InputError, UsageError, requires
from googlenet_deploy.evaluation.gates import FIGURES
from googlenet_deploy.quantization.refine.registry import EQUALIZE, parse_refinements

# By name: the unit, and whether the metric must be at least or at most the limit.
GATES = {**{name: (unit, "at least") for name, unit in FIGURES.items()}, "loss": ("points", "at most")}
BUDGETS = ("top1", "agreement", "sqnr")
# A sound INT8 GoogLeNet agrees with FP32 on 98 of 100 images; below 95 something is wrong.
DEFAULT_GATES = {"agreement": 95.0}
REQUIRED = ("weights", "images", "target", "output")
DETAILS = "details"  # a heading of --help


@dataclass(frozen=True)
class DeployConfig:
    """All options of a deployment; the names are those of the TOML file and the command line."""

    weights: str = option("", "a checkpoint, or bvlc or torchvision for the published weights", metavar="W")
    weights_key: str = option("", "which weights of a checkpoint that contains several", metavar="KEY")
    module: str = option(
        "", "any PyTorch classifier: FILE.py:CALLABLE or package.module:CALLABLE, as for `export`", metavar="PLACE"
    )
    module_args: str = option("", "what it is called with, such as num_classes=10", metavar="A,NAME=B")
    preprocessing: str = option(
        "",
        "of --module, where the model does not state it: imagenet, torchvision, plain or a JSON file",
        metavar="NAME|FILE",
    )
    class_names: str = option("", "of --module: a name per line, or imagenet", metavar="FILE")
    images: str = option("", "photographs: some calibrate, the others evaluate, no image does both", metavar="DIR")
    target: str = option("", "a module such as orin-nano, a JetPack, a TensorRT, or tensorrt-rtx", metavar="T")
    output: str = option("", "the folder for everything that is made", metavar="DIR")
    labels: str = option("", "CSV of filename,label (default: a folder per class, or none)", metavar="FILE")
    precision: str = option("int8", "what is deployed", choices=MODEL_PRECISIONS)
    calibration_images: int = option(
        256, "images that calibrate, at most two thirds of all", group=DETAILS, metavar="N", least=1
    )
    evaluation_images: int = option(
        0, "images that are evaluated, at most; 0: all others", group=DETAILS, metavar="N", least=0
    )
    seed: int = option(0, "of the draw between them", group=DETAILS, metavar="N", least=0)
    method: str = option("auto", "how thresholds are chosen, see `calibrate`", group=DETAILS, choices=(AUTO, *METHODS))
    refine: str = option(
        "fast",
        "refinements of INT8, see `quantize`; without equalize, which changes FP32",
        group=DETAILS,
        metavar="LIST",
    )
    batch: tuple[int, ...] = option(
        (1, 4, 16), "batches of the engine", group=DETAILS, metavar="N|MIN,OPT,MAX", parse=parse_batch
    )
    benchmark: bool = option(True, "do not measure this machine's own latency", group=DETAILS)
    sensitivity: bool = option(True, "do not measure what INT8 costs in each layer", group=DETAILS)
    budget: Mapping[str, float] = option(
        dict,
        "keep the fewest layers in floating point that hold top1 (points lost), agreement (percent) or sqnr (dB), "
        "measured on a third set of images; may be repeated",
        group=DETAILS,
        metavar="NAME=VALUE",
    )
    keep_doubtful: bool = option(False, "write INT8 even where the check finds it ruined", group=DETAILS)
    golden_images: int = option(6, "images in the bundle's self-test", group=DETAILS, metavar="N", least=1)
    compute_capabilities: tuple[str, ...] = option(
        ("8.6", "8.9"), "GPUs for which TensorRT-RTX builds ahead of time", group=DETAILS, metavar="LIST"
    )
    threads: int = option(0, "CPU threads; 0: one per core", group=DETAILS, metavar="N", least=0)
    device_results: str = option(
        "", "what `benchmark --json` or `tune` wrote on the device, for the report", group=DETAILS, metavar="FILE"
    )
    gates: Mapping[str, float] = option(
        lambda: dict(DEFAULT_GATES),
        "top1, top5, agreement (percent, at least), sqnr (dB, at least), loss (points of top-1 against FP32, at most); "
        "may be repeated",
        group="gates",
        flag="--require",
        metavar="NAME=VALUE",
        shown_default="agreement=95",
    )

    def __post_init__(self) -> None:
        if not self.module and (self.module_args or self.preprocessing or self.class_names):
            raise UsageError("module_args, preprocessing and class_names belong to module")
        for name in REQUIRED:
            if not getattr(self, name) and not (name == "weights" and self.module):
                raise UsageError(f"deploy needs {name}", f"pass --{name}, or {name} in the configuration")
        check_options(self)
        if len(self.batch) != 3 or not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise UsageError("batch is smallest, usual, largest: such as 1,4,16")
        if EQUALIZE in parse_refinements(self.refine):
            raise UsageError("deploy cannot equalize: the FP32 model that it compares with stays as it is")
        _check_limits("budget", self.budget, BUDGETS)
        _check_limits("gate", self.gates, GATES)

    @property
    def batches(self) -> tuple[int, int, int]:
        """The engine's batches."""
        return self.batch[0], self.batch[1], self.batch[2]

    def resolved(self) -> tuple[DeployConfig, Target, tuple[str, ...]]:
        """The configuration adapted to the target, the target, and notes on the changes.

        Raises:
            UsageError: The target does not exist.
        """
        target = load_target(self.target)
        if self.precision == "int8" and target.has_int8 is False:
            note = f"{target.title} has no INT8 instructions: FP16 is deployed instead"
            return replace(self, precision="fp16"), target, (note,)
        return self, target, ()

    def to_dict(self) -> dict[str, Any]:
        """The values by name, in TOML's types."""
        values: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
            for name, value in values.items()
        }


def _check_limits(kind: str, limits: Mapping[str, float], known: Collection[str]) -> None:
    for name, limit in limits.items():
        if name not in known:
            raise UsageError(f"unknown {kind} {name!r}: choose among {', '.join(known)}")
        if not math.isfinite(limit) or (kind == "budget" and limit < 0):
            raise UsageError(f"the {kind} {name} cannot be {limit:g}")


if sys.version_info >= (3, 11):
    from tomllib import loads as parse
else:
    with requires("export"):
        from tomli import loads as parse

_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "bool": (bool,), "tuple[int, ...]": (list,), "tuple[str, ...]": (list,),
    "Mapping[str, float]": (dict,),
}  # fmt: skip
_TABLES = ("budget", "gates")
_PLACES = (
    "weights",
    "preprocessing",
    "class_names",
    "images",
    "labels",
    "output",
    "device_results",
)  # relative to the configuration file


def read_config(path: PathLike) -> dict[str, Any]:
    """Reads a configuration file; paths in it are relative to the file's own folder.

    Raises:
        InputError: It cannot be read, is not TOML, or has an unknown or invalid entry.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(path, "is not a text file") from error
    try:
        values: dict[str, Any] = parse(text)
    except ValueError as error:
        raise InputError(path, f"is not TOML: {error}") from error
    _check(path, values)
    _check_ranges(path, values)
    for name in _PLACES:
        place = values.get(name, "")
        if (place and (file.parent / place).exists()) or (place and name == "output" and not Path(place).is_absolute()):
            values[name] = str(file.parent / place)
    return values


def make_config(values: Mapping[str, Any]) -> DeployConfig:
    """A configuration from values by name; the caller merges gates given twice.

    Raises:
        UsageError: Something is missing or out of range.
    """
    known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return DeployConfig(**known)


def config_text(config: DeployConfig) -> str:
    """The configuration as TOML with all values explicit, which `read_config` reads back."""
    values = config.to_dict()
    tables = {name: values.pop(name) for name in _TABLES}
    lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
    for name, limits in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(float(limit))}" for key, limit in limits.items())]
    return "\n".join(lines) + "\n"


def _check(path: PathLike, values: Mapping[str, Any]) -> None:
    kinds = {item.name: _KINDS[str(item.type)] for item in fields(DeployConfig)}
    for name, value in values.items():
        if name not in kinds:
            raise InputError(path, f"has an unknown entry {name!r}", f"known are {', '.join(kinds)}")
        fits = isinstance(value, kinds[name]) and (bool in kinds[name] or not isinstance(value, bool))
        if not fits:
            raise InputError(path, f"{name} is not of the right kind: {value!r}")
    limits = {f"{table}.{name}": limit for table in _TABLES for name, limit in values.get(table, {}).items()}
    for name, limit in limits.items():
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise InputError(path, f"{name} is not a number: {limit!r}")
    for name, wanted in (("batch", int), ("compute_capabilities", str)):
        if not all(isinstance(item, wanted) and not isinstance(item, bool) for item in values.get(name, [])):
            raise InputError(path, f"{name} is not a list of {wanted.__name__}: {values[name]!r}")


def _check_ranges(path: PathLike, values: Mapping[str, Any]) -> None:
    """Rejects values that are invalid by themselves, whatever the command line adds; errors refer to the file."""
    given = dict.fromkeys(REQUIRED, "given elsewhere")
    for name, value in values.items():
        try:
            make_config({**given, name: value})
        except UsageError as error:
            message = error.message.replace(f"--{name.replace('_', '-')}", name)
            raise InputError(path, message if name in message else f"{name}: {message}", error.remedy) from error


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        if "\\u" in text or "\\b" in text or "\\f" in text:
            raise UsageError(f"{value!r} has control characters, which a configuration file cannot hold")
        return text
    return repr(value)
