"""Diagnoses likely faults of a quantised model, with explanations, from measurements against its reference.

Each rule looks for one fault that occurs in real deployments, and reports it only on its own evidence; the thresholds
are between the values of sound INT8 GoogLeNets (98 % agreement, 28 dB and more, an image's own rounding at 40 dB) and
those of the faults, as measured on the BVLC net with each fault introduced on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.specification import Preprocessing, describe_difference
from googlenet_deploy.device.text import counted
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.evaluation.label_order import explain_labels
from googlenet_deploy.evaluation.layer_error import LayerError, TensorRange
from googlenet_deploy.evaluation.statistics import PairedDifference, Proportion

if TYPE_CHECKING:
    from googlenet_deploy.evaluation.evaluate import Evaluation


PROBLEM, NOTE, FINE = "problem", "note", "fine"

# Sound INT8 GoogLeNets reach 97 to 99 % and 28 to 32 dB.
SOUND_AGREEMENT, SOUND_DECIBELS = 95.0, 24.0


@dataclass(frozen=True)
class Verdict:
    """One finding.

    Attributes:
        severity: "problem", "note" or "fine".
        cause: Short name of the rule.
        text: What is wrong and what to do, in a sentence or two.
    """

    severity: str
    cause: str
    text: str


@dataclass(frozen=True)
class Evidence:
    """Everything that the rules look at.

    Attributes:
        agreement: Agreement of the model with its reference.
        paired: The difference of their top-1 accuracies.
        best: The model's best class per image.
        reference_best: The reference's best class per image.
        labels: The true classes.
        names: Class names, in the model's order; may be empty.
        classes: How many classes there are.
        reference_right: Share of images that the reference classifies correctly, 0..1.
        reference_confidence: The reference's mean probability of its best class, 0..1; None if it has no probabilities.
        preparation: Fields in which the two prepare images differently, with both values: the model's first.
        layers: Errors of inner tensors; empty if not measured.
        ranges: The quantised activations.
        ahead_of_lrn: Q/DQ pairs that quantise the input of an LRN.
        calibration_images: Number of images that the model was calibrated on; 0 if not recorded.
        labelled: Whether `labels` are true classes, rather than the reference's predictions.
    """

    agreement: Agreement
    paired: PairedDifference
    best: Sequence[int]
    reference_best: Sequence[int]
    labels: Sequence[int]
    classes: int
    reference_right: float
    names: Sequence[str] = ()
    reference_confidence: float | None = None
    preparation: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    layers: Sequence[LayerError] = ()
    ranges: Sequence[TensorRange] = ()
    ahead_of_lrn: Sequence[str] = ()
    calibration_images: int = 0
    labelled: bool = True

    @property
    def is_sound(self) -> bool:
        """Whether the model is as close to its reference as INT8 usually is, and not significantly worse."""
        _, agreeing_at_most = self.agreement.proportion.interval
        near = agreeing_at_most >= SOUND_AGREEMENT and self.agreement.sqnr >= SOUND_DECIBELS
        return near and not (self.paired.is_significant and self.paired.points < 0)

    @property
    def image(self) -> TensorRange | None:
        """The Q/DQ pair on the image itself."""
        return next((use for use in self.ranges if use.is_input), None)


def evidence_of(
    result: Evaluation,
    names: Sequence[str] = (),
    preparation: Mapping[str, tuple[Any, Any]] | None = None,
) -> Evidence:
    """The evidence from an evaluation with a reference, without inner tensors.

    Without labels the reference's predictions take their place.

    Args:
        result: The evaluation.
        names: Class names, in the model's order; may be empty.
        preparation: See `Evidence`.
    """
    assert result.reference is not None
    assert result.agreement is not None
    labels = result.labels or result.reference.best
    wanted = result.reference.top1 if result.labels else [True] * len(labels)
    right = result.model.top1 if result.labels else [a == b for a, b in zip(result.model.best, labels, strict=True)]
    sure = result.reference.confidence if result.labels else []
    return Evidence(
        agreement=result.agreement,
        paired=PairedDifference.of(right, wanted),
        best=result.model.best,
        reference_best=result.reference.best,
        labels=labels,
        classes=result.classes,
        reference_right=sum(wanted) / len(wanted),
        names=names,
        reference_confidence=sum(sure) / len(sure) if sure else None,
        preparation=preparation or {},
        labelled=bool(result.labels),
    )


def prepared_differently(model: Preprocessing, reference: Preprocessing) -> dict[str, tuple[Any, Any]]:
    """Fields in which two models expect different images; none if one merely includes the normalisation."""
    inside = "uint8" in (model.dtype, reference.dtype)
    if model == reference or (inside and model.with_uint8_input() == reference.with_uint8_input()):
        return {}
    return describe_difference(model, reference)


# An image's own rounding is at 44 dB, and its values fill 99 % of the range.
IMAGE_DECIBELS, IMAGE_USE = 25.0, (0.7, 1.15)
# Clipping methods cut 0.04 % of a tensor's values at most, hardly more on other images than on the calibration images.
CLIPPED_SHARE, UNKNOWN_CLIPPED_SHARE, TIMES_EXPECTED = 1e-4, 2e-3, 10.0
# A tensor's own rounding is at 26 to 45 dB; a layer loses 1 to 6 dB relative to its input, an LRN 7.
POOR_DECIBELS, SLIVER = 20.0, 0.1
LAYER_DROP = 12.0
LOST_DECIBELS = 3.0
MANY_TENSORS, MANY_SHARE, OUTSTANDING = 3, 0.1, 20.0
FEW_CALIBRATION_IMAGES = 32
CONFIDENCE_GAP = 0.3  # a classifier's mean confidence matches its accuracy to about 0.1
WIDE_POINTS = 4.0
SHOWN = 3
FLOAT_OPERATORS = frozenset({"LRN", "Softmax", "Sigmoid", "Tanh", "Div", "Pow", "Sqrt", "Exp", "BatchNormalization"})
WEIGHTED_OPERATORS = frozenset({"Conv", "Gemm", "MatMul", "ConvTranspose"})


def diagnose(evidence: Evidence) -> list[Verdict]:
    """Every rule's verdict, problems first; a single positive one if nothing is wrong."""
    found = [verdict for rule in _RULES for verdict in rule(evidence)]
    if evidence.is_sound:
        found.append(_sound(evidence))
    elif not any(verdict.severity == PROBLEM for verdict in found):
        found.append(_unexplained(evidence))
    order = (PROBLEM, NOTE, FINE)
    return sorted(found, key=lambda verdict: order.index(verdict.severity))


