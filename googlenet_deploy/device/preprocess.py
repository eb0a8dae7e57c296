"""From a decoded image to a network's input, exactly as a `Preprocessing` specifies.

The geometry of mode "short-side": the short side is resized to `resize` pixels, the long side to
``round(resize * long / short)``, and the crop starts at ``(size - crop) // 2``. torchvision truncates the long side
instead of rounding it, which moves a crop by at most half a pixel. "stretch" resizes to `target` whatever the image's
shape; "letterbox" to the largest size with the image's aspect ratio that fits into `target`, centred, rounded to whole
pixels, with the odd pixel of a bar on the right or at the bottom.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Tuple

import numpy as np
from PIL import Image

from googlenet_deploy.device.images.nv12 import to_nv12
from googlenet_deploy.device.images.plain_resize import resize_without_antialias
from googlenet_deploy.device.specification import IMAGE_BACKENDS
from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.specification import Preprocessing

# Pillow before 9.1, as in JetPack 5's Ubuntu, has the filters in the module itself.
_RESAMPLING = getattr(Image, "Resampling", Image)
FILTERS = {
    "nearest": _RESAMPLING.NEAREST,
    "bilinear": _RESAMPLING.BILINEAR,
    "bicubic": _RESAMPLING.BICUBIC,
    "lanczos": _RESAMPLING.LANCZOS,
}


def preprocess(image: Image.Image, spec: Preprocessing, backend: str = "pillow") -> NDArray[np.generic]:
    """Resizes, crops and normalises one image.

    Args:
        image: Mode "RGB", or "L" if the specification has one channel.
        spec: The specification.
        backend: "pillow", whose resize is antialiased as in training, or "opencv", whose resize is not the same.

    Returns:
        A C-contiguous array of `spec.input_shape`, of type `spec.dtype` (float32 or uint8).

    Raises:
        UsageError: The backend is unknown, or the image is smaller than the crop and may not be resized.
    """
    return normalize(crop_pixels(image, spec, backend), spec)


def crop_pixels(image: Image.Image, spec: Preprocessing, backend: str = "pillow") -> NDArray[np.uint8]:
    """Resizes and crops: uint8 (H, W, 3) in RGB order, or (H, W, 1); for a network that takes frames, the frame.

    Raises:
        UsageError: The backend is unknown, or the image is smaller than the crop and may not be resized, or it cannot
            become a frame.
    """
    if spec.frame is not None:
        return frame_pixels(image, spec, backend)
    place = crop_placement(image.width, image.height, spec)
    pixels = _with_channels(_resized_region(image, place.size, place.region, spec, backend))
    height, width = spec.crop
    if pixels.shape[:2] == (height, width):
        return pixels
    filled = np.empty((height, width, pixels.shape[2]), np.uint8)
    filled[:] = spec.fill
    filled[place.top : place.top + pixels.shape[0], place.left : place.left + pixels.shape[1]] = pixels
    return filled


class CropPlacement(NamedTuple):
    """The position of a crop in the resized image.

    Attributes:
        size: (width, height) of the whole resized image.
        region: (left, top, right, bottom) of what the crop keeps of it.
        left: Where the region is in the crop; above 0 right of a letterbox's bar.
        top: The same, below a bar.
    """

    size: Tuple[int, int]
    region: Tuple[int, int, int, int]
    left: int
    top: int


def crop_placement(width: int, height: int, spec: Preprocessing) -> CropPlacement:
    """The geometry of resize and crop for an image of this size; `frame` is ignored.

    Raises:
        UsageError: The image is smaller than the crop and may not be resized.
    """
    size = resized_size(width, height, spec)
    whole = (spec.target[1], spec.target[0]) if spec.resize_mode == "letterbox" else size
    high, wide = spec.crop
    if wide > whole[0] or high > whole[1]:
        raise UsageError(f"an image of {whole[0]} x {whole[1]} pixels is smaller than the crop of {wide} x {high}")
    # Where the crop starts in the resized image; below 0 where it starts in a letterbox's bar.
    left = (whole[0] - wide) // 2 - (whole[0] - size[0]) // 2
    top = (whole[1] - high) // 2 - (whole[1] - size[1]) // 2
    region = (max(left, 0), max(top, 0), min(left + wide, size[0]), min(top + high, size[1]))
    return CropPlacement(size, region, region[0] - left, region[1] - top)


def frame_pixels(image: Image.Image, spec: Preprocessing, backend: str = "pillow") -> NDArray[np.uint8]:
    """Converts an image to a frame: unchanged if it has the frame's size, else such that the network sees the same.

    Mode "stretch" stretches the image to the frame. "short-side" resizes its short side to the frame's, or keeps its
    size where the network does, and cuts or repeats the border at the long side. "letterbox" needs the frame's shape.

    Returns:
        uint8 (H, W, 3) in RGB order or (H, W, 1).

    Raises:
        UsageError: The image cannot become such a frame, or the backend is unknown.
    """
    assert spec.frame is not None
    height, width = spec.frame
    if (image.height, image.width) == spec.frame:
        return _with_channels(np.asarray(image))
    crop_placement(image.width, image.height, spec)  # rejects images that the network could not crop either
    whole = replace(spec, frame=None, frame_yuv=None, crop=(1, 1), resize=None)
    size = (width, height)
    if spec.resize_mode == "letterbox" and abs(image.width * height - image.height * width) > max(image.size):
        raise UsageError(
            f"an image of {image.width} x {image.height} pixels has another shape than the frames of {width} x "
            f"{height} that the network fits between bars"
        )
    if spec.resize_mode == "short-side":
        resize = None if spec.resize is None else min(height, width)
        size = resized_size(image.width, image.height, replace(whole, resize=resize))
    left, top = max(0, (size[0] - width) // 2), max(0, (size[1] - height) // 2)
    region = (left, top, left + min(width, size[0]), top + min(height, size[1]))
    pixels = _with_channels(_resized_region(image, size, region, spec, backend))
    missing = height - pixels.shape[0], width - pixels.shape[1]
    borders = [(side // 2, side - side // 2) for side in missing]
    return pixels if not any(missing) else np.pad(pixels, (*borders, (0, 0)), mode="edge")


def _with_channels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels


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
    return np.asarray(image.resize((right - left, bottom - top), FILTERS[spec.interpolation], box=box))


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
    if spec.frame_yuv is not None:
        return to_nv12(pixels, spec.frame_yuv)
    if spec.channels == "BGR":
        pixels = pixels[:, :, ::-1]
    if spec.dtype == "uint8":
        return np.ascontiguousarray(pixels if spec.layout == "NHWC" else pixels.transpose(2, 0, 1))
    planes = np.empty((pixels.shape[2], *pixels.shape[:2]), np.float32)
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std)):
        np.multiply(pixels[:, :, channel], np.float32(spec.scale / std), out=planes[channel])
        planes[channel] -= np.float32(mean / std)
    return planes if spec.layout == "NCHW" else np.ascontiguousarray(planes.transpose(1, 2, 0))
