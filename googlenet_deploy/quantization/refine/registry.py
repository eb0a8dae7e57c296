"""The refinements by name, and in the order in which they are applied; imports them only when they are asked for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from googlenet_deploy.quantization.quantize import ModelStep
    from googlenet_deploy.quantization.quantized_model import Refinement

EQUALIZE, WEIGHT_SCALES, OFFSET, BIAS, ROUNDING = "equalize", "weight-scales", "offset", "bias", "rounding"
# Each builds on those ahead of it.
REFINEMENTS = (EQUALIZE, WEIGHT_SCALES, OFFSET, BIAS, ROUNDING)
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
    return BIAS in names or ROUNDING in names


def refinement_steps(
    names: Sequence[str], *, threads: int | None = None, quiet: bool = False
) -> tuple[list[ModelStep], list[Refinement]]:
    """The functions behind the names: changes of the FP32 model ahead of calibration, and of the quantised model."""
    from googlenet_deploy.quantization.refine.activation_offset import offset_activations  # noqa: PLC0415
    from googlenet_deploy.quantization.refine.bias_correction import correct_biases  # noqa: PLC0415 - ONNX Runtime
    from googlenet_deploy.quantization.refine.cross_layer_equalization import equalize_channels  # noqa: PLC0415
    from googlenet_deploy.quantization.refine.learned_rounding import learn_rounding  # noqa: PLC0415
    from googlenet_deploy.quantization.refine.weight_mse import choose_weight_scales  # noqa: PLC0415

    known: dict[str, Refinement] = {
        WEIGHT_SCALES: choose_weight_scales,
        OFFSET: offset_activations,
        BIAS: partial(correct_biases, threads=threads, quiet=quiet),
        ROUNDING: partial(learn_rounding, threads=threads, quiet=quiet),
    }
    # Learned rounding finds the biases that belong to its codes.
    applied = [name for name in names if name != BIAS or ROUNDING not in names]
    before: list[ModelStep] = [equalize_channels] if EQUALIZE in applied else []
    return before, [known[name] for name in REFINEMENTS if name in applied and name in known]
