"""The exponential moving average of the weights; the averaged weights are the ones evaluated and saved.

The paper averages as Polyak and Juditsky 1992 do; an exponential average forgets the beginning, so it is usable from
the first epoch on. BatchNorm's statistics are averaged as well.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from googlenet_deploy.errors import requires

with requires("train"):
    import torch
    from torch import Tensor, nn

if TYPE_CHECKING:
    from googlenet_deploy.model.googlenet import GoogLeNet

MIN_WINDOW, MAX_WINDOW, STEPS_PER_WINDOW = 10, 10_000, 20


def default_decay(steps: int) -> float:
    """A window of one twentieth of the run, between 10 and 10,000 steps: a longer one would lag behind at the end."""
    return 1.0 - 1.0 / min(MAX_WINDOW, max(MIN_WINDOW, steps / STEPS_PER_WINDOW))


class Average(nn.Module):
    """A copy of a network whose weights and statistics are the average of that network's.

    It is torch's `AveragedModel`, state included, but collects the tensors once: walking a network in Python takes
    longer than averaging it.

    Args:
        model: The network; from here on its tensors may change their values but must not be replaced.
        decay: Decay of the average; 0 copies the weights.

    Attributes:
        module: The copy.
        n_averaged: Number of steps that the average covers.
    """

    n_averaged: Tensor

    def __init__(self, model: GoogLeNet, decay: float) -> None:
        super().__init__()
        self.module, self.decay = copy.deepcopy(model), decay
        self.register_buffer("n_averaged", torch.tensor(0))
        ours, theirs = (_by_kind(part) for part in (self.module, model))
        (self._averages, self._counters), (self._currents, self._counted) = ours, theirs

    @torch.no_grad()
    def update(self) -> None:
        """Adds the network's current values to the average; call after each step."""
        count = int(self.n_averaged)
        # Early on the average covers all steps so far, as if the window grew with them.
        decay = min(self.decay, count / (count + 9.0))
        torch._foreach_lerp_(self._averages, self._currents, 1.0 - decay)
        if self._counters:
            torch._foreach_copy_(self._counters, self._counted)
        self.n_averaged += 1


def _by_kind(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters and buffers: floating-point tensors, and counters."""
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    return [x for x in tensors if x.is_floating_point()], [x for x in tensors if not x.is_floating_point()]
