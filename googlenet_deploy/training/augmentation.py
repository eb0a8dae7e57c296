"""Variations of the training images: crops per image on the CPU, the rest per batch on the training's device.

=========  ==================================================================================================
natural    random area and aspect ratio, mirrored at random, brightness, contrast and saturation (photographs)
light      small rotations, shifts and changes of scale, never mirrored (digits, letters, parts in fixed pose)
none       the centre crop, as inference sees it
=========  ==================================================================================================

"natural" is section 6 of the GoogLeNet paper: patches of 8 to 100 % of the area with an aspect ratio from 3/4 to 4/3,
and the photometric distortions of Howard 2013, "Some Improvements on Deep Convolutional Neural Network Based Image
Classification". Batch transforms are Kornia's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from googlenet_deploy.errors import requires
from googlenet_deploy.training.images import centre, pixels, whole

with requires("train"):
    import torch
    from kornia import augmentation as kornia_augmentation
    from torch import Tensor, nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.training.images import Form
    from googlenet_deploy.training.options import TrainingOptions

ASPECT = (3 / 4, 4 / 3)
CROP_ATTEMPTS = 10
PHOTOMETRIC = 0.4  # brightness, contrast and saturation times 0.6 to 1.4
LIGHT_DEGREES, LIGHT_SHIFT, LIGHT_SCALE = 8.0, 0.06, (0.9, 1.1)


def kept_form(options: TrainingOptions) -> Form:
    """What is kept of each training image: `whole` for random crops, else `centre`."""
    return whole if options.augmentation == "natural" else centre


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
    if options.augmentation != "natural":
        return pixels(image)
    height, width = spec.crop
    box = random_box(image.width, image.height, options.min_area, generator)
    return pixels(image.resize((width, height), Image.Resampling.BILINEAR, box=box))


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
    """uint8 pixels to the network's input: Kornia's augmentation, then the specification's arithmetic.

    Random numbers are drawn from torch's global generator, which the loop seeds for each step.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, spec: Preprocessing, augmentation: str) -> None:
        super().__init__()
        self.reverse = spec.channels == "BGR"
        self.augment = _augmentation(augmentation, len(spec.channels))
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
        # Augmentation works on 0..1, the specification on 0..255.
        self.register_buffer("scale", 255.0 * spec.scale / std)
        self.register_buffer("shift", mean / std)

    @torch.no_grad()
    def forward(self, batch: Tensor) -> Tensor:
        """uint8 (N, C, H, W) in RGB order to float32 (N, C, H, W) in the specification's order."""
        x = batch.float() / 255.0
        if self.augment is not None:
            x = self.augment(x).clamp_(0.0, 1.0)
        if self.reverse:
            x = x.flip(1)
        return torch.addcmul(-self.shift, x, self.scale).contiguous(memory_format=torch.channels_last)


def _augmentation(name: str, channels: int) -> nn.Module | None:
    if name == "natural":
        saturation = PHOTOMETRIC if channels == 3 else 0.0
        return nn.Sequential(
            kornia_augmentation.RandomHorizontalFlip(p=0.5),
            kornia_augmentation.ColorJitter(PHOTOMETRIC, PHOTOMETRIC, saturation, p=0.8),
        )
    if name == "light":
        return nn.Sequential(
            kornia_augmentation.RandomAffine(
                LIGHT_DEGREES, (LIGHT_SHIFT, LIGHT_SHIFT), LIGHT_SCALE, padding_mode="border", p=1.0
            )
        )
    return None
