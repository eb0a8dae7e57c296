"""``tuned.json``: the choice and measurements of `tune`, written atomically and validated when read.

The file is a JSON object: ``format`` and ``version``, then the fields of `Tuned` (docs/tuned-schema.md).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from googlenet_deploy.device.benchmark.options import MAX_BATCH, MAX_STREAMS
from googlenet_deploy.device.files import PathLike, reason, write_json
from googlenet_deploy.device.json_decode import decode, encode
from googlenet_deploy.device.runner.select import REGISTRY
from googlenet_deploy.device.tune.options import OBJECTIVES, TuneBudget
from googlenet_deploy.errors import InputError

FORMAT = "googlenet-deploy tuned"
VERSION = 1
LARGEST_BYTES = 2**24
MAX_THREADS = 4096
_REMEDY = "write one with: googlenet-deploy tune MODEL ... --output tuned.json"


@dataclass(frozen=True)
class TunableModel:
    """A model that was tried.

    Attributes:
        path: Relative to the folder that was searched, or the file's name.
        sha256: Of the model with its data files.
        bytes: Size of the same.
        precision: "fp32", "fp16", "int8", ...: the smallest type that it computes in.
        int8_share: Share of the multiply-adds in INT8, 0..1; None if unknown.
        source_sha256: Hash of the weights that it was made from; "" if unknown.
        context_bytes: Device memory of one execution context of an engine; None if unknown.
    """

    path: str
    sha256: str
    bytes: int
    precision: str
    int8_share: Optional[float] = None
    source_sha256: str = ""
    context_bytes: Optional[int] = None


@dataclass(frozen=True)
class TuneSetting:
    """One way to run a model.

    Attributes:
        model: Its `TunableModel.path`.
        backend: As for ``--backend``.
        device: "CPU", "GPU" or "DLA".
        batch: Images per batch.
        streams: Batches in flight.
        threads: CPU threads; None for one per core.
        cuda_graph: Whether an engine runs as a CUDA graph.
        power_mode: Name of the power mode; "" if there is none.
    """

    model: str
    backend: str
    device: str
    batch: int
    streams: int = 1
    threads: Optional[int] = None
    cuda_graph: bool = False
    power_mode: str = ""

    def text(self) -> str:
        """Human-readable description."""
        parts = [self.model, self.backend, f"batch {self.batch}"]
        parts += [f"{self.streams} streams"] if self.streams > 1 else []
        parts += [f"{self.threads} thread{'s' if self.threads > 1 else ''}"] if self.threads is not None else []
        parts += ["CUDA graph"] if self.cuda_graph else []
        parts += [f"power mode {self.power_mode}"] if self.power_mode else []
        return ", ".join(parts)


@dataclass(frozen=True)
class TunedFigure:
    """A measured figure with its 95 % interval over the rounds; None without one."""

    value: float
    low: Optional[float] = None
    high: Optional[float] = None


@dataclass(frozen=True)
class TunedResult:
    """What was measured of one setting, in the last stage that it reached.

    Attributes:
        setting: The setting.
        stage: The stage, from 1.
        rounds: Rounds of that stage.
        latency_ms: Median milliseconds of a batch, from its start to its answers.
        latency_p95_ms: 95th percentile of the same.
        images_per_second: Throughput, back to back.
        millijoules_per_image: Energy per image; None if it was not measured.
        agreement: Percent of the images with FP32's class; None if it was not measured.
        verdict: Why it was chosen or dropped.
    """

    setting: TuneSetting
    stage: int
    rounds: int
    latency_ms: TunedFigure
    latency_p95_ms: TunedFigure
    images_per_second: TunedFigure
    millijoules_per_image: Optional[TunedFigure] = None
    agreement: Optional[float] = None
    verdict: str = ""


@dataclass(frozen=True)
class LeftOut:
    """What was not measured, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class Tuned:
    """The complete result of `tune`.

    Attributes:
        tool: Name and version of the program that wrote it.
        created: Time of creation, as ISO 8601 in UTC.
        machine: Properties of the machine, by name.
        objective: One of `OBJECTIVES`.
        budget: The limits.
        models: The models that were tried.
        results: The measurements, the best first.
        chosen: Number of the chosen result; None if no result meets the budget.
        nearest: In that case, the number of the nearest result.
        ties: Numbers of results that cannot be distinguished from the chosen one.
        reason: Why it was chosen, in a sentence.
        meter: The meter that measured the energy; "" if there was none.
        no_energy: Why the energy was not measured.
        images: Number of images classified for the agreement; 0 for none.
        left_out: What was not measured, and why.
        notes: Notes for the user: throttling, other load, a meter's notes.
    """

    tool: str
    created: str
    machine: Mapping[str, str]
    objective: str
    budget: TuneBudget
    models: Tuple[TunableModel, ...]
    results: Tuple[TunedResult, ...]
    chosen: Optional[int]
    nearest: Optional[int] = None
    ties: Tuple[int, ...] = ()
    reason: str = ""
    meter: str = ""
    no_energy: str = ""
    images: int = 0
    left_out: Tuple[LeftOut, ...] = ()
    notes: Tuple[str, ...] = field(default_factory=tuple)

    def model(self, result: TunedResult) -> TunableModel:
        """The model of a result."""
        return next(model for model in self.models if model.path == result.setting.model)

    @property
    def choice(self) -> Optional[TunedResult]:
        """The chosen result; None if no result meets the budget."""
        return None if self.chosen is None else self.results[self.chosen]