def _preparation(evidence: Evidence) -> Iterator[Verdict]:
    """The two models declare different preprocessing."""
    if evidence.preparation:
        fields = "; ".join(
            f"{key} {mine} against {theirs}" for key, (mine, theirs) in list(evidence.preparation.items())[:SHOWN]
        )
        yield Verdict(
            NOTE if evidence.is_sound else PROBLEM,
            "preprocessing",
            f"the model and its reference prepare images differently: {fields}. Calibrate with the reference's "
            "preprocessing, or pass both the right one with --preprocessing",
        )


def _image_range(evidence: Evidence) -> Iterator[Verdict]:
    """The image does not fit its calibrated range, whatever the metadata declare."""
    use = evidence.image
    low, high = IMAGE_USE
    if use is None or (use.sqnr >= IMAGE_DECIBELS and low <= use.used <= high):
        return
    if use.used > 1:
        what = f"the image's values reach {use.largest:.4g}, {100 * use.saturated:.2g} % lie beyond {use.high:.4g}"
    else:
        what = f"the image's values reach {use.largest:.4g}, {100 * use.used:.2g} % of the range of {use.high:.4g}"
    yield Verdict(
        PROBLEM if use.sqnr < IMAGE_DECIBELS or not evidence.is_sound else NOTE,
        "preprocessing",
        f"{what} that calibration found: the images were prepared differently then (scale, mean or std), or were of "
        "another kind. Calibrate again, with images like these and the preprocessing that is used here",
    )


def _ranges(evidence: Evidence) -> Iterator[Verdict]:
    """Activations exceed their ranges: a few, or so many that the calibration images must have been different."""
    inner = [use for use in evidence.ranges if not use.is_input]
    wrong_image = evidence.image is not None and evidence.image.sqnr < IMAGE_DECIBELS
    known = evidence.calibration_images
    few = 0 < known < FEW_CALIBRATION_IMAGES
    if not few and (wrong_image or _broken_layer(evidence) is not None or _slivers(evidence)):
        return  # an earlier fault disturbs everything after it
    over = sorted((use for use in inner if _leaves_its_range(use)), key=lambda use: use.sqnr)
    worst = ", ".join(f"{use.tensor} ({100 * use.saturated:.2g} % clipped, {use.sqnr:.0f} dB)" for use in over[:SHOWN])
    severity = NOTE if evidence.is_sound else PROBLEM
    if few or (len(over) >= max(MANY_TENSORS, MANY_SHARE * len(inner)) and not _stands_out(over)):
        why = f"it was calibrated on {counted(known, 'image')} only" if few else "calibration saw unlike images"
        count = f"{len(over)} of {len(inner)} activations leave the ranges that calibration found"
        what = f"{count}: {why}. Worst: {worst}" if over else f"{why}, too few to know the ranges of the activations"
        yield Verdict(severity, "calibration images", f"{what}. Calibrate on some 256 images like these")
    elif over and over[0].sqnr < POOR_DECIBELS:
        yield Verdict(
            severity,
            "saturated tensor",
            f"values are clipped: {worst}. Calibrate again with --method max, or leave the layers that read it in "
            "float with --exclude",
        )


