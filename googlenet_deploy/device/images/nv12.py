"""NV12, the frame format of most Jetson cameras and decoders, and its conversion from and to RGB.

A frame of (H, W) is H rows of luma, then H/2 rows of interleaved chroma, one pair (Cb, Cr) for each 2 x 2 pixels, all
in video range: luma from 16 to 235, chroma from 16 to 240. The matrices are those of ITU-R BT.601 and BT.709; chroma is
the mean of its four pixels, and is repeated for them in the conversion to RGB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Tuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Weights of red and blue in luma, Kr and Kb: BT.601-7 section 2.5.1, BT.709-6 section 3.2.
_WEIGHTS: Dict[str, Tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
LUMA_RANGE, CHROMA_RANGE = 219.0, 224.0
LUMA_OFFSET, CHROMA_OFFSET = 16.0, 128.0


def rgb_from_yuv(matrix: str) -> NDArray[np.float64]:
    """The 3 x 3 matrix from (Y - 16, Cb - 128, Cr - 128) in video range to RGB of 0..255.

    Args:
        matrix: "bt601" or "bt709".
    """
    red, blue = _WEIGHTS[matrix]
    green = 1.0 - red - blue
    luma, chroma = 255.0 / LUMA_RANGE, 255.0 / CHROMA_RANGE
    return np.array(
        [
            [luma, 0.0, chroma * 2 * (1 - red)],
            [luma, -chroma * 2 * blue * (1 - blue) / green, -chroma * 2 * red * (1 - red) / green],
            [luma, chroma * 2 * (1 - blue), 0.0],
        ]
    )


def to_nv12(pixels: NDArray[np.uint8], matrix: str) -> NDArray[np.uint8]:
    """Converts an RGB frame to NV12.

    Args:
        pixels: uint8 (H, W, 3) with even sides.
        matrix: "bt601" or "bt709".

    Returns:
        uint8 (H * 3 / 2, W, 1).
    """
    height, width = pixels.shape[:2]
    forward = np.linalg.inv(rgb_from_yuv(matrix)).astype(np.float32)
    result = np.empty((height * 3 // 2, width, 1), np.uint8)
    result[:height, :, 0] = np.rint(pixels.astype(np.float32) @ forward[0] + LUMA_OFFSET)
    means = pixels.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3), dtype=np.float32)
    chroma = np.rint(means @ forward[1:].T + np.float32(CHROMA_OFFSET))
    result[height:, :, 0] = chroma.astype(np.uint8).reshape(height // 2, width)
    return result


def from_nv12(frame: NDArray[np.uint8], matrix: str) -> NDArray[np.uint8]:
    """Converts an NV12 frame to RGB; see `to_nv12`."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    planes = np.empty((height, width, 3), np.float32)
    planes[:, :, 0] = frame[:height, :, 0].astype(np.float32) - LUMA_OFFSET
    chroma = frame[height:].reshape(height // 2, width // 2, 2).astype(np.float32) - CHROMA_OFFSET
    planes[:, :, 1:] = chroma.repeat(2, axis=0).repeat(2, axis=1)
    pixels: NDArray[np.uint8] = np.clip(np.rint(planes @ rgb_from_yuv(matrix).T.astype(np.float32)), 0, 255).astype(
        np.uint8
    )
    return pixels