def save_tuned(path: PathLike, tuned: Tuned) -> None:
    """Writes ``tuned.json`` atomically.

    Raises:
        OutputError: It cannot be written.
    """
    write_json(path, {"format": FORMAT, "version": VERSION, **encode(tuned)})


def is_tuned_file(path: PathLike) -> bool:
    """Whether a file is marked as a ``tuned.json``; also False if it cannot be read."""
    try:
        return _is_tuned(_read(path))
    except InputError:
        return False


def load_tuned(path: PathLike) -> Tuned:
    """Reads ``tuned.json``.

    Raises:
        InputError: The file is missing, damaged, of another kind, or of a later version.
    """
    values = _read(path)
    if not _is_tuned(values):
        raise InputError(path, "is not a result of tune", _REMEDY)
    version = values.pop("version", None)
    values.pop("format")
    if version != VERSION or isinstance(version, bool):
        raise InputError(path, f"has version {version!s:.20}; this googlenet-deploy reads version {VERSION}", _REMEDY)
    try:
        tuned = decode(Tuned, values, "tuned")
        _check(tuned)
    except (ValueError, RecursionError, OverflowError) as error:
        raise InputError(path, f"is damaged: {error}", _REMEDY) from error
    return tuned


def _is_tuned(values: object) -> bool:
    return isinstance(values, dict) and values.get("format") == FORMAT


def _read(path: PathLike) -> Dict[str, Any]:
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    if len(content) > LARGEST_BYTES:
        raise InputError(path, f"is larger than {LARGEST_BYTES >> 20} MiB, so it is not a result of tune", _REMEDY)
    try:
        values: Dict[str, Any] = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not a JSON file: {error}", _REMEDY) from error
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _check(tuned: Tuned) -> None:
    """Checks what the types do not express.

    Raises:
        ValueError: A value is out of its range; the message names it.
    """
    for where, number in _numbers(tuned, "tuned"):
        _require(math.isfinite(number) and number >= 0, where, "a number from 0 on")
    _require(tuned.objective in OBJECTIVES, "tuned.objective", f"one of {', '.join(OBJECTIVES)}")
    paths = [model.path for model in tuned.models]
    _require(len(set(paths)) == len(paths), "tuned.models", "a list of different models")
    for model in tuned.models:
        _require(re.fullmatch("[0-9a-f]{64}", model.sha256) is not None, f"sha256 of {model.path!r:.60}", "a SHA-256")
    for index, result in enumerate(tuned.results):
        _check_setting(result.setting, f"tuned.results[{index}].setting", paths)
    indices = (tuned.chosen, tuned.nearest, *tuned.ties)
    _require(all(each is None or each < len(tuned.results) for each in indices), "tuned.chosen", "one of the results")
    _require(tuned.chosen is not None or not tuned.ties, "tuned.ties", "empty without a choice")
    _require(tuned.chosen is None or tuned.nearest is None, "tuned.nearest", "null beside a choice")


def _check_setting(setting: TuneSetting, where: str, paths: Any) -> None:  # noqa: ANN401 - a list
    _require(setting.model in paths, f"{where}.model", "one of the models")
    _require(setting.backend in REGISTRY, f"{where}.backend", f"one of {', '.join(REGISTRY)}")
    _require(1 <= setting.batch <= MAX_BATCH, f"{where}.batch", f"from 1 to {MAX_BATCH}")
    _require(1 <= setting.streams <= MAX_STREAMS, f"{where}.streams", f"from 1 to {MAX_STREAMS}")
    _require(setting.threads is None or 1 <= setting.threads <= MAX_THREADS, f"{where}.threads", "a number of threads")


def _numbers(value: object, where: str) -> Iterator[Tuple[str, float]]:
    """Every number in a result, with its place."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield where, value
    elif is_dataclass(value):
        for item in fields(value):
            yield from _numbers(getattr(value, item.name), f"{where}.{item.name}")
    elif isinstance(value, tuple):
        for index, entry in enumerate(value):
            yield from _numbers(entry, f"{where}[{index}]")


def _require(holds: bool, where: str, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{where} is not {wanted}")
