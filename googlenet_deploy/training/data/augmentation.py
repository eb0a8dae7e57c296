"""Variations of the training images: crops per image on the CPU, the rest per batch on the training's device.

=========  ==================================================================================================
natural    random area and aspect ratio, mirrored at random, brightness, contrast and saturation (photographs)
paper      as natural, with all that section 6 of the paper names: stronger colours, lighting, random interpolation
light      small rotations, shifts and changes of scale, never mirrored (digits, letters, parts in fixed pose)
none       the centre crop, as inference sees it
=========  ==================================================================================================

Section 6 of the GoogLeNet paper: patches of 8 to 100 % of the area, spread evenly, with an aspect ratio of 3/4 to 4/3;
the photometric distortions of Howard 2013, "Some Improvements on Deep Convolutional Neural Network Based Image
Classification" (contrast, brightness and colour in random order, each by a factor from 0.5 to 1.5, then the lighting
noise of Krizhevsky et al. 2012, section 4.1); bilinear, area, nearest or cubic interpolation with equal probability.

What happens to an image depends on its own random numbers alone, never on the batch around it. The operations are
Kornia's.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from googlenet_deploy.errors import requires
from googlenet_deploy.training.data.image_cache import centre, pixels, whole
from googlenet_deploy.training.options import RANDOM_CROPS

with requires("train"):
    import torch
    from kornia.enhance import (
        adjust_brightness_accumulative,
        adjust_contrast_with_mean_subtraction,
        adjust_saturation_with_gray_subtraction,
    )
    from kornia.geometry.transform import get_affine_matrix2d, warp_affine
    from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.training.data.image_cache import Form
    from googlenet_deploy.training.options import TrainingOptions

    Colour = Callable[[Tensor, Tensor], Tensor]
    Order = tuple[tuple[Colour, ...], Tensor]  # changes, and the rows of the images that take them

# Uniform numbers per image. Photographs: mirroring, brightness, contrast, saturation, their order, three of lighting.
RANDOM_NUMBERS = 8
ASPECT = (3 / 4, 4 / 3)
CROP_ATTEMPTS = 10
NATURAL_STRENGTH, PAPER_STRENGTH = 0.4, 0.5  # factors from 1 - strength to 1 + strength
LIGHT_DEGREES, LIGHT_SHIFT, LIGHT_SCALE = 8.0, 0.06, 0.1
INTERPOLATIONS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BOX,
    Image.Resampling.NEAREST,
    Image.Resampling.BICUBIC,
)
# Changes of colour by a factor per image; the last one is for coloured images alone.
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


def kept_form(options: TrainingOptions) -> Form:
    """What is kept of each training image: `whole` for random crops, else `centre`."""
    return whole if options.augmentation in RANDOM_CROPS else centre


def cut_sample(
    image: Image.Image, spec: Preprocessing, options: TrainingOptions, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """One training sample: uint8 (H, W, C), RGB or grey, of the specification's crop.

    Args:
        image: In the form that `kept_form` names.
        spec: How images are prepared.
        options: The run's options.
        generator: The sample's own random numbers.
    """
    if options.augmentation not in RANDOM_CROPS:
        return pixels(image)
    height, width = spec.crop
    box = random_box(image.width, image.height, options.min_area, generator)
    choice = generator.integers(len(INTERPOLATIONS)) if options.augmentation == "paper" else 0
    return pixels(image.resize((width, height), INTERPOLATIONS[choice], box=box))


def random_box(
    width: int, height: int, min_area: float, generator: np.random.Generator
) -> tuple[float, float, float, float]:
    """A crop of random area, aspect ratio and place: (left, top, right, bottom) in pixels.

    Where no attempt fits, which only very long images bring about, it is the largest centred square.
    """
    for _ in range(CROP_ATTEMPTS):
        area = width * height * generator.uniform(min_area, 1.0)
        aspect = math.exp(generator.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if w <= width and h <= height:
            left, top = generator.uniform(0, width - w), generator.uniform(0, height - h)
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


class BatchTransform(nn.Module):
    """uint8 pixels to the network's input: augmentation, then the specification's arithmetic.

    Args:
        spec: How images are prepared.
        augmentation: One of the four of the module's table.
        channels_last: Give inputs in NHWC memory order.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, spec: Preprocessing, augmentation: str, *, channels_last: bool = True) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.reverse = spec.channels == "BGR"
        self.augment = _augmentation(augmentation)
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
        # Augmentation works on 0..1, the specification on 0..255.
        self.register_buffer("scale", 255.0 * spec.scale / std)
        self.register_buffer("shift", mean / std)

    @torch.no_grad()
    def forward(self, batch: Tensor, numbers: Tensor) -> Tensor:
        """uint8 (N, C, H, W) in RGB order to float32 (N, C, H, W) in the specification's order.

        `numbers`, float32 (N, `RANDOM_NUMBERS`), are uniform in 0..1 and lie on the CPU.
        """
        x = batch.float() / 255.0
        if self.augment is not None:
            x = self.augment(x, numbers)
        if self.reverse:
            x = x.flip(1)
        return torch.addcmul(-self.shift, x, self.scale).contiguous(memory_format=self.memory_format)


def _augmentation(name: str) -> nn.Module | None:
    if name == "none":
        return None
    if name == "light":
        return Affine()
    return Photometric(PAPER_STRENGTH, lighting=True) if name == "paper" else Photometric(NATURAL_STRENGTH)


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
        """Found on the CPU: reading from a GPU which images take which order would wait for it."""
        orders = list(itertools.permutations(COLOURS if x.shape[1] == 3 else COLOURS[:2]))
        chosen = (numbers * len(orders)).long().clamp(max=len(orders) - 1)
        counts = chosen.bincount(minlength=len(orders)).tolist()
        rows = chosen.argsort(stable=True).to(x.device, non_blocking=True)
        return list(zip(orders, torch.split(rows, counts), strict=True))


class Affine(nn.Module):
    """Small random rotations, shifts and changes of scale; what comes in from outside repeats the border."""

    def forward(self, x: Tensor, numbers: Tensor) -> Tensor:
        """float32 (N, C, H, W) in 0..1 to the same."""
        height, width = x.shape[2:]
        signed = 2.0 * numbers.to(x.device, non_blocking=True) - 1.0
        size = torch.tensor([width, height], dtype=x.dtype, device=x.device)
        matrix = get_affine_matrix2d(
            translations=signed[:, 1:3] * LIGHT_SHIFT * size,
            center=((size - 1.0) / 2.0).expand(len(x), 2),
            scale=(1.0 + LIGHT_SCALE * signed[:, 3:4]).expand(-1, 2),
            angle=signed[:, 0] * LIGHT_DEGREES,
        )
        moved: Tensor = warp_affine(x, matrix[:, :2], (height, width), padding_mode="border", align_corners=False)
        return moved.clamp_(0.0, 1.0)
