"""The images for verification: the user's own if there are any, else seeded pictures."""

from __future__ import annotations

from dataclasses import dataclass

from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.images.sources import ImageSource, find_images
from googlenet_deploy.device.preprocess import crop_pixels, normalize
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadImageError, InputError, UsageError, requires

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
    """Images of the network's input size, before and after normalisation; of a network that takes frames, the frames.

    Attributes:
        pixels: uint8 (N, H, W, C): RGB, or luminance with C = 1; the input of a network with uint8 input.
        prepared: (N, C, H, W) or (N, H, W, C), float32 or uint8: the same images as the specification prepares them;
            the input of a network that takes frames.
        origin: A description of the images, for messages and metadata.
    """

    pixels: Pixels
    prepared: Prepared
    origin: str

    @classmethod
    def of_pixels(cls, pixels: Pixels, preprocessing: Preprocessing, origin: str) -> Samples:
        """Samples of these pixels, prepared by the specification."""
        return cls(pixels, prepare(pixels, preprocessing), origin)

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.pixels)


def seeded_samples(preprocessing: Preprocessing, count: int = SEEDED_COUNT, seed: int = 2014) -> Samples:
    """Smooth random pictures, the same for the same seed on every machine, prepared as the specification states."""
    pixels = smooth_pictures(count, preprocessing.pixel_size, len(preprocessing.channels), seed)
    return Samples.of_pixels(pixels, preprocessing, f"{count} seeded pictures")


def smooth_pictures(count: int, size: tuple[int, int], channels: int, seed: int) -> Pixels:
    """Random pictures with coarse and fine structure in the full range 0..255.

    White noise would be a poor replacement for photographs: after one stride-2 convolution and a max-pool all of its
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


def folder_samples(folder: PathLike, preprocessing: Preprocessing, count: int) -> Samples:
    """Reads up to `count` images, evenly spread over a folder's sorted files; unusable ones are counted in `origin`.

    Raises:
        InputError: The folder does not exist or holds no usable image.
    """
    sources = find_images([folder]).images
    chosen = [sources[index * len(sources) // count] for index in range(count)] if len(sources) > count else sources
    pixels: list[Pixels] = []
    problem = "contains no image"
    for source in chosen:
        try:
            pixels.append(_read(source, preprocessing))
        except (BadImageError, UsageError) as error:
            problem = f"no image can be used ({len(chosen)} tried); the last: {error.message}"
    if not pixels:
        raise InputError(folder, problem, "pass a folder of photographs with --images, or leave it out")
    skipped = len(chosen) - len(pixels)
    origin = f"{len(pixels)} real images" + (f" ({skipped} unusable ones skipped)" if skipped else "")
    return Samples.of_pixels(np.stack(pixels), preprocessing, origin)


def _read(source: ImageSource, preprocessing: Preprocessing) -> Pixels:
    mode = "L" if preprocessing.channels == "L" else "RGB"
    image = load_image(source.data if source.data is not None else source.name, name=source.name, mode=mode)
    return crop_pixels(image, preprocessing)
