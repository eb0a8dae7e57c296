"""Records that steps write for later steps and the report: typed here, JSON in the deployment's folder."""

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
    """The result of the step "evaluate".

    Attributes:
        images: Number of images used.
        skipped: Names of images that could not be used, and why.
        variants: Metrics by precision.
        disagreements: Images on which precisions disagree.
        confusions: Classes that the deployed model mistakes for others.
        layers: Error of each layer's output in the INT8 model against the FP32 model; empty without INT8.
        verdicts: The diagnosis of the INT8 model; without one, whether the labels match.
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
        """Why the labels do not match the model's classes; empty if they do."""
        return next((verdict.text for verdict in self.verdicts if verdict.cause in LABEL_CAUSES), "")

    @property
    def is_sound(self) -> bool:
        """Whether, according to the diagnosis, INT8 is as close to FP32 as usual."""
        return any(verdict.severity == FINE for verdict in self.verdicts)


@dataclass(frozen=True)
class EstimateRecord:
    """The result of the step "estimate".

    Attributes:
        why: Why there are no bounds; empty if there are.
        quantities: Latency, energy and memory by precision.
        bounds: Lower bounds per power mode, per image, by precision.
        layers: Layers of the deployed model.
        memory: Live activations over its schedule, in bytes.
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
    """What the choice of layers achieves; see `Precision.summary`.

    Attributes:
        wanted: The limits by name.
        holds: Whether all hold.
        reached: What was achieved, a text per limit.
        float_multiply_adds: Share of the multiply-adds in floating point, 0..1.
        images: Number of images evaluated.
    """

    wanted: Mapping[str, float]
    holds: bool
    reached: tuple[str, ...]
    float_multiply_adds: float
    images: int


@dataclass(frozen=True)
class QuantizationRecord:
    """The result of the step "quantize".

    Attributes:
        findings: The lint's findings.
        sensitivity: The cost of quantising each layer alone, in graph order; empty if not measured.
        kept: Layers kept in floating point to meet the budget.
        budget: What the choice achieves; None without a budget.
        doubts: Reasons for doubting the result.
    """

    findings: tuple[str, ...] = ()
    sensitivity: tuple[LayerSensitivity, ...] = ()
    kept: tuple[str, ...] = ()
    budget: BudgetOutcome | None = None
    doubts: tuple[str, ...] = ()
