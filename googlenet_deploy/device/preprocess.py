"""From a decoded image to a network's input, exactly as a `Preprocessing` says.

The geometry of mode "short-side": the short side is resized to `resize` pixels, the long side to
``round(resize * long / short)``, and the crop starts at ``(size - crop) // 2``. torchvision cuts the long side off
instead of rounding it, which moves a crop by half a pixel at the most. "stretch" resizes to `target` whatever the
image's shape; "letterbox" to the largest size of the image's shape that fits into `target`, centred in it, rounded to
whole pixels, the odd pixel of a bar on the right or at the bottom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

import numpy as np
from PIL import Image

from googlenet_deploy.device.images.plain_resize import resize_without_antialias
from googlenet_deploy.device.specification import IMAGE_BACKENDS
from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.specification import Preprocessing

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
    """Resizes and crops: uint8 (H, W, 3) in RGB order, or (H, W, 1).

    Raises:
        UsageError: The backend is unknown, or the image is smaller than the crop and may not be resized.
    """
    size = resized_size(image.width, image.height, spec)
    frame = (spec.target[1], spec.target[0]) if spec.resize_mode == "letterbox" else size
    height, width = spec.crop
    if width > frame[0] or height > frame[1]:
        raise UsageError(f"an image of {frame[0]} x {frame[1]} pixels is smaller than the crop of {width} x {height}")
    # Where the crop starts in the resized image; below 0 where it starts in a letterbox's bar.
    left = (frame[0] - width) // 2 - (frame[0] - size[0]) // 2
    top = (frame[1] - height) // 2 - (frame[1] - size[1]) // 2
    region = (max(left, 0), max(top, 0), min(left + width, size[0]), min(top + height, size[1]))
    pixels = _resized_region(image, size, region, spec, backend)
    pixels = pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels
    if pixels.shape[:2] == (height, width):
        return pixels
    filled = np.empty((height, width, pixels.shape[2]), np.uint8)
    filled[:] = spec.fill
    filled[region[1] - top : region[3] - top, region[0] - left : region[2] - left] = pixels
    return filled


def _resized_region(
    image: Image.Image, size: Tuple[int, int], region: Tuple[int, int, int, int], spec: Preprocessing, backend: str
) -> NDArray[np.uint8]:
    """The part (left, top, right, bottom) of the image resized to `size`, (width, height)."""
    left, top, right, bottom = region
    if backend == "opencv":
        from googlenet_deploy.device.images.opencv import resize  # noqa: PLC0415 - optional

        resized = resize(np.asarray(image), size, spec.interpolation, antialias=spec.antialias)
        return resized[top:bottom, left:right]
    if backend != "pillow":
        raise UsageError(f"unknown image backend {backend!r}: choose {' or '.join(IMAGE_BACKENDS)}")
    if not spec.antialias:
        return resize_without_antialias(np.asarray(image), size, region, spec.interpolation)
    # Only the region that the crop keeps is resized; the filter still reaches beyond it into the image.
    x, y = image.width / size[0], image.height / size[1]
    box = (left * x, top * y, right * x, bottom * y)
    return np.asarray(image.resize((right - left, bottom - top), _FILTERS[spec.interpolation], box=box))


def resized_size(width: int, height: int, spec: Preprocessing) -> Tuple[int, int]:
    """(width, height) of an image after the resize, without a letterbox's bars."""
    if spec.resize_mode == "stretch":
        return spec.target[1], spec.target[0]
    if spec.resize_mode == "letterbox":
        ratio = min(spec.target[1] / width, spec.target[0] / height)
        return max(1, round(width * ratio)), max(1, round(height * ratio))
    short = spec.short_side
    if short is None:
        return width, height
    if width <= height:
        return short, round(short * height / width)
    return round(short * width / height), short


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
