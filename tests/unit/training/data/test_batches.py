"""Batches depend on seed, epoch and position alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadImageError
from googlenet_deploy.training.data.augmentation import RANDOM_NUMBERS, kept_form
from googlenet_deploy.training.data.batches import (
    ImageFeed,
    Rows,
    TrainingBatch,
    step_seed,
    steps_per_epoch,
    validation_batches,
)
from googlenet_deploy.training.data.dataset import Sample
from googlenet_deploy.training.data.folders import read_folders
from googlenet_deploy.training.data.image_cache import ImageStore, centre
from googlenet_deploy.training.data.pools import Workers
from googlenet_deploy.training.options import TrainingOptions

SPEC = Preprocessing(resize=36, crop=(32, 32))
OPTIONS = TrainingOptions(batch_size=4, seed=3)
ALONE = Workers(1)


@pytest.fixture
def samples(tmp_path: Path, make_folder: Callable[..., Path]) -> Sequence[Sample]:
    folder = make_folder(tmp_path / "d", {"a": 8, "b": 7})
    return read_folders(folder, None, validation_share=0.1, seed=0).train


def feed(
    samples: Sequence[Sample],
    options: TrainingOptions = OPTIONS,
    *,
    workers: Workers = ALONE,
    budget: int = 10**9,
    rank: int = 0,
    processes: int = 1,
) -> ImageFeed:
    store = ImageStore(samples, SPEC, kept_form(options), budget=budget, workers=ALONE, quiet=True)
    size = min(options.batch_size, len(store))
    return ImageFeed(store, options, size, workers, rank, processes)


def equal(first: Sequence[TrainingBatch], second: Sequence[TrainingBatch]) -> bool:
    return len(first) == len(second) and all(
        all(torch.equal(x, y) for x, y in zip(a[:4], b[:4], strict=True)) for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("workers", [Workers(4), Workers(3, forked=True)], ids=["threads", "processes"])
@pytest.mark.parametrize("budget", [0, 10**9])
def test_neither_workers_nor_memory_change_a_batch(samples: Sequence[Sample], workers: Workers, budget: int) -> None:
    many = feed(samples, replace(OPTIONS, augmentation="paper", mixup=0.2), workers=workers, budget=budget)
    alone = feed(samples, replace(OPTIONS, augmentation="paper", mixup=0.2))
    with closing(many):
        for epoch in (1, 2):
            assert equal(list(alone.batches(epoch)), list(many.batches(epoch)))


def test_an_image_that_vanishes_while_processes_read_is_an_error(samples: Sequence[Sample]) -> None:
    images = feed(samples, workers=Workers(2, forked=True), budget=0)
    samples[3].path.unlink()
    with closing(images), pytest.raises(BadImageError, match=f"{samples[3].path.name}: cannot be read: no such file"):
        list(images.batches(1))


def test_epochs_and_seeds_differ(samples: Sequence[Sample]) -> None:
    first = list(feed(samples).batches(1))
    assert not equal(first, list(feed(samples).batches(2)))
    assert not equal(first, list(feed(samples, replace(OPTIONS, seed=4)).batches(1)))


def test_an_epoch_can_begin_at_any_step(samples: Sequence[Sample]) -> None:
    whole = list(feed(samples).batches(2))
    assert len(whole) == 3
    assert equal(whole[2:], list(feed(samples).batches(2, 2)))
    assert list(feed(samples).batches(2, 3)) == []


def test_processes_share_the_batches_of_one(samples: Sequence[Sample]) -> None:
    alone = list(feed(samples).batches(1))
    shares = [list(feed(samples, rank=rank, processes=2).batches(1)) for rank in range(2)]
    together = [
        TrainingBatch(*(torch.cat(pair) for pair in zip(a[:4], b[:4], strict=True)), Rows(a.rows.start, b.rows.stop, 4))  # type: ignore[call-arg]
        for a, b in zip(*shares, strict=True)
    ]
    assert equal(alone, together)
    assert [batch.rows for batch in (shares[0][0], shares[1][0])] == [(0, 2, 4), (2, 4, 4)]


def test_parts_of_a_batch_are_its_rows_in_order(samples: Sequence[Sample]) -> None:
    batch = next(iter(feed(samples).batches(1)))
    parts = batch.parts(2)
    assert torch.equal(torch.cat([part.pixels for part in parts]), batch.pixels)
    assert [part.rows for part in parts] == [(0, 2, 4), (2, 4, 4)]
    assert batch.parts(1)[0] is batch


def test_batches_are_full_and_channels_last(samples: Sequence[Sample]) -> None:
    images = feed(samples)
    batches = list(images.batches(1))
    assert [len(batch.labels) for batch in batches] == [4] * steps_per_epoch(images)
    assert batches[0].pixels.shape == (4, 3, 32, 32)
    assert batches[0].pixels.dtype == torch.uint8
    assert batches[0].pixels.is_contiguous(memory_format=torch.channels_last)
    assert batches[0].numbers.shape == (4, RANDOM_NUMBERS)


def test_mixup_draws_a_share_for_each_image(samples: Sequence[Sample]) -> None:
    plain, mixed = (
        torch.cat([b.shares for b in feed(samples, replace(OPTIONS, mixup=alpha)).batches(1)]) for alpha in (0.0, 0.2)
    )
    assert set(plain.tolist()) == {1.0}
    assert len(set(mixed.tolist())) == len(mixed)
    assert 0 <= float(mixed.min()) <= float(mixed.max()) <= 1


def test_every_image_comes_once_without_augmentation(samples: Sequence[Sample]) -> None:
    options = replace(OPTIONS, augmentation="none", batch_size=len(samples))
    (batch,) = feed(samples, options).batches(1)
    assert sorted(batch.labels.tolist()) == [sample.label for sample in samples]
    assert len({image.numpy().tobytes() for image in batch.pixels}) == len(samples)


def test_fewer_images_than_a_batch_make_one_smaller_batch(samples: Sequence[Sample]) -> None:
    batches = feed(samples[:3], replace(OPTIONS, batch_size=64)).batches(1)
    assert [len(batch.labels) for batch in batches] == [3]


def test_validation_takes_all_images_in_order(samples: Sequence[Sample]) -> None:
    store = ImageStore(samples, SPEC, centre, budget=0, workers=Workers(2), quiet=True)
    batches = list(validation_batches(store, 4, Workers(2)))
    labels = [labels for _, labels in batches]
    assert torch.cat(labels).tolist() == store.labels
    assert len(labels[-1]) == len(samples) % 4
    forked = validation_batches(store, 4, Workers(2, forked=True))
    assert all(torch.equal(x, y) for a, b in zip(batches, forked, strict=True) for x, y in zip(a, b, strict=True))


def test_several_processes_take_every_validation_image_once(samples: Sequence[Sample]) -> None:
    store = ImageStore(samples, SPEC, centre, budget=0, workers=Workers(2), quiet=True)
    seen = [images.numpy() for rank in range(3) for images, _ in validation_batches(store, 4, ALONE, rank, 3)]
    assert len({image.tobytes() for image in np.concatenate(seen)}) == len(samples)


def test_step_seeds_are_all_different() -> None:
    seeds = {step_seed(s, e, n) for s in range(3) for e in range(1, 5) for n in range(20)}
    assert len(seeds) == 3 * 4 * 20
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_batches_for_a_gpu_are_put_together_in_page_locked_memory(
    samples: Sequence[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, original = [], torch.empty

    def empty(*arguments: Any, pin_memory: bool = False, **more: Any) -> torch.Tensor:
        made = original(*arguments, **more)
        if pin_memory:
            locked.append(made.data_ptr())
        return made

    monkeypatch.setattr(torch, "empty", empty)
    batches = list(feed(samples, workers=Workers(2, pinned=True)).batches(1))
    assert locked == [batch.pixels.data_ptr() for batch in batches]
    locked.clear()
    assert equal(batches, list(feed(samples).batches(1)))
    assert locked == []
