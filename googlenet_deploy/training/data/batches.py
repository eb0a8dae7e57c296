"""Batches whose order and random numbers depend on seed, epoch and position alone.

So a batch depends neither on the worker that makes it nor on earlier batches, and a run can resume from any step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from googlenet_deploy.errors import requires
from googlenet_deploy.training.data.image_cache import pixels, sample_bytes
from googlenet_deploy.training.data.pools import ahead, made_once, pool_of

with requires("train"):
    import torch
    from torch import Tensor

    from googlenet_deploy.training.data.augmentation import RANDOM_NUMBERS, cut_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.training.data.dataset import Sample
    from googlenet_deploy.training.data.image_cache import ImageStore
    from googlenet_deploy.training.data.pools import Workers
    from googlenet_deploy.training.options import TrainingOptions

Item = TypeVar("Item")
Made = TypeVar("Made")

# Keeps the seeds of orders, samples and steps apart.
ORDER, SAMPLE, STEP = 1, 2, 3


class Rows(NamedTuple):
    """The position of images within a step: from `start` to `stop` of the `total` of all processes."""

    start: int
    stop: int
    total: int

    def part(self, number: int, count: int) -> Rows:
        """The number-th of `count` equal parts."""
        size = (self.stop - self.start) // count
        return Rows(self.start + number * size, self.start + (number + 1) * size, self.total)


class TrainingBatch(NamedTuple):
    """Images of one step, or of a part of it.

    Attributes:
        pixels: uint8 (N, C, H, W) in RGB order; or features of a frozen trunk, float32 (N, C).
        labels: int64 class indices (N,).
        numbers: float32 (N, `RANDOM_NUMBERS`), uniform in 0..1: what augmentation does to each image.
        shares: float32 (N,), 1 for an image without mixup, otherwise its share of the mixture.
        rows: The position of these images within the step.
    """

    pixels: Tensor
    labels: Tensor
    numbers: Tensor
    shares: Tensor
    rows: Rows

    def parts(self, count: int) -> list[TrainingBatch]:
        """Equal parts, in order."""
        if count == 1:
            return [self]
        pixels, labels, numbers, shares = (tensor.chunk(count) for tensor in self[:4])
        return [
            TrainingBatch(pixels[part], labels[part], numbers[part], shares[part], self.rows.part(part, count))
            for part in range(count)
        ]


class Sampled(NamedTuple):
    """One image of a batch: uint8 (H, W, C), its class, its random numbers and its share in a mixture."""

    pixels: NDArray[np.uint8]
    label: int
    numbers: NDArray[np.float32]
    share: float


class Place(NamedTuple):
    """What the workers need to make one image of a batch.

    It holds the sample itself: a forked process that looked it up would copy the memory of the list, bit by bit, since
    Python counts references in the objects.
    """

    epoch: int
    number: int
    sample: Sample


class Feed(Protocol):
    """A source of training batches."""

    @property
    def images(self) -> int:
        """Images of an epoch, over all processes."""
        ...

    @property
    def size(self) -> int:
        """Images of a step, over all processes."""
        ...

    @property
    def skipped(self) -> Sequence[Skipped]:
        """Images found to be unusable during training."""
        ...

    def batches(self, epoch: int, first: int = 0) -> Iterator[TrainingBatch]:
        """This process's part of every step of an epoch, counted from 1, from step `first` on."""
        ...

    def close(self) -> None:
        """Stops the workers that read images, until batches are requested again."""
        ...


