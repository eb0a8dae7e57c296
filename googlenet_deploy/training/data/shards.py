"""Data sets larger than a disk: WebDataset shards, tar files of images and labels that are read as a stream.

A shard holds ``KEY.jpg`` (or another image) and ``KEY.cls`` side by side; the label is a class index, or a class name.
Shards are files or anything else that webdataset reads: ``https://...``, ``pipe:COMMAND``. The order of the shards and
a buffer of images are shuffled by seed and epoch, so a resumed run sees the same images as an uninterrupted one.
Several processes read different shards.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import tarfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from googlenet_deploy.device.files import reason
from googlenet_deploy.device.images.folders import SUFFIXES
from googlenet_deploy.device.images.pipeline import Skipped
from googlenet_deploy.errors import BadImageError, InputError, UsageError, requires
from googlenet_deploy.training.data.batches import (
    ORDER,
    SAMPLE,
    BatchMaker,
    Rows,
    Sampled,
    TrainingBatch,
    sampled,
    stacked,
    steps_per_epoch,
)
from googlenet_deploy.training.data.image_cache import centre, decode, pixels, sample_bytes
from googlenet_deploy.training.data.pools import made_once

with requires("train"):
    import torch
    import webdataset
    from torch import Tensor

    from googlenet_deploy.training.data.augmentation import kept_form

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.evaluation.dataset import ClassIndex
    from googlenet_deploy.training.data.pools import Workers
    from googlenet_deploy.training.distributed import Processes
    from googlenet_deploy.training.options import TrainingOptions

LABEL = "cls"
IMAGES = tuple(sorted(suffix.removeprefix(".") for suffix in SUFFIXES))
SHUFFLED = 2000  # images in the buffer: encoded, so some 200 MB of photographs
SHUFFLE = 4  # keeps the seed of the buffer apart from those of orders, samples and steps
REMOTE = ("pipe:", "http:", "https:", "s3:", "gs:", "hf:", "ais:")
TRAIN, VALIDATION = "train*.tar", "val*.tar"


class Encoded(NamedTuple):
    """One sample of a shard, not decoded yet."""

    key: str
    data: bytes
    label: int


def is_shards(place: str) -> bool:
    """Whether a location refers to shards: tar files, remote ones, or a folder with ``train*.tar``."""
    return place.startswith(REMOTE) or place.endswith(".tar") or any(Path(place).glob(TRAIN))


def find_shards(place: str, pattern: str = TRAIN) -> tuple[str, ...]:
    """The shards at a location, in order.

    Args:
        place: A tar file, a pattern with ``*`` or braces (``train-{000..099}.tar``), a remote location, or a folder.
        pattern: Pattern of the tar files in a folder.

    Raises:
        InputError: There are none, or a file is missing.
    """
    if Path(place).is_dir():
        names = sorted(str(path) for path in Path(place).glob(pattern))
    else:
        expanded = webdataset.shardlists.expand_urls(place)
        names = [name for url in expanded for name in (_matching(url) if "*" in url else [url])]
    if not names:
        raise InputError(place, "names no shards", f"pass tar files, or a folder with {pattern}")
    missing = next((name for name in names if not name.startswith(REMOTE) and not Path(name).is_file()), None)
    if missing is not None:
        raise InputError(missing, "is missing")
    return tuple(names)


def count_images(shards: Sequence[str], processes: Processes) -> int:
    """Number of samples in the shards; each process counts its share from the tar files' headers.

    Raises:
        InputError: A shard is damaged.
        UsageError: A shard is remote, so that counting would read all of it.
    """
    remote = next((name for name in shards if name.startswith(REMOTE)), None)
    if remote is not None:
        raise UsageError(f"{remote} cannot be counted without reading it: pass --epoch-images")
    own = sum(_count(name) for name in shards[processes.rank :: processes.count])
    return sum(processes.gather(own))


def shards_hash(shards: Sequence[str]) -> str:
    """SHA-256 over the shards' names and, for files, their sizes; reading them all would take as long as an epoch."""
    digest = hashlib.sha256()
    for name in shards:
        size = "" if name.startswith(REMOTE) else str(Path(name).stat().st_size)
        digest.update(f"{PurePosixPath(name).name}\t{size}\n".encode())
    return digest.hexdigest()


