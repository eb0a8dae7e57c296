"""The deployed model in detail: layers, activations, memory, times, and images that precisions disagree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
