"""Resizing with OpenCV, for devices where it is there anyway and faster than Pillow.

OpenCV's linear and cubic filters do not widen when they shrink an image, so they alias where Pillow's do not; AREA is
the nearest to Pillow's bilinear when shrinking. Either way the pixels differ a little from those of training.
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


def resize(pixels: NDArray[np.uint8], size: Tuple[int, int], interpolation: str) -> NDArray[np.uint8]:
    """Resizes uint8 (H, W) or (H, W, C) to `size`, (width, height).

    Raises:
        UsageError: The result would not be an image but fill the memory: a line of pixels, its short side enlarged.
    """
    if size[0] * size[1] > MAX_PIXELS:
        raise UsageError(f"an image of {size[0]} x {size[1]} pixels after resizing is too large for OpenCV's resize")
    shrinks = size[0] < pixels.shape[1]
    method = cv2.INTER_AREA if shrinks and interpolation != "nearest" else _ENLARGING[interpolation]
    return np.asarray(cv2.resize(pixels, size, interpolation=method), np.uint8)
