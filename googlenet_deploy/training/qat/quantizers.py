"""Fake quantisation: values rounded to what INT8 can represent, with gradients that let weights and scales learn.

A value becomes ``clip(round(x / scale), low, high) * scale`` in float32, halves rounded to even: what ONNX's
QuantizeLinear and DequantizeLinear compute. The gradients are those of Esser et al. 2020, "Learned Step Size
Quantization" (LSQ, ICLR 2020): straight through where nothing is clipped for the values (equation 5), and for the scale
``round(x / scale) - x / scale`` where nothing is clipped and the bound elsewhere (equation 3), times 1 / sqrt(count *
high) (section 2.2).
"""

from __future__ import annotations

import math
from typing import Any

from googlenet_deploy.errors import requires
from googlenet_deploy.quantization.weights import LARGEST_CODE

with requires("train"):
    import torch
    from torch import Tensor, nn

LOW = -128  # of activations: the int8 range; weights use -127..127
# A scale stays within these multiples of its initial value, so that training can recover from a wild step.
SMALLEST_CHANGE, LARGEST_CHANGE = 0.25, 4.0


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int, factor: float) -> Tensor:  # noqa: ANN401
        steps = x / scale
        codes = steps.round().clamp_(low, high)
        ctx.save_for_backward(steps, codes)
        ctx.low, ctx.high, ctx.factor, ctx.shape = low, high, factor, scale.shape
        return codes * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's own
        (gradient,) = gradients
        steps, codes = ctx.saved_tensors
        inside = (steps >= ctx.low) & (steps <= ctx.high)
        to_values = gradient * inside if ctx.needs_input_grad[0] else None
        to_scale = None
        if ctx.needs_input_grad[1]:
            slopes = torch.where(inside, codes - steps, codes)
            to_scale = (gradient * slopes).sum_to_size(ctx.shape) * ctx.factor
        return to_values, to_scale, None, None, None


def fake_quantize(x: Tensor, scale: Tensor, low: int = LOW, high: int = LARGEST_CODE, factor: float = 1.0) -> Tensor:
    """Rounds values to multiples of a scale.

    Args:
        x: float32 values of any shape.
        scale: float32, above 0, of a shape that broadcasts to `x`.
        low: Smallest code.
        high: Largest code.
        factor: Multiplies the scale's gradient.
    """
    result: Tensor = _FakeQuantize.apply(x, scale, low, high, factor)  # type: ignore[no-untyped-call]
    return result


class Scale(nn.Module):
    """One scale, or one per output channel.

    Args:
        initial: float32 (N,), all above 0.
        learned: Let training change them.
    """

    initial: Tensor

    def __init__(self, initial: Tensor, *, learned: bool) -> None:
        super().__init__()
        self.value = nn.Parameter(initial.clone(), requires_grad=learned)
        self.register_buffer("initial", initial.clone())

    def forward(self) -> Tensor:
        """float32 (N,), within bounds around the initial values."""
        return torch.clamp(self.value, self.initial * SMALLEST_CHANGE, self.initial * LARGEST_CHANGE)

    def change(self) -> Tensor:
        """The factor by which each was changed, float32 (N,)."""
        scales: Tensor = self()
        return (scales.detach() / self.initial).cpu()


class ActivationQuantizer(nn.Module):
    """Fake-quantises every tensor of one scale group.

    Args:
        scale: The group's scale.
        steps: Offset that the INT8 model subtracts from the tensors, in steps of the scale; code 0 represents it.
        learned: Let training change the scale.
    """

    def __init__(self, scale: float, steps: int = 0, *, learned: bool) -> None:
        super().__init__()
        self.scale = Scale(torch.tensor([scale], dtype=torch.float32), learned=learned)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, ...) to the same."""
        count = x.numel() // max(1, len(x))
        with torch.autocast(x.device.type, enabled=False):
            low, high = self.steps + LOW, self.steps + LARGEST_CODE
            return fake_quantize(x.float(), self.scale(), low, high, 1.0 / math.sqrt(count * high))

    def offset(self) -> float:
        """The offset that the INT8 model subtracts."""
        return self.steps * float(self.scale().item())

    # Bound methods, so that a copy of the network has hooks that call the copy's quantisers.
    def on_output(self, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        """A forward hook: quantises a module's output."""
        quantised: Tensor = self(output)
        return quantised

    def on_input(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """A forward pre-hook: quantises a module's input."""
        return (self(inputs[0]), *inputs[1:])


class WeightQuantizer(nn.Module):
    """A parametrisation that fake-quantises weights with a scale per output channel.

    Args:
        scales: float32 (channels,).
        learned: Let training change them.
    """

    def __init__(self, scales: Tensor, *, learned: bool) -> None:
        super().__init__()
        self.scale = Scale(scales, learned=learned)

    def forward(self, weight: Tensor) -> Tensor:
        """float32 weights, output channels first, to the same."""
        scales = self.scale().view(-1, *[1] * (weight.dim() - 1))
        count = weight.numel() // len(weight)
        return fake_quantize(weight, scales, -LARGEST_CODE, LARGEST_CODE, 1.0 / math.sqrt(count * LARGEST_CODE))
