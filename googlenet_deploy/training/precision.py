"""Mixed precision: convolutions in bfloat16 or float16, weights and all accumulations in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from googlenet_deploy.errors import requires

with requires("train"):
    import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingPrecision:
    """Carries out forward and backward passes in one of three precisions.

    The range of float16 is too small for gradients, so the loss is scaled up and the gradients down again, as torch's
    `GradScaler` does; a step whose gradients overflow is skipped.

    Args:
        name: "fp32", "bf16" or "fp16".
        device: Where the network runs.

    Attributes:
        left_out: Steps skipped since the caller last set it to 0.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.type, self.device, self.left_out = TYPES.get(name), device, 0
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def forward(self) -> AbstractContextManager[Any]:
        """The context in which the network is called."""
        return nullcontext() if self.type is None else torch.autocast(self.device.type, dtype=self.type)

    def backward(self, loss: Tensor) -> None:
        """Accumulates the loss's gradients."""
        torch.autograd.backward(self.scaler.scale(loss))

    def step(self, optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor], clip: float | None) -> None:
        """One optimiser step, with the global norm of the gradients clipped to `clip`."""
        if clip is not None:
            self.scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        scale = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        self.left_out += self.scaler.get_scale() < scale

    def state(self) -> dict[str, Any]:
        """What a later run needs to resume; JSON-serialisable numbers."""
        return dict(self.scaler.state_dict())

    def restore(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        if state:
            self.scaler.load_state_dict(state)
