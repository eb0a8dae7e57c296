"""Measurements of each precision and of the deployed model's parts: the metrics in `Results`.

Accuracies, differences, layers, sensitivities and bounds are the types of the modules that compute them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from googlenet_deploy.analysis.layer_work import LayerWork
from googlenet_deploy.calibration.histogram import Outline
from googlenet_deploy.evaluation.summary import AccuracyFigures

# Kind of a quantity: measured, or predicted from published measurements of other networks and modules.
MEASURED, PREDICTED = "measured", "predicted"


@dataclass(frozen=True)
class Quantity:
    """A number with its unit and origin.

    Attributes:
        value: The number.
        unit: "ms", "mJ", "MB".
        kind: "measured" or "predicted".
        where: The machine and its power mode.
        low: Lower end of its 95 % interval, or, for a prediction, of the range that contains nine of ten measurements;
            None without one.
        high: Upper end.
    """

    value: float
    unit: str
    kind: str
    where: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Variant(AccuracyFigures):
    """The model in one precision; its accuracy is inherited.

    Attributes:
        name: "fp32", "fp16", "int8".
        file: Its file.
        bytes: The file's size.
        sha256: The file's hash.
        latency: Milliseconds per image, batch 1.
        energy: Millijoules per image.
        memory: Megabytes.
        shares: Share of the multiply-adds by type, 0..1.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    latency: Quantity | None = None
    energy: Quantity | None = None
    memory: Quantity | None = None
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer(LayerWork):
    """One layer of the deployed model: its work, inherited, and its measurements.

    Attributes:
        bound_us: Microseconds at the target's published rates; None without a target.
        limit: "arithmetic" or "memory": what determines the bound.
        measured_us: Measured microseconds; None if not measured.
        sqnr: Signal-to-noise ratio of its output in the quantised model, in dB; None if not compared.
        drop: Loss at this layer relative to its inputs, in dB; None if not compared.
    """

    bound_us: float | None = None
    limit: str = ""
    measured_us: float | None = None
    sqnr: float | None = None
    drop: float | None = None


@dataclass(frozen=True, kw_only=True)
class ActivationHistogram(Outline):
    """Absolute values of one activation over the calibration images; the bins are inherited.

    Attributes:
        tensor: Its name.
        maximum: Largest absolute value.
        amax: Threshold by method, the chosen one included.
        chosen: The chosen threshold.
        rule: How it was chosen.
        clipped: Share of the values beyond it, 0..1.
        sqnr: Signal-to-quantisation-noise ratio at the chosen threshold, in dB; None if unknown.
    """

    tensor: str
    maximum: float
    amax: Mapping[str, float]
    chosen: float
    rule: str
    clipped: float
    sqnr: float | None = None


@dataclass(frozen=True)
class MemoryStep:
    """Bytes of activations that are live while a node runs."""

    node: str
    bytes: int


@dataclass(frozen=True)
class Latency:
    """The latency distribution of one variant.

    Attributes:
        variant: The variant.
        scope: "compute", "end_to_end", ...
        where: The machine.
        batch: Images per batch.
        runs: Number of timed runs.
        lowest: Milliseconds per batch.
        highest: Milliseconds per batch.
        percentiles: Milliseconds by name: "p50", "p90", ...; only those that the number of runs supports.
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
class VariantAnswer:
    """The class that one variant predicts for an image, and its probability, 0..1."""

    variant: str
    name: str
    probability: float


@dataclass(frozen=True)
class Disagreement:
    """An image on which precisions disagree.

    Attributes:
        image: Its file name.
        thumbnail: The picture as a data URI.
        label: Its true class; "" if unknown.
        answers: The prediction of each variant.
    """

    image: str
    thumbnail: str
    label: str
    answers: tuple[VariantAnswer, ...]


@dataclass(frozen=True)
class Example:
    """An image's file name, and the picture as a data URI."""

    image: str
    thumbnail: str


@dataclass(frozen=True)
class Confusion:
    """A class that the deployed model mistakes for another.

    Attributes:
        label: The true class.
        answer: The predicted class.
        count: Number of such images.
        total: Number of evaluated images of the true class.
        reference: For how many of them the FP32 model makes the same wrong prediction.
        examples: Some of the images.
    """

    label: str
    answer: str
    count: int
    total: int
    reference: int
    examples: tuple[Example, ...] = ()
