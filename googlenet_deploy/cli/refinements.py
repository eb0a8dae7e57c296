"""The option for what goes beyond plain rounding."""

from __future__ import annotations

import argparse
from typing import List

from googlenet_deploy.errors import UsageError
from googlenet_deploy.quantization.refine.registry import DEFAULT, EQUALIZE, SETS, need_images, parse_refinements

HELP = (
    "a comma-separated list of refinements: equalize (like ranges for channels of one tensor, by scaling neighbouring "
    "layers), weight-scales (smallest squared error instead of the largest weight), offset (use the codes below zero "
    "behind ReLUs, where nothing pads), bias (make up for the shift of each layer's mean), rounding (learned rounding "
    "of the weights, with bias); or none, fast (bias), best (weight-scales, rounding). All are free on the device, but "
    "offset, which turns some ReLUs into clips. Default: fast, with a --table none"
)


def add_refinement_options(group: argparse._ArgumentGroup) -> None:
    """The option --refine."""
    group.add_argument("--refine", metavar="LIST", help=HELP)


def chosen_refinements(arguments: argparse.Namespace) -> List[str]:
    """What is applied, checked against what else was given.

    Raises:
        UsageError: A name is unknown, or a refinement cannot be applied to what is at hand.
    """
    if arguments.refine is None:
        return [] if arguments.table else list(SETS[DEFAULT])
    names = parse_refinements(arguments.refine)
    if EQUALIZE in names:
        for option in ("table", "save_table", "cache"):
            if getattr(arguments, option):
                raise UsageError(
                    f"--refine equalize changes the model ahead of calibration, so --{option.replace('_', '-')} would "
                    "belong to another model",
                    "leave one of them out",
                )
    if not arguments.images and need_images(names):
        raise UsageError("--refine bias and rounding need --images", "give the images of the calibration too")
    return names
