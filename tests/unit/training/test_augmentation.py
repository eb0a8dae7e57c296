"""Crops, batch transforms, and that without augmentation training sees what inference sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.device.preprocess import normalize
from googlenet_deploy.device.specification import BVLC, TORCHVISION, Preprocessing
from googlenet_deploy.training.augmentation import ASPECT, BatchTransform, random_box

GREY = Preprocessing(channels="L", mean=(0.4,), std=(0.3,))


def batch(channels: int = 3) -> torch.Tensor:
    values = np.random.default_rng(0).integers(0, 256, (4, 24, 20, channels), np.uint8)
    return torch.from_numpy(values).permute(0, 3, 1, 2)


@given(
    width=st.integers(8, 2000),
    height=st.integers(8, 2000),
    min_area=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**32),
)
def test_a_box_lies_within_the_image(width: int, height: int, min_area: float, seed: int) -> None:
    left, top, right, bottom = random_box(width, height, min_area, np.random.default_rng(seed))
    assert 0 <= left < right <= width + 1e-6
    assert 0 <= top < bottom <= height + 1e-6
    w, h = right - left, bottom - top
    assert ASPECT[0] - 1e-6 <= w / h <= ASPECT[1] + 1e-6
    if w * h < min_area * width * height - 1e-6:  # only the fallback is smaller
        assert w == h == min(width, height)


@pytest.mark.parametrize("spec", [BVLC, TORCHVISION, GREY], ids=["bvlc", "torchvision", "grey"])
def test_without_augmentation_the_input_is_the_devices(spec: Preprocessing) -> None:
    images = batch(len(spec.channels))
    ours = BatchTransform(spec, "none")(images).numpy()
    theirs = np.stack([normalize(image, spec) for image in images.permute(0, 2, 3, 1).numpy()])
    np.testing.assert_allclose(ours, theirs, atol=2e-4 if spec is BVLC else 2e-6)


@pytest.mark.parametrize("name", ["natural", "light"])
@pytest.mark.parametrize("spec", [TORCHVISION, GREY], ids=["rgb", "grey"])
def test_augmentation_depends_on_the_seed_alone(name: str, spec: Preprocessing) -> None:
    transform, images = BatchTransform(spec, name), batch(len(spec.channels))
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(transform(images))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert results[0].shape == images.shape
    low, high = (0.0 - spec.mean[0]) / spec.std[0], (1.0 - spec.mean[0]) / spec.std[0]
    assert low - 1e-5 <= float(results[0].min()) <= float(results[0].max()) <= high + 1e-5


def test_light_keeps_the_middle_in_place() -> None:
    """A bright spot in the centre stays near it: no mirroring, no large shift."""
    images = torch.zeros(16, 3, 65, 65, dtype=torch.uint8)
    images[:, :, 20:30, 30:35] = 255
    torch.manual_seed(0)
    out = BatchTransform(TORCHVISION, "light")(images)[:, 0] > 0
    rows = torch.stack([torch.nonzero(mask)[:, 0].float().mean() for mask in out])
    assert (rows - 25).abs().max() < 8
    assert rows.std() > 0.5
