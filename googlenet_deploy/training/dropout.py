"""Dropout independent of the number of processes: one mask for a whole step, of which each process takes its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from googlenet_deploy.errors import requires

with requires("train"):
    import torch
    from torch import Tensor, nn

if TYPE_CHECKING:
    from googlenet_deploy.training.data.batches import Rows


class StepDropout(nn.Module):
    """Zeroes a share of the activations while training, and scales the others up.

    The mask comes from torch's global generator, which the loop seeds equally for every part of a step.

    Args:
        p: The share of activations that is zeroed.

    Attributes:
        rows: Position of the next forward pass's images within the step; None if they are all of the step's images.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.rows: Rows | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels) to the same."""
        if not self.training or self.p == 0.0:
            return x
        start, stop, total = self.rows or (0, len(x), len(x))
        mask = torch.rand(total, x.shape[1], device=x.device)[start:stop] >= self.p
        return x * mask.to(x.dtype).div_(1.0 - self.p)

    def extra_repr(self) -> str:
        """The share, for `print(model)`."""
        return f"p={self.p}"


def use_step_dropout(model: nn.Module) -> list[StepDropout]:
    """Replaces every `nn.Dropout` of a model; returns the replacements."""
    placed = []
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Dropout):
                replacement = StepDropout(child.p)
                setattr(module, name, replacement)
                placed.append(replacement)
    return placed


def step_dropouts(model: nn.Module) -> list[StepDropout]:
    """The `StepDropout` modules of a model."""
    return [module for module in model.modules() if isinstance(module, StepDropout)]
