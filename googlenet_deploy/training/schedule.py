"""The learning rate as a function of how many epochs have passed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from googlenet_deploy.training.options import TrainingOptions

STEP_EPOCHS, STEP_FACTOR = 8, 0.96  # section 6 of the GoogLeNet paper: "by 4% every 8 epochs"


def learning_rate(options: TrainingOptions, peak: float, epoch: float) -> float:
    """The learning rate of a step.

    Args:
        options: The run's options: schedule, epochs and warm-up.
        peak: The highest learning rate.
        epoch: Epochs that have passed when the step ends, so above 0 and at most `options.epochs`.
    """
    warmup = min(options.warmup_epochs, options.epochs / 2)
    if epoch < warmup:
        return peak * epoch / warmup
    if options.schedule == "step":
        return float(peak * STEP_FACTOR ** math.floor((epoch - warmup) / STEP_EPOCHS))
    remaining = (options.epochs - epoch) / (options.epochs - warmup)
    return peak * 0.5 * (1.0 - math.cos(math.pi * remaining))
