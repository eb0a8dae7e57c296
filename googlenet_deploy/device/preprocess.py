"""From a decoded image to a network's input, exactly as a `Preprocessing` says.

The geometry: the short side is resized to `resize` pixels, the long side to ``round(resize * long / short)``, and the
crop starts at ``(size - crop) // 2``. torchvision cuts the long side off instead of rounding it, which moves a crop by
half a pixel at the most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

import numpy as np
from PIL import Image

from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.specification import Preprocessing

BACKENDS = ("pillow", "opencv")
# Pillow before 9.1, as in JetPack 5's Ubuntu, has the filters in the module itself.
_RESAMPLING = getattr(Image, "Resampling", Image)
_FILTERS = {
    "nearest": _RESAMPLING.NEAREST,
    "bilinear": _RESAMPLING.BILINEAR,
    "bicubic": _RESAMPLING.BICUBIC,
    "lanczos": _RESAMPLING.LANCZOS,
}


def preprocess(image: Image.Image, spec: Preprocessing, backend: str = "pillow") -> NDArray[np.generic]:
    """Resizes, crops and normalises one image.

    Args:
        image: Mode "RGB", or "L" where the specification has one channel.
        spec: What to do.
        backend: "pillow", whose resize is antialiased as in training, or "opencv", whose resize is not the same.

    Returns:
        An array of `spec.input_shape`, float32 or uint8 as `spec.dtype` says, C-contiguous.

    Raises:
        UsageError: The backend is unknown, or the image is smaller than the crop and may not be resized.
    """
    return normalize(crop_pixels(image, spec, backend), spec)


def crop_pixels(image: Image.Image, spec: Preprocessing, backend: str = "pillow") -> NDArray[np.uint8]:
    """Resizes and crops: uint8 (H, W, 3) in RGB order, or (H, W, 1)."""
    size = resized_size(image.width, image.height, spec)
    height, width = spec.crop
    if width > size[0] or height > size[1]:
        raise UsageError(f"an image of {size[0]} x {size[1]} pixels is smaller than the crop of {width} x {height}")
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    if backend == "opencv":
        from googlenet_deploy.device.images.opencv import resize  # noqa: PLC0415 - optional

        pixels = resize(np.asarray(image), size, spec.interpolation)[top : top + height, left : left + width]
    elif backend == "pillow":
        # Only the region that the crop keeps is resized; the filter still reaches beyond it into the image.
        x, y = image.width / size[0], image.height / size[1]
        box = (left * x, top * y, (left + width) * x, (top + height) * y)
        pixels = np.asarray(image.resize((width, height), _FILTERS[spec.interpolation], box=box))
    else:
        raise UsageError(f"unknown image backend {backend!r}: choose {' or '.join(BACKENDS)}")
    return pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels


def resized_size(width: int, height: int, spec: Preprocessing) -> Tuple[int, int]:
    """(width, height) after the resize of the short side."""
    if spec.resize is None:
        return width, height
    if width <= height:
        return spec.resize, round(spec.resize * height / width)
    return round(spec.resize * width / height), spec.resize


def normalize(pixels: NDArray[np.uint8], spec: Preprocessing) -> NDArray[np.generic]:
    """Channel order, ``(pixel * scale - mean) / std`` and layout, for uint8 (H, W, C) in RGB order."""
    if spec.channels == "BGR":
        pixels = pixels[:, :, ::-1]
    if spec.dtype == "uint8":
        return np.ascontiguousarray(pixels if spec.layout == "NHWC" else pixels.transpose(2, 0, 1))
    planes = np.empty((pixels.shape[2], *pixels.shape[:2]), np.float32)
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std)):
        np.multiply(pixels[:, :, channel], np.float32(spec.scale / std), out=planes[channel])
        planes[channel] -= np.float32(mean / std)
    return planes if spec.layout == "NCHW" else np.ascontiguousarray(planes.transpose(1, 2, 0))
