"""The images that verification feeds: real ones where the user has them, else seeded pictures."""

from __future__ import annotations

from dataclasses import dataclass

from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import requires

with requires("export"):
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

Pixels = npt.NDArray[np.uint8]
Prepared = npt.NDArray[np.float32]

SEEDED_COUNT = 8
# Octaves of the seeded pictures: cells per side and weight, coarse to fine, about 1/f as natural images have it.
_OCTAVES = ((2, 0.5), (7, 0.25), (28, 0.15), (112, 0.1))


@dataclass(frozen=True)
class Samples:
    """Images of the network's input size, before and after normalisation.

    Attributes:
        pixels: uint8 (N, H, W, C): RGB, or luminance with C = 1; what a network with uint8 input takes.
        prepared: float32 (N, C, H, W) or (N, H, W, C): the same images as a float network takes them.
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
    return Samples(pixels, normalise(pixels, preprocessing), f"{count} seeded pictures")


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


def normalise(pixels: Pixels, preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    """``(pixel * scale - mean) / std`` in the specification's channel order and layout.

    Args:
        pixels: uint8 (N, H, W, C), RGB or luminance.
        preprocessing: The specification; with dtype "uint8" the result holds the pixels' own values.

    Returns:
        float32 (N, C, H, W) or (N, H, W, C).
    """
    ordered = pixels[..., ::-1] if preprocessing.channels == "BGR" else pixels
    values = ordered.astype(np.float32) * np.float32(preprocessing.scale)
    values = (values - np.asarray(preprocessing.mean, np.float32)) / np.asarray(preprocessing.std, np.float32)
    if preprocessing.layout == "NCHW":
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values, dtype=np.float32)
