"""The optimiser of quantisation-aware training, whose learning rate counts in steps of INT8.

Weights of one layer may be a thousand times those of another, activations again, so one learning rate in their own
units fits none of them. Adam (Kingma and Ba 2015) moves every number by about its learning rate, which here is a
multiple of one step of the number's own quantisation: of its layer's mean weight scale; of a bias's largest value
over 127; and of a scale over 127, which moves the largest code by one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from googlenet_deploy.errors import requires
from googlenet_deploy.quantization.weights import LARGEST_CODE

with requires("train"):
    import torch
    from torch import Tensor, nn
    from torch.nn.utils import parametrize

    from googlenet_deploy.training.quantizers import Scale, WeightQuantizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from googlenet_deploy.model.googlenet import GoogLeNet

# Biases and scales are few, and what they do is smooth, so they may move faster than weights.
FASTER = 25.0
BETAS = (0.9, 0.99)
SMALLEST_STEP = 1e-12  # of a layer whose numbers are all zero


def qat_optimizer(model: GoogLeNet) -> torch.optim.Optimizer:
    """Adam over all numbers of a network that `insert_fake_quantization` changed; the loop sets learning rates."""
    return torch.optim.Adam(list(_groups(model)), lr=0.0, betas=BETAS)


def _groups(model: nn.Module) -> Iterator[dict[str, Any]]:
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            yield _group(*_weight_and_step(module))
            if module.bias is not None:
                yield _group(module.bias, FASTER * _largest(module.bias) / LARGEST_CODE)
        elif isinstance(module, Scale) and module.value.requires_grad:
            yield _group(module.value, FASTER * float(module.initial.mean()) / LARGEST_CODE)


def _weight_and_step(layer: nn.Conv2d | nn.Linear) -> tuple[Tensor, float]:
    if not parametrize.is_parametrized(layer, "weight"):
        return layer.weight, _largest(layer.weight) / LARGEST_CODE
    chain = layer.get_submodule("parametrizations.weight")
    weight = chain.get_parameter("original")
    quantizer = next((step for step in chain.children() if isinstance(step, WeightQuantizer)), None)
    step = _largest(weight) / LARGEST_CODE if quantizer is None else float(quantizer.scale.initial.mean())
    return weight, step


def _largest(values: Tensor) -> float:
    return float(values.detach().abs().max())


def _group(parameter: Tensor, step: float) -> dict[str, Any]:
    return {"params": [parameter], "lr_factor": max(step, SMALLEST_STEP)}
