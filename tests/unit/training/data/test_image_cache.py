"""Decoded images: kept or not, skipped with a reason, equal to what inference sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.preprocess import crop_pixels
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadImageError
from googlenet_deploy.training.data.dataset import Sample
from googlenet_deploy.training.data.folders import read_folders
from googlenet_deploy.training.data.image_cache import ImageStore, centre, pixels, whole
from googlenet_deploy.training.data.pools import Workers
from googlenet_deploy.training.distributed import Processes

SPEC = Preprocessing(resize=36, crop=(32, 32))


@pytest.fixture
def samples(tmp_path: Path, make_folder: Callable[..., Path]) -> Sequence[Sample]:
    folder = make_folder(tmp_path / "d", {"a": 3, "b": 3}, size=(70, 50))
    return read_folders(folder, None, validation_share=0.2, seed=0).train


def store(samples: Sequence[Sample], form: Callable[..., Image.Image] = centre, budget: int = 10**9) -> ImageStore:
    return ImageStore(samples, SPEC, form, budget=budget, workers=Workers(2), quiet=True)


@pytest.mark.parametrize("form", [centre, whole])
def test_kept_and_decoded_images_are_equal(samples: Sequence[Sample], form: Callable[..., Image.Image]) -> None:
    kept, decoded = store(samples, form), store(samples, form, budget=0)
    assert kept.memory > 0
    assert decoded.memory == 0
    assert len(kept) == len(decoded) == len(samples)
    for index in range(len(samples)):
        assert np.array_equal(pixels(kept[index]), pixels(decoded[index]))


def test_the_budget_is_kept(samples: Sequence[Sample]) -> None:
    one = 32 * 32 * 3
    assert store(samples, budget=2 * one + 5).memory == 2 * one


def test_processes_check_what_memory_has_no_room_for(samples: Sequence[Sample]) -> None:
    samples[-1].path.write_bytes(b"")
    threads, processes = (
        ImageStore(samples, SPEC, centre, budget=32 * 32 * 3 + 5, workers=Workers(2, forked=forked), quiet=True)
        for forked in (False, True)
    )
    assert list(processes.content()) == list(threads.content())
    assert processes.skipped == threads.skipped
    assert processes.memory == 32 * 32 * 3


class Share(Processes):
    """The first of two processes, which tell it `theirs`."""

    theirs: ClassVar[list[Any]] = []

    def gather(self, value: Any) -> list[Any]:
        return [value, self.theirs]


@pytest.mark.parametrize(("forked", "kept"), [(True, 4), (False, 2)])
def test_what_another_process_checked_is_kept_before_processes_read(
    samples: Sequence[Sample], forked: bool, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads keep it when they first need it, which a forked process cannot."""
    assert len(samples) == 4
    others = ImageStore(samples[1::2], SPEC, centre, budget=0, workers=Workers(1), quiet=True)
    monkeypatch.setattr(Share, "theirs", others.hashes)
    shared = Share(0, 2, torch.device("cpu"))
    workers = Workers(2, forked=forked)
    images = ImageStore(samples, SPEC, centre, budget=10**9, workers=workers, processes=shared, quiet=True)
    assert len(images) == 4
    assert images.memory == kept * 32 * 32 * 3
    small = ImageStore(samples, SPEC, centre, budget=7000, workers=workers, processes=shared, quiet=True)
    assert small.memory == 2 * 32 * 32 * 3


def test_the_centre_is_what_inference_sees(samples: Sequence[Sample]) -> None:
    expected = crop_pixels(load_image(samples[0].path), SPEC)
    assert np.array_equal(pixels(store(samples)[0]), expected)


def test_the_whole_keeps_its_shape(samples: Sequence[Sample]) -> None:
    assert store(samples, whole)[0].size == (50, 36)


def test_grey_images_have_one_channel(samples: Sequence[Sample]) -> None:
    spec = Preprocessing(resize=32, crop=(32, 32), channels="L", mean=(0.5,), std=(0.5,))
    images = ImageStore(samples, spec, centre, budget=10**9, workers=Workers(1), quiet=True)
    assert pixels(images[0]).shape == (32, 32, 1)


def test_damaged_images_are_skipped_with_their_reason(samples: Sequence[Sample]) -> None:
    data = samples[0].path.read_bytes()
    samples[0].path.write_bytes(data[: len(data) // 2])
    samples[1].path.write_bytes(b"")
    images = store(samples)
    assert len(images) == len(samples) - 2
    assert [item.name for item in images.skipped] == [samples[0].name, samples[1].name]
    assert "truncated" in images.skipped[0].reason
    assert images.skipped[1].reason == "is empty"
    assert images.labels == [sample.label for sample in samples[2:]]


def test_an_image_that_vanishes_is_an_error(samples: Sequence[Sample]) -> None:
    images = store(samples, budget=0)
    samples[0].path.unlink()
    with pytest.raises(BadImageError, match="cannot be read"):
        images[0]