@dataclass
class ShardFeed:
    """Batches of a stream of shards.

    Attributes:
        shards: All shards.
        classes: Maps a label to its class.
        spec: How images are prepared.
        options: The run's options.
        images: Images of an epoch, over all processes.
        size: Images of a step, over all processes.
        workers: The workers that decode and crop ahead.
        rank: This process.
        processes: Number of processes that share each step; each reads its own shards.
        skipped: Images that could not be used, each once.
    """

    shards: tuple[str, ...]
    classes: ClassIndex
    spec: Preprocessing
    options: TrainingOptions
    images: int
    size: int
    workers: Workers
    rank: int = 0
    processes: int = 1
    skipped: list[Skipped] = field(default_factory=list)

    def batches(self, epoch: int, first: int = 0) -> Iterator[TrainingBatch]:
        """See `Feed`. An image that cannot be used is replaced by another one of its batch.

        Raises:
            InputError: A shard is damaged or missing, or no image of a batch can be used.
        """
        start, stop, _ = self._maker.rows
        count = stop - start
        steps = steps_per_epoch(self)
        # Positions are counted, not images, so completed steps are skipped without decoding.
        stream = itertools.islice(self._stream(epoch), first * count, steps * count)
        groups = iter(lambda: [(epoch, encoded) for encoded in itertools.islice(stream, count)], [])
        yield from self._maker.batches(groups)

    def close(self) -> None:
        """See `Feed`."""
        self._maker.close()

    @cached_property
    def _maker(self) -> BatchMaker[tuple[int, Encoded], Sampled | Skipped]:
        rows = Rows(0, self.size, self.size).part(self.rank, self.processes)
        return BatchMaker(self._sample, self._filled, rows, self.spec, self.workers)

    def _sample(self, place: tuple[int, Encoded]) -> Sampled | Skipped:
        """The sample of an epoch and an image."""
        epoch, encoded = place
        generator = np.random.default_rng((self.options.seed, SAMPLE, epoch, _number(encoded.key)))
        try:
            image = kept_form(self.options)(decode(encoded.data, encoded.key, self.spec), self.spec)
        except (BadImageError, UsageError) as error:
            return Skipped(encoded.key, getattr(error, "problem", error.message))
        return sampled(image, encoded.label, self.spec, self.options, generator)

    def _stream(self, epoch: int) -> Iterator[Encoded]:
        """This process's samples, starting again from the beginning when they run out."""
        for turn in itertools.count():
            order = np.random.default_rng((self.options.seed, ORDER, epoch, turn)).permutation(len(self.shards))
            own = [self.shards[index] for index in order[self.rank :: self.processes]]
            seeds = np.random.SeedSequence((self.options.seed, SHUFFLE, epoch, turn, self.rank))
            yield from read_shards(own, self.classes, int(seeds.generate_state(1)[0]))

    def _filled(self, group: Sequence[Sampled | Skipped]) -> list[Sampled]:
        good = [item for item in group if isinstance(item, Sampled)]
        known = {item.name for item in self.skipped}
        self.skipped += [item for item in group if isinstance(item, Skipped) and item.name not in known]
        if not good:
            bad = self.skipped[-1]
            raise InputError(bad.name, f"{bad.reason}; not one image of its batch can be used")
        filled, last = [], good[0]
        for item in group:
            last = item if isinstance(item, Sampled) else last
            filled.append(last)
        return filled


