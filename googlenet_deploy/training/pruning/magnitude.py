"""Importance by magnitude: the norm of a channel's weights, relative to the layer's mean.

Where BatchNorm follows, the norm is that of the weights with it folded in (Li et al. 2017, "Pruning Filters for
Efficient ConvNets", section 3.1, with the Euclidean norm). It needs no images and no labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from googlenet_deploy.errors import requires

with requires("train"):
    import torch
    from torch import Tensor, nn

    from googlenet_deploy.model.blocks import ConvBlock
    from googlenet_deploy.model.widths import convolution_paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from googlenet_deploy.model.googlenet import GoogLeNet

SMALLEST = 1e-12  # of a layer whose weights are all zero


@torch.no_grad()
def score_channels(model: GoogLeNet, losses: Iterator[Tensor]) -> dict[str, Tensor]:
    """The importance of every channel; see `taylor.score_channels`. The loss is not used."""
    del losses
    found = {}
    for name, path in convolution_paths(model.architecture).items():
        norms = model.convolutions()[name].weight.flatten(1).double().norm(dim=1).cpu()
        block = model.get_submodule(path)
        norm = block.bn if isinstance(block, ConvBlock) else None
        if norm is not None:
            norms = norms * _folded_scale(norm).cpu()
        found[name] = norms / norms.mean().clamp_min(SMALLEST)
    return found


def _folded_scale(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_var is not None
    return norm.weight.double().abs() * torch.rsqrt(norm.running_var.double() + norm.eps)
