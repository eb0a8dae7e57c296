"""Decoded images: checked and hashed once, then kept in memory as far as a budget allows.

An image is kept in the form from which samples are cut: the centre crop, exactly as the device will see it, or for
random crops the whole image with its short side resized. A kept image and one decoded again produce equal samples.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from googlenet_deploy.device.files import reason
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.images.pipeline import Skipped
from googlenet_deploy.device.preprocess import crop_pixels, resized_size
from googlenet_deploy.device.progress import progress
from googlenet_deploy.errors import BadImageError, UsageError
from googlenet_deploy.training.data.pools import made_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.training.data.dataset import ImageFile, Sample
    from googlenet_deploy.training.data.pools import Workers
    from googlenet_deploy.training.distributed import Processes

    Form = Callable[[Image.Image, Preprocessing], Image.Image]
    Item = TypeVar("Item")

SHARE = 64


def centre(image: Image.Image, spec: Preprocessing) -> Image.Image:
    """The centre crop, identical to inference pixel for pixel."""
    return Image.fromarray(crop_pixels(image, spec).squeeze(2) if spec.channels == "L" else crop_pixels(image, spec))


def whole(image: Image.Image, spec: Preprocessing) -> Image.Image:
    """The whole image with its short side resized, for random crops."""
    return image.resize(resized_size(image.width, image.height, spec), Image.Resampling.BILINEAR)


class ImageStore:
    """The images of one part of a data set.

    Attributes:
        samples: The usable images, in the order given.
        skipped: The unusable images.
        hashes: SHA-256 of the content of each sample.
        memory: Bytes of pixels that are kept.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        spec: Preprocessing,
        form: Form,
        *,
        budget: int,
        workers: Workers,
        processes: Processes | None = None,
        label: str = "read images",
        quiet: bool = False,
    ) -> None:
        """Decodes every image once; several processes each decode their share and exchange the results.

        Args:
            samples: The images.
            spec: How they are prepared.
            form: What is kept of each: `centre` or `whole`.
            budget: Bytes of pixels that may be kept in memory.
            workers: The workers that decode.
            processes: The processes of the run; None for this one alone.
            label: Its name in the progress display.
            quiet: Show no progress.
        """
        self.spec, self.form, self.budget = spec, form, budget
        self.samples: list[Sample] = []
        self.skipped: list[Skipped] = []
        self.hashes: list[str] = []
        self.memory = 0
        self._kept: dict[str, Image.Image] = {}
        self._full = False
        self._lock = threading.Lock()
        rank, count = (processes.rank, processes.count) if processes else (0, 1)
        checked = self._check_all(samples[rank::count], workers, label, quiet)
        gathered = processes.gather(checked) if processes else [checked]
        for index, sample in enumerate(samples):
            self._take(sample, gathered[index % count][index // count])
        if workers.forked:
            self._keep_others(workers)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Image.Image:
        """The image in its kept form; see `image_of`."""
        return self.image_of(self.samples[index])

    def image_of(self, sample: Sample) -> Image.Image:
        """A sample's image in its kept form.

        Raises:
            BadImageError: It can no longer be read, although it could be when the run began.
        """
        kept = self._kept.get(sample.name)
        return self._decode(sample, _read(sample.path)) if kept is None else kept

    @property
    def is_kept(self) -> bool:
        """Whether all images are in memory."""
        return len(self._kept) >= len(self.samples)

    @property
    def labels(self) -> list[int]:
        """The class index of each sample."""
        return [sample.label for sample in self.samples]

    def content(self) -> Iterator[tuple[str, str]]:
        """Name and SHA-256 of each sample, for the hash of the data set."""
        return zip((sample.name for sample in self.samples), self.hashes, strict=True)

    def _check_all(self, samples: Sequence[Sample], workers: Workers, label: str, quiet: bool) -> list[str | Skipped]:
        results: list[str | Skipped] = []
        shares = (samples[start : start + SHARE] for start in range(0, len(samples), SHARE))
        with progress(label, len(samples), quiet=quiet) as advance:
            # Images decoded by threads can be kept; once memory is full, forked processes check faster.
            first = self._while_room(shares) if workers.forked else shares
            for part, by in ((first, workers.threads), (shares, workers)):
                for checked in made_once(part, self._check, by, SHARE):
                    results.extend(checked)
                    advance(len(checked))
        return results

    def _while_room(self, shares: Iterator[Sequence[Item]]) -> Iterator[Sequence[Item]]:
        while not self._full:
            share = next(shares, None)
            if share is None:
                return
            yield share

    def _keep_others(self, workers: Workers) -> None:
        """Fills the memory with images that other processes of the run have checked; forked processes keep none."""
        others = (index for index, sample in enumerate(self.samples) if sample.name not in self._kept)
        shares = iter(lambda: list(itertools.islice(others, SHARE)), [])
        for _ in made_once(self._while_room(shares), self.__getitem__, workers.threads, SHARE):
            pass

    def _check(self, sample: Sample) -> str | Skipped:
        try:
            data = _read(sample.path)
            self._decode(sample, data)
        except BadImageError as error:
            return Skipped(sample.name, error.problem)
        except UsageError as error:  # smaller than the crop, and not to be resized
            return Skipped(sample.name, error.message)
        return hashlib.sha256(data).hexdigest()

    def _decode(self, sample: Sample, data: bytes) -> Image.Image:
        """The image in its form; it is kept while the budget lasts, whichever image comes first."""
        image = self.form(decode(data, str(sample.path), self.spec), self.spec)
        size = image.width * image.height * len(image.getbands())
        with self._lock:
            if sample.name not in self._kept:
                if self.memory + size > self.budget:
                    self._full = True
                else:
                    self._kept[sample.name] = image
                    self.memory += size
        return image

    def _take(self, sample: Sample, result: str | Skipped) -> None:
        if isinstance(result, Skipped):
            self.skipped.append(result)
        else:
            self.samples.append(sample)
            self.hashes.append(result)


def _read(path: ImageFile) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadImageError(str(path), f"cannot be read: {reason(error)}") from error


def decode(data: bytes, name: str, spec: Preprocessing) -> Image.Image:
    """An encoded image in the specification's colour mode, at its own size.

    Raises:
        BadImageError: It is damaged or not an image.
    """
    return load_image(data, name=name, mode="L" if spec.channels == "L" else "RGB")


def pixels(image: Image.Image) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """uint8 (H, W, C) of an image."""
    array = np.asarray(image, np.uint8)
    return array[:, :, np.newaxis] if array.ndim == 2 else array


def sample_bytes(spec: Preprocessing) -> int:
    """Bytes of the pixels of one sample."""
    height, width = spec.crop
    return height * width * len(spec.channels)
