"""What was measured of each precision and of the deployed model's parts: the figures in `Results`.

Accuracies, differences, layers, sensitivities and bounds are the types of the modules that compute them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from googlenet_deploy.analysis.layer_work import LayerWork
from googlenet_deploy.calibration.histogram import Outline
from googlenet_deploy.evaluation.summary import AccuracyFigures

# What a quantity is: measured, or predicted from published measurements of other networks and modules.
MEASURED, PREDICTED = "measured", "predicted"


@dataclass(frozen=True)
class Quantity:
    """A number with its unit, and where it comes from.

    Attributes:
        value: The number.
        unit: "ms", "mJ", "MB".
        kind: "measured" or "predicted".
        where: On what, in which power mode.
        low: Lower end of its 95 % interval, or of the range in which nine of ten measurements lie that are predicted
            so; None without one.
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
    """One layer of the deployed model: its work, inherited, and what was found of it.

    Attributes:
        bound_us: Microseconds at the target's published rates; None without a target.
        limit: "arithmetic" or "memory": what makes the bound.
        measured_us: Measured microseconds; None where they were not.
        sqnr: Signal over noise of its output in the quantised model, in dB; None where it was not compared.
        drop: dB that are lost at this layer, of those that its inputs have; None where it was not compared.
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
        sqnr: Signal over quantisation error at the chosen threshold, in dB; None where it is not known.
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
class VariantAnswer:
    """The class that one variant gives an image, and its probability, 0..1."""

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
        answers: The answer of each variant.
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
    """A class that the deployed model takes for another.

    Attributes:
        label: The true class.
        answer: The class that it is taken for.
        count: How many images.
        total: How many images of the true class were evaluated.
        reference: For how many of them the FP32 model gives the same wrong answer.
        examples: Some of the images.
    """

    label: str
    answer: str
    count: int
    total: int
    reference: int
    examples: tuple[Example, ...] = ()
