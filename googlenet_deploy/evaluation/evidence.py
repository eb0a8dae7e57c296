"""What a diagnosis looks at, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.specification import Preprocessing, describe_difference
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.evaluation.layer_error import LayerError, TensorRange
from googlenet_deploy.evaluation.paired import PairedDifference

if TYPE_CHECKING:
    from googlenet_deploy.evaluation.evaluate import Evaluation

PROBLEM, NOTE, FINE = "problem", "note", "fine"

# What sound INT8 GoogLeNets reach: 97 to 99 % and 28 to 32 dB.
SOUND_AGREEMENT, SOUND_DECIBELS = 95.0, 24.0


@dataclass(frozen=True)
class Verdict:
    """One thing found.

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
        agreement: The model with its reference.
        paired: The difference of their top-1 accuracies.
        best: The model's best class per image.
        reference_best: The reference's.
        labels: The true classes.
        names: Class names, in the model's order; may be empty.
        classes: How many classes there are.
        reference_right: Share of images that the reference gets right, 0..1.
        reference_confidence: Its mean probability of its best class, 0..1; None where it gives none.
        preparation: Fields in which the two prepare images differently, with both values: the model's first.
        layers: Errors of inner tensors; empty where they were not measured.
        ranges: The quantised activations.
        ahead_of_lrn: Pairs that quantise what an LRN reads.
        calibration_images: On how many images the model was calibrated; 0 where it does not say.
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

    @property
    def is_sound(self) -> bool:
        """Whether the model is as near to its reference as INT8 usually is, and not significantly worse."""
        _, agreeing_at_most = self.agreement.proportion.interval
        near = agreeing_at_most >= SOUND_AGREEMENT and self.agreement.sqnr >= SOUND_DECIBELS
        return near and not (self.paired.is_significant and self.paired.points < 0)

    @property
    def image(self) -> TensorRange | None:
        """The pair on the image itself."""
        return next((use for use in self.ranges if use.is_input), None)


def evidence_of(
    result: Evaluation,
    names: Sequence[str] = (),
    preparation: Mapping[str, tuple[Any, Any]] | None = None,
) -> Evidence:
    """The evidence of an evaluation with a reference, without that of inner tensors.

    Args:
        result: The evaluation.
        names: Class names, in the model's order; may be empty.
        preparation: See `Evidence`.
    """
    assert result.reference is not None
    assert result.agreement is not None
    sure = result.reference.confidence
    return Evidence(
        agreement=result.agreement,
        paired=PairedDifference.of(result.model.top1, result.reference.top1),
        best=result.model.best,
        reference_best=result.reference.best,
        labels=result.labels,
        classes=result.classes,
        reference_right=result.reference.accuracy1.percent / 100,
        names=names,
        reference_confidence=sum(sure) / len(sure) if sure else None,
        preparation=preparation or {},
    )


def prepared_differently(model: Preprocessing, reference: Preprocessing) -> dict[str, tuple[Any, Any]]:
    """Fields in which two models want different images; none where one merely normalises inside."""
    if reference in (model.with_uint8_input(), model) or model == reference.with_uint8_input():
        return {}
    return describe_difference(model, reference)
