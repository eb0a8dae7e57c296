"""Decodes and preprocesses images in threads, ahead of the network, in order and in bounded memory.

Pillow releases Python's GIL while it decodes and resizes, and so do the runners while they compute, so the next
batches are prepared while the network processes the current one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image

from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.prefetch import cancel_future, in_order, result_of
from googlenet_deploy.device.preprocess import normalize, preprocess
from googlenet_deploy.device.system.processor import available_cores
from googlenet_deploy.errors import BadImageError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.specification import Preprocessing

BATCHES_AHEAD = 2


class Batch(NamedTuple):
    """Prepared images.

    Attributes:
        array: (N, ...) of the specification's input shape and dtype; N is at most the batch size.
        names: The images' names, one per row.
        images: The decoded images, if requested.
    """

    array: NDArray[np.generic]
    names: List[str]
    images: Optional[List[Image.Image]] = None


class Skipped(NamedTuple):
    """An image that could not be used, and why."""

    name: str
    reason: str


class ImageBatches:
    """Batches of prepared images, in the order of the sources; can be iterated over more than once.

    Images that cannot be used are left out and listed in `skipped` (of the latest iteration). At most
    `BATCHES_AHEAD` batches and one image per worker are in memory in addition to the current batch.

    Args:
        sources: The images.
        spec: The preprocessing.
        batch_size: Images per batch; the last one may have fewer.
        workers: Decoding threads; None uses one per core that this process may use, at most 8.
        backend: Library for the resize, "pillow" or "opencv".

    Raises:
        UsageError: The batch size or the number of workers is below 1.
    """

    def __init__(
        self,
        sources: Sequence[ImageSource],
        spec: Preprocessing,
        batch_size: int,
        *,
        workers: Optional[int] = None,
        backend: str = "pillow",
    ) -> None:
        if batch_size < 1 or (workers is not None and workers < 1):
            raise UsageError("the batch size and the number of workers must be at least 1")
        self.sources, self.spec, self.batch_size, self.backend = sources, spec, batch_size, backend
        self.workers = workers or min(8, available_cores())
        self.skipped: List[Skipped] = []

    def __iter__(self) -> Iterator[Batch]:
        self.skipped = []
        arrays: List[NDArray[np.generic]] = []
        names: List[str] = []
        for source, prepared in zip(self.sources, self._prepared()):
            if isinstance(prepared, Skipped):
                self.skipped.append(prepared)
                continue
            arrays.append(prepared)
            names.append(source.name)
            if len(arrays) == self.batch_size:
                yield Batch(np.stack(arrays), names)
                arrays, names = [], []
        if arrays:
            yield Batch(np.stack(arrays), names)

    def _prepared(self) -> Iterator[Union[NDArray[np.generic], Skipped]]:
        ahead = BATCHES_AHEAD * self.batch_size + self.workers + 1
        with ThreadPoolExecutor(self.workers, thread_name_prefix="decode") as pool:
            made = in_order(
                self.sources, lambda source: pool.submit(self._prepare, source), result_of, ahead, cancel_future
            )
            for _, prepared in made:
                yield prepared

    def _prepare(self, source: ImageSource) -> Union[NDArray[np.generic], Skipped]:
        try:
            return prepare(source, self.spec, self.backend)
        except (BadImageError, UsageError) as error:
            return skipped(source, error)


def prepare(source: ImageSource, spec: Preprocessing, backend: str = "pillow") -> NDArray[np.generic]:
    """Decodes and prepares one image.

    Args:
        source: The image.
        spec: The preprocessing.
        backend: Library for the resize, "pillow" or "opencv".

    Raises:
        BadImageError: It cannot be decoded.
        UsageError: It is smaller than the crop and must not be resized.
    """
    return prepare_source(source, spec, backend).array


class PreparedImage(NamedTuple):
    """One image, prepared.

    Attributes:
        array: Of the specification's input shape and dtype.
        image: The decoded image, if requested.
        size: Its (height, width) before it was resized to the network's frame size; None if it was not resized for
            that.
    """

    array: NDArray[np.generic]
    image: Optional[Image.Image]
    size: Optional[Tuple[int, int]]


def prepare_source(
    source: ImageSource, spec: Preprocessing, backend: str = "pillow", *, keep_image: bool = False
) -> PreparedImage:
    """Decodes and prepares one image; see `prepare`. A frame that the network accepts unchanged bypasses Pillow."""
    if source.pixels is not None and spec.channels != "L" and source.pixels.shape[:2] == spec.frame:
        image = Image.fromarray(source.pixels) if keep_image else None
        return PreparedImage(normalize(source.pixels, spec), image, None)
    decoded = decode(source, spec)
    size = (decoded.height, decoded.width)
    array = preprocess(decoded, spec, backend)
    return PreparedImage(array, decoded if keep_image else None, None if spec.frame in (None, size) else size)


def stacked(arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    """Stacks prepared images into a batch; for one image a view, since a frame takes megabytes."""
    return arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays)


def decode(source: ImageSource, spec: Preprocessing) -> Image.Image:
    """Decodes the image in the mode that the specification requires.

    Raises:
        BadImageError: It cannot be decoded.
    """
    mode = "L" if spec.channels == "L" else "RGB"
    if source.pixels is not None:
        frame = Image.fromarray(source.pixels)
        return frame if mode == "RGB" else frame.convert(mode)
    return load_image(source.data if source.data is not None else source.name, name=source.name, mode=mode)


def skipped(source: ImageSource, error: Union[BadImageError, UsageError]) -> Skipped:
    """The reason why an image cannot be used: it is damaged, or smaller than the crop and must not be resized."""
    return Skipped(source.name, error.problem if isinstance(error, BadImageError) else error.message)
