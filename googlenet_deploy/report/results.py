"""What a deployment found out: plain data, written as ``results.json`` and rendered by `html` and `markdown`.

Every field is documented here and in ``docs/results-schema.md``. A part that was not done is an empty tuple or None,
and `Results.missing` says why, so that no reader takes silence for success.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from googlenet_deploy.device.files import PathLike, reason, write_json
from googlenet_deploy.device.json_decode import decode
from googlenet_deploy.errors import InputError
from googlenet_deploy.report.details import (
    Disagreement,
    Latency,
    Layer,
    MemoryStep,
    ModeBound,
    Sensitivity,
    TensorHistogram,
)
from googlenet_deploy.report.outcomes import Check, Gate, Missing, Step, Subject
from googlenet_deploy.report.variants import Variant

FORMAT = "googlenet-deploy results"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Results:
    """Everything.

    Attributes:
        subject: What was deployed.
        created: When, as ISO 8601 in UTC.
        tool_version: Version of googlenet-deploy.
        steps: The pipeline.
        gates: Limits that were set.
        checks: What was verified.
        variants: The model per precision, FP32 first.
        layers: The deployed model's layers.
        histograms: Activations with their thresholds.
        sensitivity: Layers by what quantising them costs.
        memory: Over the schedule, in the graph's order.
        latencies: Distributions of times.
        bounds: On the target.
        disagreements: Images on which precisions disagree.
        environment: Machine, system and packages, by name.
        commands: That reproduce the deployment.
        artefacts: Files that were made, with their hashes.
        notes: What else the user should know.
        missing: Parts that are not there, and why.
        schema_version: Version of this form.
    """

    subject: Subject
    created: str
    tool_version: str
    steps: tuple[Step, ...] = ()
    gates: tuple[Gate, ...] = ()
    checks: tuple[Check, ...] = ()
    variants: tuple[Variant, ...] = ()
    layers: tuple[Layer, ...] = ()
    histograms: tuple[TensorHistogram, ...] = ()
    sensitivity: tuple[Sensitivity, ...] = ()
    memory: tuple[MemoryStep, ...] = ()
    latencies: tuple[Latency, ...] = ()
    bounds: tuple[ModeBound, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
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
        """The variant that is deployed."""
        return self.variant(self.subject.precision)

    def why_missing(self, part: str) -> str:
        """Why a part is not there; a general answer where nobody said."""
        reasons = [entry.reason for entry in self.missing if entry.part == part]
        return "; ".join(reasons) if reasons else "this run did not make it"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"format": FORMAT, **asdict(self)}


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
        raise InputError(path, f"is no results file: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise InputError(path, "is no results file", "give the results.json that `deploy` wrote")
    version = values.get("schema_version")
    if version != SCHEMA_VERSION:
        remedy = "update googlenet-deploy" if isinstance(version, int) and version > SCHEMA_VERSION else None
        raise InputError(path, f"has schema version {version}, this version reads {SCHEMA_VERSION}", remedy)
    try:
        return decode(Results, values)
    except ValueError as error:
        raise InputError(path, f"is damaged: {error}") from error