def read_shards(shards: Sequence[str], classes: ClassIndex, seed: int | None = None) -> Iterator[Encoded]:
    """The samples of some shards, in order, or shuffled in a buffer.

    Args:
        shards: The shards.
        classes: Maps a label to its class.
        seed: Seed of the buffer; None keeps the order.

    Raises:
        InputError: A shard is damaged or missing, or a sample has no image or no known label.
    """
    stream = webdataset.WebDataset(list(shards), shardshuffle=False, nodesplitter=_all, empty_check=False)
    if seed is not None:
        stream = stream.shuffle(SHUFFLED, initial=SHUFFLED // 4, rng=random.Random(seed))  # noqa: S311 - no secret
    samples = iter(stream)
    while True:
        try:
            sample = next(samples, None)
        except (OSError, EOFError, ValueError, tarfile.TarError) as error:
            raise InputError(_culprit(error, shards), _damage(error)) from error
        if sample is None:
            return
        yield _encoded(sample, classes)


def validation_stream(
    shards: Sequence[str],
    classes: ClassIndex,
    spec: Preprocessing,
    *,
    batch_size: int,
    workers: Workers,
    skipped: list[Skipped],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images of shards in their order, as inference sees them: uint8 (N, C, H, W) in RGB order, and labels (N,).

    Args:
        shards: This process's shards.
        classes: Maps a label to its class.
        spec: How images are prepared.
        batch_size: Images per batch.
        workers: The workers that decode ahead.
        skipped: Receives the images that cannot be used.
    """
    stream = read_shards(shards, classes)
    groups = iter(lambda: list(itertools.islice(stream, batch_size)), [])

    def sample(encoded: Encoded) -> tuple[np.ndarray, int] | Skipped:
        try:
            return pixels(centre(decode(encoded.data, encoded.key, spec), spec)), encoded.label
        except (BadImageError, UsageError) as error:
            return Skipped(encoded.key, getattr(error, "problem", error.message))

    for group in made_once(groups, sample, workers, batch_size, sample_bytes(spec)):
        known = {item.name for item in skipped}
        skipped += [item for item in group if isinstance(item, Skipped) and item.name not in known]
        good = [item for item in group if not isinstance(item, Skipped)]
        if good:
            yield stacked([image for image, _ in good]), torch.tensor([label for _, label in good], dtype=torch.int64)


def _matching(pattern: str) -> list[str]:
    return sorted(str(path) for path in Path(pattern).parent.glob(Path(pattern).name))


def _all(urls: Iterable[object]) -> Iterable[object]:
    """Keeps all shards: they are already divided among the processes."""
    return urls


def _encoded(sample: dict[str, object], classes: ClassIndex) -> Encoded:
    key, shard = str(sample["__key__"]), str(sample["__url__"])
    data = next((sample[kind] for kind in IMAGES if kind in sample), None)
    text = sample.get(LABEL)
    if not isinstance(data, bytes) or not isinstance(text, bytes):
        lacks = "image" if data is None else f".{LABEL} file with its label"
        raise InputError(shard, f"its sample {key} has no {lacks}")
    word = text.decode("utf-8", "replace").strip()
    label = classes.find(word)
    if label is None:
        raise InputError(shard, f"its sample {key} is of class {word!r}, which is none of those known")
    return Encoded(f"{PurePosixPath(shard).name}/{key}", data, label)


def _count(shard: str) -> int:
    keys = set()
    try:
        with tarfile.open(shard) as archive:
            for member in archive:
                key, _, suffix = member.name.rpartition("/")[2].partition(".")
                if member.isreg() and suffix.lower() in IMAGES:
                    keys.add((member.name.rpartition("/")[0], key))
    except (OSError, EOFError, tarfile.TarError) as error:
        raise InputError(shard, _damage(error)) from error
    if not keys:
        raise InputError(shard, "contains no images")
    return len(keys)


def _damage(error: Exception) -> str:
    """What is wrong with a shard, in one line: tarfile lists how each compression failed, webdataset adds arguments."""
    said = reason(error) if isinstance(error, OSError) else str(error.args[0] if error.args else error)
    return f"is damaged or cannot be read: {said.partition(chr(10))[0].rstrip(':')}"


def _culprit(error: Exception, shards: Sequence[str]) -> str:
    """The shard that an error is about: webdataset adds its name to the error."""
    named = [word for word in error.args if isinstance(word, str) and word in shards]
    return named[-1] if named else shards[0]


def _number(key: str) -> int:
    """A number that identifies a sample regardless of its position in the stream."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
