"""What steps write for later ones and for the report: typed here, JSON in the deployment's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from googlenet_deploy.analysis.roofline import ModeBound
from googlenet_deploy.evaluation.diagnosis import FINE, PROBLEM, Verdict
from googlenet_deploy.evaluation.layer_error import LayerError
from googlenet_deploy.evaluation.summary import AccuracyFigures
from googlenet_deploy.quantization.mixed_precision.sensitivity import LayerSensitivity
from googlenet_deploy.report.figures import Confusion, Disagreement, Layer, MemoryStep, Quantity

LABEL_CAUSES = ("label order", "labels or preprocessing")  # of verdicts
EVALUATION, ESTIMATE, QUANTIZATION = "evaluation.json", "estimate.json", "quantization.json"


@dataclass(frozen=True)
class EvaluationRecord:
    """What the step "evaluate" found.

    Attributes:
        images: How many images were used.
        skipped: Names of those that could not be, and why.
        variants: Figures by precision.
        disagreements: Images on which precisions disagree.
        confusions: Classes that the deployed model takes for others.
        layers: How far each layer's output in the INT8 model is from the FP32 model's; empty without INT8.
        verdicts: The diagnosis of the INT8 model; without one, whether the labels fit.
    """

    images: int = 0
    skipped: tuple[tuple[str, str], ...] = ()
    variants: Mapping[str, AccuracyFigures] = field(default_factory=dict)
    disagreements: tuple[Disagreement, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    layers: tuple[LayerError, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def first_problem(self) -> str:
        """The first problem that the diagnosis found; empty without one."""
        return next((verdict.text for verdict in self.verdicts if verdict.severity == PROBLEM), "")

    @property
    def wrong_labels(self) -> str:
        """Why the labels do not fit the model's classes; empty where they do."""
        return next((verdict.text for verdict in self.verdicts if verdict.cause in LABEL_CAUSES), "")

    @property
    def is_sound(self) -> bool:
        """Whether the diagnosis says that INT8 is as near to FP32 as it usually is."""
        return any(verdict.severity == FINE for verdict in self.verdicts)


@dataclass(frozen=True)
class EstimateRecord:
    """What the step "estimate" computed.

    Attributes:
        why: Why there are no bounds; empty where there are.
        quantities: Latency, energy and memory by precision.
        bounds: Per power mode, per image, by precision.
        layers: Of the deployed model.
        memory: Live activations over its schedule.
        shares: Share of the multiply-adds by type, by precision.
    """

    why: str = ""
    quantities: Mapping[str, Mapping[str, Quantity]] = field(default_factory=dict)
    bounds: Mapping[str, tuple[ModeBound, ...]] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    memory: tuple[MemoryStep, ...] = ()
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class BudgetOutcome:
    """What the choice of layers reaches; see `Precision.summary`.

    Attributes:
        wanted: The limits by name.
        holds: Whether all hold.
        reached: What was reached, a text per limit.
        float_multiply_adds: Share of the multiply-adds in floating point, 0..1.
        images: On how many images.
    """

    wanted: Mapping[str, float]
    holds: bool
    reached: tuple[str, ...]
    float_multiply_adds: float
    images: int


@dataclass(frozen=True)
class QuantizationRecord:
    """What the step "quantize" found.

    Attributes:
        findings: What the lint says.
        sensitivity: What quantising each layer alone costs, in graph order; empty where it was not measured.
        kept: Layers in floating point for the budget's sake.
        budget: What the choice reaches; None without a budget.
        doubts: What makes the result doubtful by itself.
    """

    findings: tuple[str, ...] = ()
    sensitivity: tuple[LayerSensitivity, ...] = ()
    kept: tuple[str, ...] = ()
    budget: BudgetOutcome | None = None
    doubts: tuple[str, ...] = ()
