"""Crops, batch transforms, and that without augmentation training sees what inference sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from googlenet_deploy.device.preprocess import normalize
from googlenet_deploy.device.specification import BVLC, TORCHVISION, Preprocessing
from googlenet_deploy.training.data.augmentation import (
    ASPECT,
    RANDOM_NUMBERS,
    BatchTransform,
    cut_sample,
    random_box,
)
from googlenet_deploy.training.data.photometric import Photometric
from googlenet_deploy.training.options import TrainingOptions

GREY = Preprocessing(channels="L", mean=(0.4,), std=(0.3,))
VARIED = ["natural", "paper", "light"]


def batch(channels: int = 3) -> torch.Tensor:
    values = np.random.default_rng(0).integers(0, 256, (6, 24, 20, channels), np.uint8)
    return torch.from_numpy(values).permute(0, 3, 1, 2)


def numbers(count: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((count, RANDOM_NUMBERS), np.float32))


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
    ours = BatchTransform(spec, "none")(images, numbers()).numpy()
    theirs = np.stack([normalize(image, spec) for image in images.permute(0, 2, 3, 1).numpy()])
    np.testing.assert_allclose(ours, theirs, atol=2e-4 if spec is BVLC else 2e-6)


@pytest.mark.parametrize("name", VARIED)
@pytest.mark.parametrize("spec", [TORCHVISION, GREY], ids=["rgb", "grey"])
def test_augmentation_depends_on_the_numbers_alone_and_stays_in_range(name: str, spec: Preprocessing) -> None:
    transform, images = BatchTransform(spec, name), batch(len(spec.channels))
    first, again, other = (transform(images, numbers(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == images.shape
    low, high = (0.0 - spec.mean[0]) / spec.std[0], (1.0 - spec.mean[0]) / spec.std[0]
    assert low - 1e-5 <= float(first.min()) <= float(first.max()) <= high + 1e-5


@pytest.mark.parametrize("name", ["natural", "paper"])
@pytest.mark.parametrize("spec", [TORCHVISION, GREY], ids=["rgb", "grey"])
def test_nothing_is_read_back_from_the_device(name: str, spec: Preprocessing) -> None:
    """On the meta device reading a value fails; on a GPU it would wait for all that was launched before."""
    transform = BatchTransform(spec, name).to("meta")
    assert transform(batch(len(spec.channels)).to("meta"), numbers()).shape == (6, len(spec.channels), 24, 20)


@pytest.mark.parametrize("name", VARIED)
def test_an_image_is_varied_the_same_whatever_stands_beside_it(name: str) -> None:
    transform, images, drawn = BatchTransform(TORCHVISION, name), batch(), numbers()
    together = transform(images, drawn)
    alone = torch.cat([transform(images[k : k + 1], drawn[k : k + 1]) for k in range(len(images))])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_light_keeps_the_middle_in_place() -> None:
    """A bright spot in the centre stays near it: no mirroring, no large shift."""
    images = torch.zeros(16, 3, 65, 65, dtype=torch.uint8)
    images[:, :, 20:30, 30:35] = 255
    out = BatchTransform(TORCHVISION, "light")(images, numbers(16))[:, 0] > 0
    rows = torch.arange(65).view(-1, 1).expand(65, 65)
    for image in out:
        centre_row = float(rows[image].float().mean())
        assert 15 <= centre_row <= 35
    assert not torch.equal(out[0], out[1])


def test_half_of_the_photographs_are_mirrored_by_the_first_number() -> None:
    images, drawn = batch().float() / 255, torch.full((6, RANDOM_NUMBERS), 0.5)
    drawn[:3, 0] = 0.4
    plain = Photometric(0.0)(images, drawn)
    torch.testing.assert_close(plain[:3], images[:3].flip(3))
    torch.testing.assert_close(plain[3:], images[3:])


def test_colours_change_by_the_factors_that_the_numbers_give() -> None:
    grey = torch.full((1, 3, 4, 4), 0.4)
    drawn = torch.full((1, RANDOM_NUMBERS), 0.5)
    drawn[0, 1] = 1.0  # brightness 1 + strength; contrast and saturation leave a grey image as it is
    torch.testing.assert_close(Photometric(0.5)(grey, drawn), torch.full((1, 3, 4, 4), 0.6))
    drawn[0, 1] = 0.0
    torch.testing.assert_close(Photometric(0.5)(grey, drawn), torch.full((1, 3, 4, 4), 0.2))


def test_lighting_moves_all_pixels_of_a_channel_alike() -> None:
    drawn = torch.full((1, RANDOM_NUMBERS), 0.5)
    drawn[0, 5:8] = torch.tensor([0.9, 0.2, 0.7])
    image = torch.full((1, 3, 4, 4), 0.5)
    moved = Photometric(0.0, lighting=True)(image, drawn) - image
    assert float(moved.abs().max()) > 0
    assert torch.equal(moved, moved[:, :, :1, :1].expand_as(moved))
    neutral = Photometric(0.0, lighting=True)(image, torch.full((1, RANDOM_NUMBERS), 0.5))
    torch.testing.assert_close(neutral, image)


def test_a_quarter_of_the_papers_crops_is_not_smoothed() -> None:
    """Nearest-neighbour interpolation makes no new values; of the four it is one, and "natural" never uses it."""
    checks = np.indices((60, 60)).sum(axis=0)[..., np.newaxis] % 2 * 255
    image = Image.fromarray(np.repeat(checks, 3, axis=2).astype(np.uint8))
    spec = Preprocessing(resize=40, crop=(32, 32))

    def unsmoothed(augmentation: str) -> int:
        options = TrainingOptions(augmentation=augmentation)
        cuts = [cut_sample(image, spec, options, np.random.default_rng(seed)) for seed in range(100)]
        assert all(cut.shape == (32, 32, 3) for cut in cuts)
        return sum(set(np.unique(cut).tolist()) <= {0, 255} for cut in cuts)

    assert 10 <= unsmoothed("paper") <= 45
    assert unsmoothed("natural") == 0
