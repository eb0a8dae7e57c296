"""The images that verification feeds: real ones where the user has them, else seeded pictures."""

from __future__ import annotations

from dataclasses import dataclass

from googlenet_deploy.device.preprocess import normalize
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import requires

with requires("export"):
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

Pixels = npt.NDArray[np.uint8]
Prepared = npt.NDArray[np.generic]

SEEDED_COUNT = 8
# Octaves of the seeded pictures: cells per side and weight, coarse to fine, about 1/f as natural images have it.
_OCTAVES = ((2, 0.5), (7, 0.25), (28, 0.15), (112, 0.1))


@dataclass(frozen=True)
class Samples:
    """Images of the network's input size, before and after normalisation.

    Attributes:
        pixels: uint8 (N, H, W, C): RGB, or luminance with C = 1; what a network with uint8 input takes.
        prepared: (N, C, H, W) or (N, H, W, C), float32 or uint8: the same images as the specification prepares them.
        origin: What they are, for messages and metadata.
    """

    pixels: Pixels
    prepared: Prepared
    origin: str

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.pixels)


def seeded_samples(preprocessing: Preprocessing, count: int = SEEDED_COUNT, seed: int = 2014) -> Samples:
    """Smooth random pictures, the same for the same seed on every machine, prepared as the specification says."""
    pixels = smooth_pictures(count, preprocessing.crop, len(preprocessing.channels), seed)
    return Samples(pixels, prepare(pixels, preprocessing), f"{count} seeded pictures")


def smooth_pictures(count: int, size: tuple[int, int], channels: int, seed: int) -> Pixels:
    """Random pictures with coarse and fine structure in the full range 0..255.

    White noise would be a poor stand-in for photographs: after one stride-2 convolution and a max-pool all of its
    positions look alike, and every picture gets the same class.

    Returns:
        uint8 (count, height, width, channels).
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    height, width = size
    pictures = np.zeros((count, height, width, channels))
    for cells, weight in _OCTAVES:
        noise = generator.integers(0, 256, (count, cells, cells, channels), dtype=np.uint8)
        for picture, coarse in zip(pictures, noise, strict=True):
            for channel in range(channels):
                smooth = Image.fromarray(coarse[:, :, channel]).resize((width, height), Image.Resampling.BILINEAR)
                picture[:, :, channel] += weight * np.asarray(smooth, dtype=np.float64)
    low = pictures.min(axis=(1, 2, 3), keepdims=True)
    span = np.maximum(pictures.max(axis=(1, 2, 3), keepdims=True) - low, 1.0)
    scaled: Pixels = np.rint((pictures - low) * (255.0 / span)).astype(np.uint8)
    return scaled


def prepare(pixels: Pixels, preprocessing: Preprocessing) -> Prepared:
    """Normalises a batch, uint8 (N, H, W, C) in RGB order or luminance, with the device's own implementation."""
    return np.stack([normalize(picture, preprocessing) for picture in pixels])
