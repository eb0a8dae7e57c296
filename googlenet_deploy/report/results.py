"""The results of a deployment: plain data, written as ``results.json`` and rendered by `html` and `markdown`.

Every field is documented here and in ``docs/results-schema.md``. A part that was not done is an empty tuple or None,
and `Results.missing` has the reason, so that an omission is not mistaken for success.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from googlenet_deploy.analysis.roofline import ModeBound
from googlenet_deploy.device.files import PathLike, reason, write_json
from googlenet_deploy.device.json_decode import decode, encode
from googlenet_deploy.device.tune.tuned_file import Tuned
from googlenet_deploy.errors import InputError
from googlenet_deploy.quantization.mixed_precision.sensitivity import LayerSensitivity
from googlenet_deploy.report.figures import (
    ActivationHistogram,
    Confusion,
    Disagreement,
    Latency,
    Layer,
    MemoryStep,
    Variant,
)


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a comparison.

    Attributes:
        name: What was checked.
        ok: Whether it passed.
        text: What was found.
        inconclusive: Why it could not have failed with this number of images; empty if it could.
    """

    name: str
    ok: bool
    text: str
    inconclusive: str = ""


@dataclass(frozen=True)
class GateResult:
    """A gate: a limit and whether it holds.

    Attributes:
        name: The metric.
        required: The limit, with unit.
        found: The value found, with unit.
        holds: Whether it holds.
        inconclusive: Why holding is not evidence with this number of images; empty if it is.
    """

    name: str
    required: str
    found: str
    holds: bool
    inconclusive: str = ""


@dataclass(frozen=True)
class StepResult:
    """One step of the pipeline.

    Attributes:
        name: Such as "export".
        outcome: "done", "unchanged" (its inputs are those of an earlier run), "left out", "failed".
        seconds: Its duration, in the run that did it.
        text: What it did, in one line.
    """

    name: str
    outcome: str
    seconds: float
    text: str


@dataclass(frozen=True)
class Subject:
    """What was deployed, and from what.

    Attributes:
        title: Human-readable: "GoogLeNet (bvlc)".
        target: The target's name.
        target_title: Human-readable: "Jetson Orin Nano 8 GB".
        precision: The deployed precision.
        classes: Number of classes.
        input: Size of an image, "224 x 224".
        weights: Where the weights came from.
        weights_sha256: Their hash.
        calibration_images: Number of calibration images.
        evaluation_images: Number of hold-out images that were evaluated.
        evaluation_set: Where they came from.
    """

    title: str
    target: str
    target_title: str
    precision: str
    classes: int
    input: str
    weights: str
    weights_sha256: str
    calibration_images: int = 0
    evaluation_images: int = 0
    evaluation_set: str = ""


@dataclass(frozen=True)
class Doubt:
    """A reason for doubting the result.

    Attributes:
        name: A few words, for the verdict: "24 calibration images".
        text: Its explanation.
        remedy: What to do about it; empty if unknown.
    """

    name: str
    text: str
    remedy: str


@dataclass(frozen=True)
class Missing:
    """A part that is missing from the results, and why."""

    part: str
    reason: str


FORMAT = "googlenet-deploy results"
SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Results:
    """All results of a deployment.

    Attributes:
        subject: What was deployed.
        created: Time of creation, as ISO 8601 in UTC.
        tool_version: Version of googlenet-deploy.
        steps: The pipeline.
        gates: Limits that were set.
        checks: What was verified.
        doubts: Reasons for doubting the results.
        variants: The model per precision, FP32 first.
        layers: The deployed model's layers.
        histograms: Activations with their thresholds.
        sensitivity: The cost of quantising each layer alone.
        kept_in_float: Layers kept in floating point to meet a budget.
        memory: Live memory over the schedule, in the graph's order.
        latencies: Latency distributions.
        bounds: Lower bounds per power mode of the target, per image at batch 1, by variant.
        disagreements: Images on which precisions disagree.
        confusions: Classes that the deployed model mistakes for others, most frequent first.
        environment: Machine, system and packages, by name.
        tuned: Measurements and choice of `tune` on the device; None without it.
        device: The machine that `deploy --device-results` was measured on, and its state, by name.
        commands: Commands that reproduce the deployment.
        artefacts: Files that were made, with their hashes.
        notes: Further notes for the user.
        missing: Missing parts, and why.
        schema_version: Version of this schema.
    """

    subject: Subject
    created: str
    tool_version: str
    steps: tuple[StepResult, ...] = ()
    gates: tuple[GateResult, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    variants: tuple[Variant, ...] = ()
    layers: tuple[Layer, ...] = ()
    histograms: tuple[ActivationHistogram, ...] = ()
    sensitivity: tuple[LayerSensitivity, ...] = ()
    kept_in_float: tuple[str, ...] = ()
    memory: tuple[MemoryStep, ...] = ()
    latencies: tuple[Latency, ...] = ()
    bounds: Mapping[str, tuple[ModeBound, ...]] = field(default_factory=dict)
    disagreements: tuple[Disagreement, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    device: Mapping[str, str] = field(default_factory=dict)
    tuned: Tuned | None = None
    commands: tuple[str, ...] = ()
    artefacts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def variant(self, name: str) -> Variant | None:
        """The variant of a precision."""
        return next((variant for variant in self.variants if variant.name == name), None)

    @property
    def deployed(self) -> Variant | None:
        """The deployed variant."""
        return self.variant(self.subject.precision)

    def why_missing(self, part: str) -> str:
        """Why a part is missing; a general answer if no reason was recorded."""
        reasons = [entry.reason for entry in self.missing if entry.part == part]
        return "; ".join(reasons) if reasons else "this run did not make it"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"format": FORMAT, **encode(self)}


def save_results(path: PathLike, results: Results) -> None:
    """Writes ``results.json`` atomically.

    Raises:
        OutputError: It cannot be written.
    """
    write_json(path, results.to_dict())


def load_results(path: PathLike) -> Results:
    """Reads ``results.json``.

    Raises:
        InputError: It is missing, damaged, or of a newer schema.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not a results file: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise InputError(path, "is not a results file", "pass the results.json that `deploy` wrote")
    version = values.get("schema_version")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        remedy = "update googlenet-deploy" if newer else "run the same `deploy` again, which rewrites it"
        raise InputError(path, f"has schema version {version}, this version reads {SCHEMA_VERSION}", remedy)
    try:
        return decode(Results, values)
    except ValueError as error:
        raise InputError(path, f"is damaged: {error}") from error
