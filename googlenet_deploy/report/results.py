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


@dataclass(frozen=True)
class Check:
    """Something that was held against something else: `name`, whether it holds, and what was found."""

    name: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Gate:
    """A limit that was set.

    Attributes:
        name: Of what.
        required: The limit, with unit.
        found: What was found, with unit.
        holds: Whether it holds.
    """

    name: str
    required: str
    found: str
    holds: bool


@dataclass(frozen=True)
class Step:
    """One step of the pipeline.

    Attributes:
        name: Such as "export".
        outcome: "done", "unchanged" (its inputs are those of an earlier run), "left out", "failed".
        seconds: How long it took, in the run that did it.
        text: What it did, in a line.
    """

    name: str
    outcome: str
    seconds: float
    text: str


@dataclass(frozen=True)
class Subject:
    """What was deployed, and from what.

    Attributes:
        title: For people: "GoogLeNet (bvlc)".
        target: The target's name.
        target_title: For people: "Jetson Orin Nano 8 GB".
        precision: What is deployed.
        classes: Number of classes.
        input: Size of an image, "224 x 224".
        weights: Where the weights came from.
        weights_sha256: Their hash.
        calibration_images: Number of images that calibrated.
        evaluation_images: Number of other images that were evaluated.
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
class Missing:
    """A part that the results do not have, and why."""

    part: str
    reason: str


MEASURED, BOUND = "measured", "bound"


@dataclass(frozen=True)
class Share:
    """A share of images, with its 95 % Wilson interval.

    Attributes:
        successes: How many.
        total: Out of how many.
        low: Lower end, in percent.
        high: Upper end, in percent.
    """

    successes: int
    total: int
    low: float
    high: float

    @property
    def percent(self) -> float:
        """The share in percent."""
        return 100.0 * self.successes / self.total


@dataclass(frozen=True)
class Difference:
    """A difference to the FP32 model on the same images, with a paired 95 % interval.

    Attributes:
        points: The difference, in percentage points; negative where it is worse.
        low: Lower end.
        high: Upper end.
        better: Images that only this model has right.
        worse: Images that only the FP32 model has right.
    """

    points: float
    low: float
    high: float
    better: int
    worse: int


@dataclass(frozen=True)
class Quantity:
    """A number with its unit, and whether it was measured.

    Attributes:
        value: The number.
        unit: "ms", "mJ", "MB".
        kind: "measured", or "bound" for a bound from published rates.
        where: On what, in which power mode.
        low: Lower end of its 95 % interval, or of the bounds; None where there is none.
        high: Upper end.
    """

    value: float
    unit: str
    kind: str
    where: str
    low: float | None = None
    high: float | None = None

    @property
    def least(self) -> float:
        """The lowest that a bound allows: its floor where it has one, which lies below the roofline."""
        return self.value if self.low is None else self.low


@dataclass(frozen=True)
class Variant:
    """The model in one precision.

    Attributes:
        name: "fp32", "fp16", "int8".
        file: Its file.
        bytes: The file's size.
        sha256: The file's hash.
        top1: Images whose best class is the true one.
        top5: Images whose true class is among the best five.
        difference: Of top-1, to the FP32 model.
        agreement: Images whose best class is that of the FP32 model.
        sqnr: Signal over noise of the scores against the FP32 model, in dB.
        divergence: Mean Kullback-Leibler divergence from the FP32 model, in nats.
        latency: Milliseconds per image, batch 1.
        energy: Millijoules per image.
        memory: Megabytes.
        shares: Share of the multiply-adds by type, 0..1.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    top1: Share | None = None
    top5: Share | None = None
    difference: Difference | None = None
    agreement: Share | None = None
    sqnr: float | None = None
    divergence: float | None = None
    latency: Quantity | None = None
    energy: Quantity | None = None
    memory: Quantity | None = None
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """One layer of the deployed model.

    Attributes:
        name: The ONNX node.
        operator: Its operator.
        kind: Type that it computes in.
        multiply_adds: For one image.
        weight_bytes: Of its weights, in that type.
        activation_bytes: Of its inputs and outputs.
        bound_us: Microseconds below which the target's rates do not let it come; None without a target.
        limit: "arithmetic" or "memory": what makes the bound.
        measured_us: Measured microseconds; None where they were not.
        sqnr: Signal over noise of its output in the quantised model, in dB; None where it was not compared.
    """

    name: str
    operator: str
    kind: str
    multiply_adds: int
    weight_bytes: int
    activation_bytes: int
    bound_us: float | None = None
    limit: str = ""
    measured_us: float | None = None
    sqnr: float | None = None


@dataclass(frozen=True)
class TensorHistogram:
    """Absolute values of one activation over the calibration images.

    Attributes:
        tensor: Its name.
        width: Width of a bin, in the tensor's unit.
        counts: Values per bin, from 0 up.
        maximum: Largest absolute value.
        amax: Threshold by method, the chosen one included.
        chosen: The chosen threshold.
        rule: How it was chosen.
        clipped: Share of the values beyond it, 0..1.
        sqnr: Signal over quantisation error at the chosen threshold, in dB; None where it is not known.
    """

    tensor: str
    width: float
    counts: tuple[int, ...]
    maximum: float
    amax: Mapping[str, float]
    chosen: float
    rule: str
    clipped: float
    sqnr: float | None = None


@dataclass(frozen=True)
class Sensitivity:
    """What quantising one layer alone costs.

    Attributes:
        layer: The layer.
        sqnr: Signal over noise of the scores with only this layer in INT8, in dB.
        agreement: Images whose best class stays, in percent; None where that was not counted.
        multiply_adds: What it saves by being INT8.
        kept: Whether it stayed in floating point for the budget's sake.
    """

    layer: str
    sqnr: float
    agreement: float | None
    multiply_adds: int
    kept: bool


@dataclass(frozen=True)
class MemoryStep:
    """Bytes of activations that live while a node runs."""

    node: str
    bytes: int


@dataclass(frozen=True)
class Latency:
    """How the times of one variant are distributed.

    Attributes:
        variant: The variant.
        scope: "compute", "end_to_end", ...
        where: On what.
        batch: Images per batch.
        runs: How many were timed.
        lowest: Milliseconds per batch.
        highest: Milliseconds per batch.
        percentiles: Milliseconds by name: "p50", "p90", ...; those that the number of runs supports.
    """

    variant: str
    scope: str
    where: str
    batch: int
    runs: int
    lowest: float
    highest: float
    percentiles: Mapping[str, float]


@dataclass(frozen=True)
class ModeBound:
    """Bounds of one variant in one power mode of the target, per image at batch 1.

    Attributes:
        variant: The variant.
        mode: The power mode.
        watts: What it is meant to draw; None where it has no limit.
        floor_ms: Below which no implementation gets.
        roofline_ms: Where every layer goes through memory.
        millijoules: The mode's power for the roofline's time; None without `watts`.
    """

    variant: str
    mode: str
    watts: float | None
    floor_ms: float
    roofline_ms: float
    millijoules: float | None


@dataclass(frozen=True)
class Answer:
    """What one variant says of an image: class and probability, 0..1."""

    variant: str
    name: str
    probability: float


@dataclass(frozen=True)
class Disagreement:
    """An image on which precisions disagree.

    Attributes:
        image: Its file name.
        thumbnail: The picture as a data URI.
        label: Its true class; "" where it is not known.
        answers: What each variant says.
    """

    image: str
    thumbnail: str
    label: str
    answers: tuple[Answer, ...]


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
