"""Batches depend on seed, epoch and position alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.training.augmentation import kept_form
from googlenet_deploy.training.batches import Batch, step_seed, steps_per_epoch, training_batches, validation_batches
from googlenet_deploy.training.data import Sample, read_image_folder
from googlenet_deploy.training.images import ImageStore, centre
from googlenet_deploy.training.options import TrainingOptions

SPEC = Preprocessing(resize=36, crop=(32, 32))
OPTIONS = TrainingOptions(batch_size=4, seed=3)


@pytest.fixture
def samples(tmp_path: Path, make_folder: Callable[..., Path]) -> Sequence[Sample]:
    folder = make_folder(tmp_path / "d", {"a": 8, "b": 7})
    return read_image_folder(folder, validation_share=0.1, seed=0).train


def epoch(
    samples: Sequence[Sample],
    number: int = 1,
    workers: int = 1,
    options: TrainingOptions = OPTIONS,
    budget: int = 10**9,
) -> list[Batch]:
    store = ImageStore(samples, SPEC, kept_form(options), budget=budget, workers=1, quiet=True)
    return list(training_batches(store, options, number, workers))


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.pixels, b.pixels) and torch.equal(a.labels, b.labels) for a, b in zip(first, second, strict=True)
    )


def test_neither_threads_nor_memory_change_a_batch(samples: Sequence[Sample]) -> None:
    assert equal(epoch(samples), epoch(samples, workers=4, budget=0))


def test_epochs_and_seeds_differ(samples: Sequence[Sample]) -> None:
    assert not equal(epoch(samples), epoch(samples, number=2))
    assert not equal(epoch(samples), epoch(samples, options=replace(OPTIONS, seed=4)))


def test_batches_are_full_and_channels_last(samples: Sequence[Sample]) -> None:
    batches = epoch(samples)
    assert [len(batch.labels) for batch in batches] == [4] * steps_per_epoch(len(samples), 4)
    assert batches[0].pixels.shape == (4, 3, 32, 32)
    assert batches[0].pixels.dtype == torch.uint8
    assert batches[0].pixels.is_contiguous(memory_format=torch.channels_last)


def test_every_image_comes_once_without_augmentation(samples: Sequence[Sample]) -> None:
    options = replace(OPTIONS, augmentation="none", batch_size=len(samples))
    (batch,) = epoch(samples, options=options)
    assert sorted(batch.labels.tolist()) == [sample.label for sample in samples]
    assert len({image.numpy().tobytes() for image in batch.pixels}) == len(samples)


def test_fewer_images_than_a_batch_make_one_smaller_batch(samples: Sequence[Sample]) -> None:
    assert [len(batch.labels) for batch in epoch(samples[:3], options=replace(OPTIONS, batch_size=64))] == [3]


def test_validation_takes_all_images_in_order(samples: Sequence[Sample]) -> None:
    store = ImageStore(samples, SPEC, centre, budget=0, workers=2, quiet=True)
    batches = list(validation_batches(store, 4, 2))
    assert torch.cat([batch.labels for batch in batches]).tolist() == store.labels
    assert len(batches[-1].labels) == len(samples) % 4


def test_step_seeds_are_all_different() -> None:
    seeds = {step_seed(s, e, n) for s in range(3) for e in range(1, 5) for n in range(20)}
    assert len(seeds) == 3 * 4 * 20
    assert all(0 <= seed < 2**63 for seed in seeds)
