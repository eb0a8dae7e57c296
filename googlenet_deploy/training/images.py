"""Decoded images: checked and hashed once, then kept in memory as far as a budget allows.

An image is kept in the form from which samples are cut: the centre crop, exactly as the device will see it, or for
random crops the whole image with its short side resized. Keeping it or decoding it anew gives equal samples.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from googlenet_deploy.device.files import reason
from googlenet_deploy.device.images import load_image
from googlenet_deploy.device.pipeline import Skipped
from googlenet_deploy.device.preprocess import crop_pixels, resized_size
from googlenet_deploy.device.progress import progress
from googlenet_deploy.errors import BadImageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.training.data import Sample

    Form = Callable[[Image.Image, Preprocessing], Image.Image]

SHARES_AHEAD = 64


def centre(image: Image.Image, spec: Preprocessing) -> Image.Image:
    """The centre crop, pixel for pixel what inference sees."""
    return Image.fromarray(crop_pixels(image, spec).squeeze(2) if spec.channels == "L" else crop_pixels(image, spec))


def whole(image: Image.Image, spec: Preprocessing) -> Image.Image:
    """The whole image with its short side resized, for random crops."""
    return image.resize(resized_size(image.width, image.height, spec), Image.Resampling.BILINEAR)


class ImageStore:
    """The images of one part of a data set.

    Attributes:
        samples: Those that can be used, in the order given.
        skipped: The others.
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
        workers: int,
        label: str = "read images",
        quiet: bool = False,
    ) -> None:
        """Decodes every image once.

        Args:
            samples: The images.
            spec: How they are prepared.
            form: What is kept of each: `centre` or `whole`.
            budget: Bytes of pixels that may be kept in memory.
            workers: Threads.
            label: What the progress calls it.
            quiet: Show no progress.
        """
        self.spec, self.form = spec, form
        self.samples: list[Sample] = []
        self.skipped: list[Skipped] = []
        self.hashes: list[str] = []
        self.memory = 0
        self._kept: list[Image.Image | None] = []
        with ThreadPoolExecutor(workers) as pool, progress(label, len(samples), quiet=quiet) as advance:
            for start in range(0, len(samples), SHARES_AHEAD):
                share = samples[start : start + SHARES_AHEAD]
                for sample, result in zip(share, pool.map(self._check, share), strict=True):
                    self._take(sample, result, budget)
                advance(len(share))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Image.Image:
        """The image in its kept form.

        Raises:
            BadImageError: It can no longer be read, though it could when the run began.
        """
        kept = self._kept[index]
        return self._decode(self.samples[index])[0] if kept is None else kept

    @property
    def labels(self) -> list[int]:
        """The class index of each sample."""
        return [sample.label for sample in self.samples]

    def content(self) -> Iterator[tuple[str, str]]:
        """Name and SHA-256 of each sample, for the hash of the data set."""
        return zip((sample.name for sample in self.samples), self.hashes, strict=True)

    def _check(self, sample: Sample) -> tuple[Image.Image, str] | Skipped:
        try:
            return self._decode(sample)
        except BadImageError as error:
            return Skipped(sample.name, error.problem)
        except UsageError as error:  # smaller than the crop, and not to be resized
            return Skipped(sample.name, error.message)

    def _decode(self, sample: Sample) -> tuple[Image.Image, str]:
        try:
            data = sample.path.read_bytes()
        except OSError as error:
            raise BadImageError(sample.path, f"cannot be read: {reason(error)}") from error
        image = load_image(data, name=str(sample.path), mode="L" if self.spec.channels == "L" else "RGB")
        return self.form(image, self.spec), hashlib.sha256(data).hexdigest()

    def _take(self, sample: Sample, result: tuple[Image.Image, str] | Skipped, budget: int) -> None:
        if isinstance(result, Skipped):
            self.skipped.append(result)
            return
        image, content = result
        size = image.width * image.height * len(image.getbands())
        keep = self.memory + size <= budget
        self.memory += size if keep else 0
        self.samples.append(sample)
        self.hashes.append(content)
        self._kept.append(image if keep else None)


def pixels(image: Image.Image) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """uint8 (H, W, C) of an image."""
    array = np.asarray(image, np.uint8)
    return array[:, :, np.newaxis] if array.ndim == 2 else array
