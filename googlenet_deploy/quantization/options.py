"""How `quantize` stores weights, what it checks, and what a budget keeps in float; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from googlenet_deploy.calibration.options import CacheOptions, CalibrationOptions, ImageOptions
from googlenet_deploy.device.options import check_options, option
from googlenet_deploy.errors import UsageError
from googlenet_deploy.evaluation.gates import OF_A_REFERENCE

PLACEMENT, CHECK, MIXED = "layers to quantise", "check", "mixed precision"
WEIGHT_FORMS = ("float", "int8")
CHECK_IMAGES, BUDGET_IMAGES = 64, 256


@dataclass(frozen=True)
class WeightOptions:
    """How weights are stored.

    Attributes:
        weights: One of `WEIGHT_FORMS`; None lets the target decide, see `weights_for`.
    """

    weights: str | None = option(
        None,
        "store weights as float before Q/DQ, which every TensorRT reads, or as INT8 before DQ, in a quarter of the "
        "space",
        group=PLACEMENT,
        choices=WEIGHT_FORMS,
        shown_default="int8 where --target reads it, TensorRT 8.5 or later; else float",
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class CheckOptions:
    """How the result is compared with the FP32 model.

    Attributes:
        check_images: The largest number of hold-out images; 0 compares nothing, None chooses by the budget.
        check_from: Where they are; None uses those that calibration did not draw.
        require: The smallest values that the result must reach, by name.
        keep_doubtful: Write a ruined result too.

    Raises:
        UsageError: A number is out of range, or a name is unknown.
    """

    check_images: int | None = option(
        None, "compare with FP32 on N images; 0 compares nothing", group=CHECK, metavar="N", least=0,
        shown_default=f"{CHECK_IMAGES}, with a budget {BUDGET_IMAGES}",
    )  # fmt: skip
    check_from: str | None = option(
        None, "where these images are: a folder, a pattern or a list", group=CHECK, metavar="PATH",
        shown_default="those of --images that calibration did not draw",
    )  # fmt: skip
    require: Mapping[str, float] = option(
        dict, "exit with status 3 where agreement (percent) or sqnr (dB) is below; may be repeated", group=CHECK,
        metavar="NAME=VALUE",
    )  # fmt: skip
    keep_doubtful: bool = option(False, "write the result even where the check finds it ruined", group=CHECK)

    def __post_init__(self) -> None:
        check_options(self)
        for name in self.require:
            if name not in OF_A_REFERENCE:
                raise UsageError(f"--require {name}: choose {' or '.join(OF_A_REFERENCE)}")


@dataclass(frozen=True)
class BudgetOptions:
    """Accuracy budgets, and the layers' sensitivity.

    Attributes:
        budget: The largest loss or the smallest value allowed, by name.
        sensitivity: A file for what each layer's quantisation costs and saves.
        labels: Classes of the hold-out images, for a budget on top1.

    Raises:
        UsageError: Labels are given that nothing would read.
    """

    budget: Mapping[str, float] = option(
        dict,
        "leave the fewest multiply-adds in float that keep it: top1 (percentage points that may be lost), agreement "
        "(percent of the best classes that stay) or sqnr (dB of the scores); exit with status 3 where that cannot be "
        "done; may be repeated",
        group=MIXED,
        metavar="NAME=VALUE",
    )
    sensitivity: str | None = option(
        None, "what each layer's quantisation costs and saves, as JSON; takes minutes", group=MIXED, metavar="FILE"
    )
    labels: str | None = option(None, "CSV of filename,label, for a budget on top1", group=MIXED, metavar="FILE")

    def __post_init__(self) -> None:
        if self.labels and "top1" not in self.budget:
            raise UsageError("--labels is for a budget on top1: pass --budget top1=VALUE")

    @property
    def wanted(self) -> bool:
        """Whether hold-out images are needed at all."""
        return bool(self.budget or self.sensitivity)


@dataclass(frozen=True)
class QuantizeRequest:
    """The request, by option group."""

    images: ImageOptions
    calibration: CalibrationOptions
    cache: CacheOptions
    budget: BudgetOptions
    check: CheckOptions

    @property
    def hold_out_place(self) -> str | None:
        """Where hold-out images come from; None without hold-out images."""
        return self.check.check_from or self.images.images

    @property
    def hold_out_count(self) -> int:
        """Number of hold-out images: --check-images if given, else more for a budget than for a check."""
        if self.check.check_images is not None:
            return self.check.check_images
        return BUDGET_IMAGES if self.budget.budget else CHECK_IMAGES

    @property
    def has_hold_out(self) -> bool:
        """Whether anything can be compared."""
        return bool(self.hold_out_place) and self.hold_out_count > 0