def _stands_out(over: Sequence[TensorRange]) -> bool:
    """Whether the tensor with the worst fit is clipped far more than all others, which it may have disturbed."""
    return over[0].sqnr < POOR_DECIBELS and all(over[0].saturated > OUTSTANDING * use.saturated for use in over[1:])


def _leaves_its_range(use: TensorRange) -> bool:
    """Whether far more values are clipped than were on the calibration images."""
    if use.expected is None:
        return use.saturated > UNKNOWN_CLIPPED_SHARE
    return use.saturated > max(CLIPPED_SHARE, TIMES_EXPECTED * use.expected)


def _wide_ranges(evidence: Evidence) -> Iterator[Verdict]:
    """An activation uses a sliver of its range, so that its steps are too coarse."""
    coarse = _slivers(evidence)
    if coarse and not evidence.is_sound:
        worst = min(coarse, key=lambda use: use.sqnr)
        others = f" ({len(coarse) - 1} other tensors likewise)" if len(coarse) > 1 else ""
        yield Verdict(
            PROBLEM,
            "range too wide",
            f"{worst.tensor} uses {100 * worst.used:.1g} % of its range, whose steps are too coarse for it "
            f"({worst.sqnr:.0f} dB){others}. Calibrate again on images like these",
        )


def _slivers(evidence: Evidence) -> list[TensorRange]:
    """Activations that use a sliver of their range; none if a clipped one is worse, which can cause this."""
    inner = [use for use in evidence.ranges if not use.is_input]
    found = [use for use in inner if use.used < SLIVER and use.sqnr < POOR_DECIBELS]
    clipped = min((use.sqnr for use in inner if _leaves_its_range(use)), default=math.inf)
    return [] if any(clipped < use.sqnr for use in found) else found


def _float_operators(evidence: Evidence) -> Iterator[Verdict]:
    """An operator without an INT8 form reads quantised values and amplifies their error."""
    drops = [
        layer
        for layer in evidence.layers
        if layer.operator in FLOAT_OPERATORS and layer.drop_unrounded > LAYER_DROP and layer.unrounded < SOUND_DECIBELS
    ]
    if evidence.is_sound or not (drops or evidence.ahead_of_lrn):
        return
    pair = f"{', '.join(evidence.ahead_of_lrn[:SHOWN])} quantises what an LRN reads: " if evidence.ahead_of_lrn else ""
    behind = min((layer for layer in evidence.layers if layer.operator in FLOAT_OPERATORS), key=_sqnr, default=None)
    lost = f", and {_whole(behind.sqnr)} dB are left behind {behind.operator} {behind.name}" if behind else ""
    yield Verdict(
        PROBLEM,
        "float operator in between",
        f"{pair}an operator without an INT8 form makes more of the error of what it reads{lost}. Repair the model with "
        "`quantize --repair`, or quantise the FP32 model with `quantize`, which leaves that in float",
    )


def _layers(evidence: Evidence) -> Iterator[Verdict]:
    """One layer has a loss that the activations' ranges do not explain: its weights."""
    worst = _broken_layer(evidence)
    if worst is not None and not evidence.is_sound:
        yield Verdict(
            PROBLEM,
            "layer",
            f"{worst.operator} {worst.name} alone raises the SQNR from {_whole(worst.before or 0.0)} to "
            f"{_whole(worst.sqnr)} dB: its weights, its bias or its activation are wrong. Quantise the FP32 model "
            "again, with a scale per channel",
        )


def _broken_layer(evidence: Evidence) -> LayerError | None:
    """The first layer with a large loss of its own, not due to the rounding of its output, or None."""
    weighted = (layer for layer in evidence.layers if layer.operator in WEIGHTED_OPERATORS)
    return next((layer for layer in weighted if min(layer.drop, layer.drop_unrounded) > LAYER_DROP), None)


def _sqnr(measured: LayerError | TensorRange) -> float:
    return measured.sqnr


def _whole(decibels: float) -> str:
    return str(round(decibels))


def _collapse(evidence: Evidence) -> Iterator[Verdict]:
    """Every image is assigned the same class."""
    if len(set(evidence.best)) == 1 < len(set(evidence.reference_best)) and not evidence.is_sound:
        lost = next((layer for layer in evidence.layers if layer.sqnr < LOST_DECIBELS), None)
        where = f"; the signal is lost at {lost.operator} {lost.name} ({_whole(lost.sqnr)} dB)" if lost else ""
        yield Verdict(
            PROBLEM, "collapse", f"the model assigns the same class to every image, {evidence.best[0]}{where}"
        )


def _label_order(evidence: Evidence) -> Iterator[Verdict]:
    """The reference is confident and yet wrong: the labels belong to another list."""
    order = explain_labels(evidence.reference_best, evidence.labels, evidence.names, evidence.classes)
    count = len(evidence.labels)
    right = Proportion(round(evidence.reference_right * count), count)
    yield from _wrong_labels("the reference itself", right, evidence.reference_confidence, order)


def label_verdicts(result: Evaluation, names: Sequence[str] = ()) -> list[Verdict]:
    """Whether the labels of an evaluation without a reference are in another order than the model's classes.

    Args:
        result: The evaluation.
        names: Class names, in the model's order; may be empty.
    """
    if not result.labels:
        return []
    order = explain_labels(result.model.best, result.labels, names, result.classes)
    sure = result.model.confidence
    return list(_wrong_labels("the model", result.model.accuracy1, sum(sure) / len(sure) if sure else None, order))


def _wrong_labels(who: str, right: Proportion, sure: float | None, order: str) -> Iterator[Verdict]:
    """The verdict on accuracy compared with mean confidence, both 0..1, and the explanation of the difference."""
    if sure is not None and right.interval[1] / 100 > sure - CONFIDENCE_GAP and not order:
        return
    wrong = f"{who} gets {right.percent:.0f} % right"
    if sure is not None:
        wrong += f" while it is {100 * sure:.0f} % sure on average"
    if order:
        yield Verdict(PROBLEM, "label order", f"{wrong}: {order}. Check --labels and --class-names")
    elif sure is not None:
        yield Verdict(
            PROBLEM,
            "labels or preprocessing",
            f"{wrong}: the labels belong to another list of classes, or the images are prepared differently than in "
            "training. This is not a matter of quantisation",
        )


def _few_images(evidence: Evidence) -> Iterator[Verdict]:
    """How much can be concluded from these images."""
    low, high = evidence.paired.interval
    if evidence.labelled and high - low > WIDE_POINTS:
        yield Verdict(
            NOTE,
            "few images",
            f"{evidence.paired.total} images resolve a difference in top-1 to {(high - low) / 2:.1f} points only; "
            "agreement and SQNR are sharper",
        )


_RULES: tuple[Callable[[Evidence], Iterator[Verdict]], ...] = (
    _label_order,
    _preparation,
    _image_range,
    _float_operators,
    _layers,
    _wide_ranges,
    _ranges,
    _collapse,
    _few_images,
)


def _sound(evidence: Evidence) -> Verdict:
    if not evidence.labelled:
        return Verdict(FINE, "sound", "the model is as near to its reference as sound INT8 is")
    chance = "no more than chance" if not evidence.paired.is_significant else "in the model's favour"
    return Verdict(
        FINE,
        "sound",
        f"the model is as near to its reference as sound INT8 is; the difference in top-1 is {chance}",
    )


def _unexplained(evidence: Evidence) -> Verdict:
    agreement = evidence.agreement
    what = f"{agreement.proportion.percent:.1f} % agreement and {agreement.sqnr:.1f} dB are less than sound INT8 has"
    if not evidence.ranges:
        return Verdict(
            PROBLEM, "unexplained", f"{what}; inner tensors were not compared, so it is unknown where it is lost"
        )
    coarse = ", ".join(f"{use.tensor} ({use.sqnr:.0f} dB)" for use in sorted(evidence.ranges, key=_sqnr)[:SHOWN])
    return Verdict(
        PROBLEM,
        "unexplained",
        f"{what}; the loss is spread over the layers, the coarsest tensors are {coarse}. `quantize --budget "
        "agreement=99` finds the layers to leave in float",
    )
