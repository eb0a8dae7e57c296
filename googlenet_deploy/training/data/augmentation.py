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

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from googlenet_deploy.device.registry import load_member
from googlenet_deploy.errors import requires
from googlenet_deploy.training.data.image_cache import centre, pixels, whole
from googlenet_deploy.training.options import AUGMENTATIONS

with requires("train"):
    import torch
    from torch import Tensor, nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.training.data.image_cache import Form
    from googlenet_deploy.training.options import TrainingOptions


# Uniform numbers per image. Photographs: mirroring, brightness, contrast, saturation, their order, three of lighting.
RANDOM_NUMBERS = 8
ASPECT = (3 / 4, 4 / 3)
CROP_ATTEMPTS = 10
INTERPOLATIONS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BOX,
    Image.Resampling.NEAREST,
    Image.Resampling.BICUBIC,
)


def kept_form(options: TrainingOptions) -> Form:
    """The form in which training images are kept: `whole` for random crops, otherwise `centre`."""
    return whole if AUGMENTATIONS[options.augmentation].random_crops else centre


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
    entry = AUGMENTATIONS[options.augmentation]
    if not entry.random_crops:
        return pixels(image)
    height, width = spec.crop
    box = random_box(image.width, image.height, options.min_area, generator)
    choice = generator.integers(len(INTERPOLATIONS)) if entry.random_interpolation else 0
    return pixels(image.resize((width, height), INTERPOLATIONS[choice], box=box))


def random_box(
    width: int, height: int, min_area: float, generator: np.random.Generator
) -> tuple[float, float, float, float]:
    """A crop of random area, aspect ratio and place: (left, top, right, bottom) in pixels.

    If no attempt fits, which only happens with very elongated images, it is the largest centred square.
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
        augmentation: One of `options.AUGMENTATIONS`.
        channels_last: Return inputs in NHWC memory order.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, spec: Preprocessing, augmentation: str, *, channels_last: bool = True) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.reverse = spec.channels == "BGR"
        place = AUGMENTATIONS[augmentation].transform
        self.augment: nn.Module | None = load_member(place)() if place else None
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
        # Augmentation works on 0..1, the specification on 0..255.
        self.register_buffer("scale", 255.0 * spec.scale / std)
        self.register_buffer("shift", mean / std)

    @torch.no_grad()
    def forward(self, batch: Tensor, numbers: Tensor) -> Tensor:
        """uint8 (N, C, H, W) in RGB order to float32 (N, C, H, W) in the specification's order.

        `numbers`, float32 (N, `RANDOM_NUMBERS`), are uniform in 0..1 and on the CPU.
        """
        x = batch.float() / 255.0
        if self.augment is not None:
            x = self.augment(x, numbers)
        if self.reverse:
            x = x.flip(1)
        return torch.addcmul(-self.shift, x, self.scale).contiguous(memory_format=self.memory_format)
