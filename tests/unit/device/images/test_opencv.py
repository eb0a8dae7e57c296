"""OpenCV's resize beside Pillow's, on real OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="OpenCV is not installed")

from googlenet_deploy.device.images.opencv import resize
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.device.specification import BVLC
from googlenet_deploy.errors import UsageError


def test_sizes_and_types_are_kept() -> None:
    for shape in ((30, 40, 3), (30, 40)):
        pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
        got = resize(pixels, (20, 15), "bilinear")
        assert got.dtype == np.uint8
        assert got.shape == (15, 20, *shape[2:])


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(10, 10), (90, 90)])
def test_a_flat_image_stays_flat(interpolation: str, size: tuple[int, int]) -> None:
    flat = np.full((30, 30, 3), 77, np.uint8)
    assert (resize(flat, size, interpolation) == 77).all()


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 254
    assert np.abs(resize(stripes, (8, 8), "bilinear").astype(int) - 127).max() <= 1


def test_a_line_of_pixels_is_refused_instead_of_filling_the_memory() -> None:
    with pytest.raises(UsageError, match="256 x 6400000 pixels after resizing is too large"):
        preprocess(Image.new("RGB", (2, 50_000)), BVLC, "opencv")


def test_the_whole_preparation_is_near_pillows() -> None:
    smooth = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    image = Image.fromarray(smooth).resize((480, 360), Image.Resampling.BICUBIC)
    ours, theirs = preprocess(image, BVLC), preprocess(image, BVLC, "opencv")
    assert theirs.shape == ours.shape
    assert np.abs(ours - theirs).mean() < 2.0
