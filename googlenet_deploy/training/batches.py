"""Batches in an order, and with random numbers, that depend on seed, epoch and position alone.

So neither the number of threads nor what ran before changes a batch, and a run could go on from any step.
"""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from googlenet_deploy.errors import requires
from googlenet_deploy.training.images import pixels

with requires("train"):
    import torch
    from torch import Tensor

    from googlenet_deploy.training.augmentation import cut_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from googlenet_deploy.training.images import ImageStore
    from googlenet_deploy.training.options import TrainingOptions

BATCHES_AHEAD = 3
# Keeps the seeds of orders, samples and steps apart.
_ORDER, _SAMPLE, _STEP = 1, 2, 3


class Batch(NamedTuple):
    """uint8 pixels (N, C, H, W) in RGB order, and int64 class indices (N,)."""

    pixels: Tensor
    labels: Tensor


def step_seed(seed: int, epoch: int, step: int) -> int:
    """The seed of a step's batch augmentation and dropout."""
    return int(np.random.SeedSequence((seed, _STEP, epoch, step)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Only full batches: an epoch leaves out the remainder, which shuffling makes a different one each time."""
    return max(1, images // batch_size)


def training_batches(store: ImageStore, options: TrainingOptions, epoch: int, workers: int) -> Iterator[Batch]:
    """The batches of one epoch.

    Args:
        store: The training images.
        options: The run's options; a batch has at most as many images as there are.
        epoch: Counted from 1.
        workers: Threads that decode and crop ahead.

    Raises:
        BadImageError: An image can no longer be read.
    """
    order = np.random.default_rng((options.seed, _ORDER, epoch)).permutation(len(store))
    size = min(options.batch_size, len(store))
    groups = [order[start : start + size].tolist() for start in range(0, len(store) - size + 1, size)]

    def sample(index: int) -> NDArray[np.uint8]:
        generator = np.random.default_rng((options.seed, _SAMPLE, epoch, index))
        return cut_sample(store[index], store.spec, options, generator)

    yield from _prefetched(groups, sample, store.labels, workers)


def validation_batches(store: ImageStore, batch_size: int, workers: int) -> Iterator[Batch]:
    """All images of a store in its order, as inference sees them; the last batch may be smaller."""
    groups = [list(range(start, min(start + batch_size, len(store)))) for start in range(0, len(store), batch_size)]
    yield from _prefetched(groups, lambda index: pixels(store[index]), store.labels, workers)


def _prefetched(
    groups: Sequence[Sequence[int]],
    sample: Callable[[int], NDArray[np.uint8]],
    labels: Sequence[int],
    workers: int,
) -> Iterator[Batch]:
    """Batches in order, a few of them prepared ahead in threads: Pillow lets go of Python's lock while it works."""

    def submit(group: Sequence[int]) -> tuple[Sequence[int], list[Future[NDArray[np.uint8]]]]:
        return group, [pool.submit(sample, index) for index in group]

    waiting = iter(groups)
    running: deque[tuple[Sequence[int], list[Future[NDArray[np.uint8]]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="images") as pool:
        try:
            running.extend(submit(group) for group in itertools.islice(waiting, BATCHES_AHEAD))
            while running:
                group, futures = running.popleft()
                running.extend(submit(following) for following in itertools.islice(waiting, 1))
                yield _collate([future.result() for future in futures], [labels[index] for index in group])
        finally:  # the consumer has stopped, or Ctrl-C: what has not begun never will
            for _, futures in running:
                for future in futures:
                    future.cancel()


def _collate(samples: Sequence[NDArray[np.uint8]], labels: Sequence[int]) -> Batch:
    # (N, H, W, C) seen as (N, C, H, W) is what torch calls channels_last, so nothing is moved in memory.
    stacked = torch.from_numpy(np.stack(samples)).permute(0, 3, 1, 2)
    return Batch(stacked, torch.tensor(labels, dtype=torch.int64))
