"""Mirroring, colour and lighting: the augmentations "natural" and "paper"; see `augmentation` for their sources."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from googlenet_deploy.errors import requires

with requires("train"):
    import torch
    from kornia.enhance import (
        adjust_brightness_accumulative,
        adjust_contrast_with_mean_subtraction,
        adjust_saturation_with_gray_subtraction,
    )
    from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Colour = Callable[[Tensor, Tensor], Tensor]
    Order = tuple[tuple[Colour, ...], Tensor]  # changes, and the rows of the images they apply to

NATURAL_STRENGTH, PAPER_STRENGTH = 0.4, 0.5  # factors from 1 - strength to 1 + strength
# Changes of colour by a factor per image; the last one is for colour images only.
COLOURS: tuple[Colour, ...] = (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
)
# Principal components of the RGB values (0..1) of ImageNet's training images: vectors in columns, and the square
# roots of their variances; as in facebook's fb.resnet.torch, from Krizhevsky et al. 2012, section 4.1.
LIGHTING_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
LIGHTING_VALUES = (0.2175, 0.0188, 0.0045)
LIGHTING_DEVIATION = 0.1


def natural() -> Photometric:
    """For photographs."""
    return Photometric(NATURAL_STRENGTH)


def paper() -> Photometric:
    """As section 6 of the paper: stronger colours, and lighting."""
    return Photometric(PAPER_STRENGTH, lighting=True)


class Photometric(nn.Module):
    """Mirrors half of the images; changes brightness, contrast and saturation in random order; lighting noise.

    Args:
        strength: Factors are uniform from 1 - strength to 1 + strength.
        lighting: Add noise along the principal components of natural colours.
    """

    components: Tensor

    def __init__(self, strength: float, *, lighting: bool = False) -> None:
        super().__init__()
        self.strength, self.lighting = strength, lighting
        values = torch.tensor(LIGHTING_VALUES) * LIGHTING_DEVIATION
        self.register_buffer("components", torch.tensor(LIGHTING_VECTORS) * values)

    def forward(self, x: Tensor, numbers: Tensor) -> Tensor:
        """float32 (N, C, H, W) in 0..1 to the same; `numbers` on the CPU."""
        orders = self._orders(numbers[:, 4], x)
        numbers = numbers.to(x.device, non_blocking=True)
        mirrored = (numbers[:, 0] < 0.5).view(-1, 1, 1, 1)
        x = self._colours(torch.where(mirrored, x.flip(3), x), numbers, orders)
        if self.lighting and x.shape[1] == 3:
            noise = torch.special.ndtri(numbers[:, 5:8].clamp(1e-6, 1 - 1e-6)) @ self.components.T
            x = (x + noise.view(-1, 3, 1, 1)).clamp_(0.0, 1.0)
        return x

    def _colours(self, x: Tensor, numbers: Tensor, orders: Sequence[Order]) -> Tensor:
        factors = 1.0 + self.strength * (2.0 * numbers[:, 1:4] - 1.0)
        result = torch.empty_like(x)
        for steps, rows in orders:
            if len(rows):
                part, own = x[rows], factors[rows]
                for change in steps:
                    part = change(part, own[:, COLOURS.index(change)])
                result[rows] = part
        return result

    @staticmethod
    def _orders(numbers: Tensor, x: Tensor) -> list[Order]:
        """Computed on the CPU: reading from a GPU which image uses which order would synchronise with it."""
        orders = list(itertools.permutations(COLOURS if x.shape[1] == 3 else COLOURS[:2]))
        chosen = (numbers * len(orders)).long().clamp(max=len(orders) - 1)
        counts = chosen.bincount(minlength=len(orders)).tolist()
        rows = chosen.argsort(stable=True).to(x.device, non_blocking=True)
        return list(zip(orders, torch.split(rows, counts), strict=True))
