from __future__ import annotations

import hashlib

import numpy as np
import pytest

from googlenet_deploy.device.specification import BVLC, TORCHVISION, Preprocessing
from googlenet_deploy.export.samples import prepare, seeded_samples, smooth_pictures


def test_pictures_are_seeded_and_use_the_full_range() -> None:
    pictures = smooth_pictures(3, (40, 56), 3, seed=1)
    assert pictures.shape == (3, 40, 56, 3)
    assert pictures.dtype == np.uint8
    assert (pictures.min(axis=(1, 2, 3)) == 0).all()
    assert (pictures.max(axis=(1, 2, 3)) == 255).all()
    assert np.array_equal(pictures, smooth_pictures(3, (40, 56), 3, seed=1))
    assert not np.array_equal(pictures, smooth_pictures(3, (40, 56), 3, seed=2))
    assert not np.array_equal(pictures[0], pictures[1])


def test_pictures_are_smooth() -> None:
    picture = smooth_pictures(1, (224, 224), 1, seed=0)[0, :, :, 0].astype(float)
    step = np.abs(np.diff(picture, axis=1)).mean()
    assert step < 0.2 * picture.std(), "neighbouring pixels resemble each other, unlike white noise"


def test_normalisation_by_hand() -> None:
    pixels = np.array([[[[255, 0, 128]]]], np.uint8)
    assert prepare(pixels, BVLC).reshape(-1) == pytest.approx([128 - 104, 0 - 117, 255 - 123])
    assert prepare(pixels, TORCHVISION).reshape(-1) == pytest.approx([1.0, -1.0, 128 / 127.5 - 1], abs=1e-6)


def test_layouts_and_raw_pixels() -> None:
    samples = seeded_samples(Preprocessing(resize=8, crop=(6, 8), layout="NHWC"), 2)
    assert samples.prepared.shape == (2, 6, 8, 3)
    raw = seeded_samples(TORCHVISION.with_uint8_input(), 2)
    assert np.array_equal(raw.prepared, raw.pixels)
    grey = seeded_samples(Preprocessing(resize=8, crop=(8, 8), channels="L", mean=(0.5,), std=(0.5,)), 2)
    assert grey.prepared.shape == (2, 1, 8, 8)
    assert grey.count == 2
    assert grey.origin == "2 seeded pictures"


def test_the_pictures_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256(smooth_pictures(1, (32, 32), 3, seed=2014).tobytes()).hexdigest()
    assert digest == "9a4d230262d4268707b83daf12990aeb8ba3a4e3e1efbac821db0dcd12b836c4"
