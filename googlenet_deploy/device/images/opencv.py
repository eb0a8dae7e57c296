"""Resizing with OpenCV, for devices that have it anyway and where it is faster than Pillow.

OpenCV's linear and cubic filters are not widened for downscaling, so unlike Pillow's they alias; AREA is then the
closest to Pillow's bilinear. Either way the pixels differ slightly from those of training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

from googlenet_deploy.device.images.decode import MAX_PIXELS
from googlenet_deploy.errors import UsageError, requires

with requires("opencv"):
    import cv2
    import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ENLARGING = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}


def resize(
    pixels: NDArray[np.uint8], size: Tuple[int, int], interpolation: str, *, antialias: bool = True
) -> NDArray[np.uint8]:
    """Resizes uint8 (H, W) or (H, W, C) to `size`, (width, height); AREA where it shrinks, unless without `antialias`.

    Raises:
        UsageError: The result would exhaust memory, as when the short side of a line of pixels is enlarged.
    """
    if size[0] * size[1] > MAX_PIXELS:
        raise UsageError(f"an image of {size[0]} x {size[1]} pixels after resizing is too large for OpenCV's resize")
    method = _ENLARGING[interpolation]
    smaller = (min(size[0], pixels.shape[1]), min(size[1], pixels.shape[0]))
    if antialias and interpolation != "nearest" and smaller != (pixels.shape[1], pixels.shape[0]):
        pixels = np.asarray(cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA), np.uint8)
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(cv2.resize(pixels, size, interpolation=method), np.uint8)
