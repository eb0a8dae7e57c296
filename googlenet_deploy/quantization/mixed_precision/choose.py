"""Mixed precision: which layers stay in float, why, and the resulting accuracy."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.progress import progress
from googlenet_deploy.quantization.mixed_precision.search import AGREEMENT, TOP1, Budget, BudgetSearch, Trial
from googlenet_deploy.quantization.mixed_precision.sensitivity import LayerSensitivity, measure_sensitivity
from googlenet_deploy.quantization.quantized_model import keep_in_float

if TYPE_CHECKING:
    from collections.abc import Sequence

    from googlenet_deploy.quantization.accuracy_probe import HoldOutEvaluation
    from googlenet_deploy.quantization.quantized_model import QuantizedModel


@dataclass(frozen=True)
class PrecisionChoice:
    """The layers that stay in float, and the resulting accuracy.

    Attributes:
        quantized: The quantised model with the chosen layers in float.
        layers: Every layer's sensitivity, in graph order.
        kept: The layers that stay in float, in graph order.
        budgets: The requested budgets; empty if only the sensitivity was requested.
        trial: The result with this choice; None without budgets.
        runs: Number of models that were run to find it.
        images: Number of images that they were run on.
        warnings: What the user should know about how far the figures can be trusted.
    """

    quantized: QuantizedModel
    layers: Sequence[LayerSensitivity]
    kept: Sequence[str]
    budgets: Sequence[Budget]
    trial: Trial | None
    runs: int
    images: int
    warnings: Sequence[str]

    @property
    def float_share(self) -> float:
        """Share of the layers' multiply-adds that stays in float, 0..1."""
        total = sum(layer.multiply_adds for layer in self.layers)
        return sum(layer.multiply_adds for layer in self.layers if layer.name in self.kept) / max(1, total)

    def summary(self) -> dict[str, Any]:
        """What is stored in the model's metadata."""
        return {
            "wanted": {budget.name: budget.value for budget in self.budgets},
            "holds": self.trial is not None and self.trial.holds,
            "reached": [budget.reached(self.trial.measure) for budget in self.budgets if self.trial is not None],
            "float_multiply_adds": round(self.float_share, 4),
            "images": self.images,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "images": self.images,
            "layers": [_finite({**asdict(layer), "float": layer.name in self.kept}) for layer in self.layers],
            "budget": self.summary() if self.budgets else None,
            "models_run": self.runs,
            "warnings": list(self.warnings),
        }


def choose_precision(
    quantized: QuantizedModel, hold_out: HoldOutEvaluation, budgets: Sequence[Budget], *, quiet: bool = False
) -> PrecisionChoice:
    """Ranks the layers of a quantised model and leaves the fewest multiply-adds in float that keep the budgets.

    Args:
        quantized: The quantised model, with every layer quantised that may be.
        hold_out: Measures models, on images that calibration did not see.
        budgets: All must hold; if empty, the layers are only ranked.
        quiet: Show no progress.
    """
    layers = measure_sensitivity(quantized, hold_out, quiet=quiet)
    if not budgets:
        return PrecisionChoice(quantized, layers, (), (), None, 0, len(hold_out), ())
    with progress("budget", quiet=quiet) as advance:
        search = BudgetSearch(quantized, hold_out, layers, budgets, lambda: advance(1))
        trial = search.run()
    kept = tuple(layer.name for layer in layers if layer.name in trial.kept)
    reasons = _reasons(layers, search.errors, kept)
    return PrecisionChoice(
        quantized=keep_in_float(quantized, reasons) if kept else quantized,
        layers=layers,
        kept=kept,
        budgets=budgets,
        trial=trial,
        runs=len(search.trials),
        images=len(hold_out),
        warnings=_resolution(budgets, len(hold_out)),
    )


def _reasons(layers: Sequence[LayerSensitivity], errors: dict[str, float], kept: Sequence[str]) -> dict[str, str]:
    total_error, total_cost = sum(errors.values()) or 1.0, sum(layer.multiply_adds for layer in layers) or 1
    return {
        layer.name: f"kept in float by the budget: {100 * errors[layer.name] / total_error:.1f} % of the error of all "
        f"layers, {100 * layer.multiply_adds / total_cost:.1f} % of their multiply-adds"
        for layer in layers
        if layer.name in kept
    }


def _resolution(budgets: Sequence[Budget], images: int) -> list[str]:
    """Warnings about budgets that a single image can decide."""
    allowed = {budget: 100 - budget.value if budget.name == AGREEMENT else budget.value for budget in budgets}
    return [
        f"a budget of {budget.name}={budget.value:g} is finer than {images} images can resolve: one image is "
        f"{100 / images:.2g} points, so that a single one decides (--check-images, --check-from)"
        for budget, points in allowed.items()
        if budget.name in (TOP1, AGREEMENT) and points < 100 / images
    ]


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }
