"""The refinements by name, in the order in which they are applied; each is imported only when requested."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from googlenet_deploy.device.registry import load_member
from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from googlenet_deploy.quantization.quantize import ModelStep
    from googlenet_deploy.quantization.quantized_model import Refinement

EQUALIZE, WEIGHT_SCALES, OFFSET, BIAS, ROUNDING = "equalize", "weight-scales", "offset", "bias", "rounding"


class RefinementEntry(NamedTuple):
    """One refinement.

    Attributes:
        function: Where it is defined, see `device.registry`: a `ModelStep` or a `Refinement`.
        before_calibration: Whether it changes the FP32 model before calibration; else it changes the quantised model.
        learns: Whether it learns from images, and accepts the keywords `threads` and `quiet`.
        included_in: A refinement that includes this one, which is then left out.
    """

    function: str
    before_calibration: bool = False
    learns: bool = False
    included_in: str = ""


# The one registry of refinements; each builds on those before it.
REFINEMENTS: dict[str, RefinementEntry] = {
    EQUALIZE: RefinementEntry(
        "googlenet_deploy.quantization.refine.cross_layer_equalization:equalize_channels", before_calibration=True
    ),
    WEIGHT_SCALES: RefinementEntry("googlenet_deploy.quantization.refine.weight_mse:choose_weight_scales"),
    OFFSET: RefinementEntry("googlenet_deploy.quantization.refine.activation_offset:offset_activations"),
    # Learned rounding also finds the biases for its codes.
    BIAS: RefinementEntry(
        "googlenet_deploy.quantization.refine.bias_correction:correct_biases", learns=True, included_in=ROUNDING
    ),
    ROUNDING: RefinementEntry("googlenet_deploy.quantization.refine.learned_rounding:learn_rounding", learns=True),
}
SETS = {"none": (), "fast": (BIAS,), "best": (WEIGHT_SCALES, ROUNDING)}
DEFAULT = "fast"


def parse_refinements(text: str) -> list[str]:
    """Names and sets of refinements, separated by commas, as names in the order of their application.

    Raises:
        UsageError: A name is unknown.
    """
    wanted: list[str] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        if name not in REFINEMENTS and name not in SETS:
            raise UsageError(f"unknown refinement {name!r}: choose of {', '.join((*REFINEMENTS, *SETS))}")
        wanted += SETS.get(name, (name,))
    return [name for name in REFINEMENTS if name in wanted]


def need_images(names: Sequence[str]) -> bool:
    """Whether any of these refinements learns from images."""
    return any(REFINEMENTS[name].learns for name in names)


def refinement_steps(
    names: Sequence[str], *, threads: int | None = None, quiet: bool = False
) -> tuple[list[ModelStep], list[Refinement]]:
    """The functions behind the names: changes to the FP32 model before calibration, and to the quantised model."""
    applied = [
        (entry, load_member(entry.function))
        for name, entry in REFINEMENTS.items()
        if name in names and entry.included_in not in names
    ]
    before: list[ModelStep] = [function for entry, function in applied if entry.before_calibration]
    after: list[Refinement] = [
        partial(function, threads=threads, quiet=quiet) if entry.learns else function
        for entry, function in applied
        if not entry.before_calibration
    ]
    return before, after
