"""The exponential moving average of the weights, which is what is measured and saved.

The paper averages as Polyak and Juditsky 1992 do; an exponential average forgets the beginning, so it serves from the
first epoch on. BatchNorm's statistics are averaged as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from googlenet_deploy.errors import requires

with requires("train"):
    import torch
    from torch import Tensor
    from torch.optim.swa_utils import AveragedModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from googlenet_deploy.model.googlenet import GoogLeNet

    Tensors = tuple[Tensor, ...] | list[Tensor]

MIN_WINDOW, MAX_WINDOW, STEPS_PER_WINDOW = 10, 10_000, 20


def default_decay(steps: int) -> float:
    """A window of one twentieth of the run, between 10 and 10,000 steps: a longer one would lag behind at the end."""
    return 1.0 - 1.0 / min(MAX_WINDOW, max(MIN_WINDOW, steps / STEPS_PER_WINDOW))


def averaged(model: GoogLeNet, decay: float) -> AveragedModel:
    """A copy of `model` that follows it; `update_parameters(model)` after each step. Decay 0 copies the weights."""
    return AveragedModel(model, multi_avg_fn=_update(decay), use_buffers=True)


def _update(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    @torch.no_grad()
    def update(averages: Tensors, currents: Tensors, updates: Tensor | int) -> None:
        # Early on the average covers all steps so far, as if the window grew with them.
        count = float(updates)
        weight = 1.0 - min(decay, count / (count + 9.0))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, currents, weight)
        else:
            torch._foreach_copy_(averages, currents)

    return update