def steps_per_epoch(feed: Feed) -> int:
    """Full batches only: an epoch omits the remainder, which differs each time because of shuffling."""
    return max(1, feed.images // feed.size)


class BatchMaker(Generic[Item, Made]):
    """Makes batches of items; each batch is assembled while the previous one is used.

    Args:
        make: Called by the workers with each item.
        samples: Selects a batch's samples from what the workers made.
        rows: This process's rows of a step.
        spec: How images are prepared.
        workers: The workers that make them.
    """

    def __init__(
        self,
        make: Callable[[Item], Made],
        samples: Callable[[list[Made]], list[Sampled]],
        rows: Rows,
        spec: Preprocessing,
        workers: Workers,
    ) -> None:
        self.samples, self.rows, self.pinned = samples, rows, workers.pinned
        self.pool = pool_of(make, workers, rows.stop - rows.start, sample_bytes(spec))

    def batches(self, groups: Iterable[Sequence[Item]]) -> Iterator[TrainingBatch]:
        """A batch of each group of items."""
        made = self.pool.made(groups)
        return ahead(collate(self.samples(group), self.rows, pinned=self.pinned) for group in made)

    def close(self) -> None:
        """Stops the workers, until batches are requested again."""
        self.pool.close()


@dataclass(frozen=True)
class ImageFeed:
    """Batches of a store's images in random order.

    Attributes:
        store: The training images.
        options: The run's options.
        size: Images per step, over all processes; at most the number of images.
        workers: The workers that decode and crop ahead.
        rank: This process.
        processes: Number of processes that share each step.
        skipped: Always empty: every image was decoded beforehand.
    """

    store: ImageStore
    options: TrainingOptions
    size: int
    workers: Workers
    rank: int = 0
    processes: int = 1
    skipped: tuple[Skipped, ...] = ()

    @property
    def images(self) -> int:
        """Images of an epoch."""
        return len(self.store)

    def batches(self, epoch: int, first: int = 0) -> Iterator[TrainingBatch]:
        """See `Feed`.

        Raises:
            BadImageError: An image can no longer be read.
            GoogLeNetDeployError: A process that reads images has died.
        """
        order = np.random.default_rng((self.options.seed, ORDER, epoch)).permutation(len(self.store)).tolist()
        rows, samples = self._maker.rows, self.store.samples
        groups = (
            [Place(epoch, k, samples[k]) for k in order[step * self.size + rows.start : step * self.size + rows.stop]]
            for step in range(first, steps_per_epoch(self))
        )
        yield from self._maker.batches(groups)

    def close(self) -> None:
        """See `Feed`."""
        self._maker.close()

    @cached_property
    def _maker(self) -> BatchMaker[Place, Sampled]:
        rows = Rows(0, self.size, self.size).part(self.rank, self.processes)
        return BatchMaker(self._sample, list, rows, self.store.spec, self.workers)

    def _sample(self, place: Place) -> Sampled:
        generator = np.random.default_rng((self.options.seed, SAMPLE, place.epoch, place.number))
        image, label = self.store.image_of(place.sample), place.sample.label
        return sampled(image, label, self.store.spec, self.options, generator)


def step_seed(seed: int, epoch: int, step: int) -> int:
    """The seed of a step's dropout."""
    return int(np.random.SeedSequence((seed, STEP, epoch, step)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def sampled(
    image: Image.Image, label: int, spec: Preprocessing, options: TrainingOptions, generator: np.random.Generator
) -> Sampled:
    """One training sample of an image in its kept form; `generator` holds the sample's own random numbers."""
    cut = cut_sample(image, spec, options, generator)
    numbers = generator.random(RANDOM_NUMBERS, np.float32)
    share = generator.beta(options.mixup, options.mixup) if options.mixup else 1.0
    return Sampled(cut, label, numbers, share)


def collate(samples: Sequence[Sampled], rows: Rows, *, pinned: bool = False) -> TrainingBatch:
    """Copies samples into a batch, with its pixels in page-locked memory if `pinned`."""
    return TrainingBatch(
        stacked([sample.pixels for sample in samples], pinned=pinned),
        torch.tensor([sample.label for sample in samples], dtype=torch.int64),
        torch.from_numpy(np.stack([sample.numbers for sample in samples])),
        torch.tensor([sample.share for sample in samples], dtype=torch.float32),
        rows,
    )


def stacked(images: Sequence[NDArray[np.uint8]], *, pinned: bool = False) -> Tensor:
    """Stacks arrays of uint8 (H, W, C) to one tensor (N, C, H, W)."""
    together = torch.empty((len(images), *images[0].shape), dtype=torch.uint8, pin_memory=pinned)
    np.stack(images, out=together.numpy())
    # (N, H, W, C) viewed as (N, C, H, W) is torch's channels_last format, so nothing is moved in memory.
    return together.permute(0, 3, 1, 2)


def validation_batches(
    store: ImageStore, batch_size: int, workers: Workers, rank: int = 0, processes: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images of a store in its order, as inference sees them: uint8 (N, C, H, W) in RGB order, and labels (N,).

    With N processes each takes every N-th image; the last batch may be smaller.
    """
    own = range(rank, len(store), processes)
    groups = (own[start : start + batch_size] for start in range(0, len(own), batch_size))
    labels = store.labels

    def sample(index: int) -> tuple[NDArray[np.uint8], int]:
        return pixels(store[index]), labels[index]

    who = workers.threads if store.is_kept else workers
    for group in made_once(groups, sample, who, batch_size, sample_bytes(store.spec)):
        yield stacked([image for image, _ in group]), torch.tensor([label for _, label in group], dtype=torch.int64)
