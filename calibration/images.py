"""Where calibration's images come from: files, with the usual preprocessing, or arrays that exist already."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from googlenet_deploy.calibration.options import DEFAULT_COUNT
from googlenet_deploy.device.files import sha256_file
from googlenet_deploy.device.images.folders import describe_left_out
from googlenet_deploy.device.images.pipeline import Batch
from googlenet_deploy.device.images.sources import ImageSource, Sources, find_images, read_image_list
from googlenet_deploy.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from googlenet_deploy.calibration.options import ImageOptions
    from googlenet_deploy.calibration.table import CalibrationTable
    from googlenet_deploy.device.files import PathLike


LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})


class Batches(Protocol):
    """Batches of prepared images; every iteration returns the same ones in the same order."""

    def __iter__(self) -> Iterator[Batch]:
        """The batches."""
        ...


class ArrayBatches:
    """Batches of images that are in memory already.

    Args:
        array: (N, ...) as the network's input expects it.
        batch_size: Images per batch; the last one may have fewer.
    """

    def __init__(self, array: NDArray[Any], batch_size: int = 4) -> None:
        self.array, self.batch_size = array, batch_size

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.array), self.batch_size):
            part = self.array[start : start + self.batch_size]
            yield Batch(part, [f"image {start + index}" for index in range(len(part))])


@dataclass(frozen=True)
class ImageSelection:
    """The images chosen for calibration, and those left over.

    Attributes:
        chosen: The chosen images, in the order in which they are used.
        others: All the others, sorted by path; calibration never sees them.
        notes: What the user should know, such as fewer images than requested.
    """

    chosen: tuple[ImageSource, ...]
    others: tuple[ImageSource, ...]
    notes: tuple[str, ...] = field(default=())

    def only(self, names: Container[str]) -> ImageSelection:
        """The same selection, limited to images with these names."""
        chosen, others = (tuple(each for each in part if each.name in names) for part in (self.chosen, self.others))
        return ImageSelection(chosen, others, self.notes)


def select_images(place: PathLike, count: int | None, seed: int = 0) -> ImageSelection:
    """Chooses images from a folder, a pattern, or a text file that lists them.

    Args:
        place: A folder (searched with its subfolders), an image, a pattern, or a .txt file with one image per line.
        count: How many to draw at random; None uses all of them, in their own order.
        seed: Seed of the random draw. The same folder, count and seed give the same images in the same order.

    Raises:
        InputError: There are no images.
        UsageError: `count` is below 1.
    """
    if count is not None and count < 1:
        raise UsageError("the number of calibration images must be at least 1")
    found = read_image_list(place) if is_list(place) else find_images([place])
    images = found.images
    if not images:
        raise InputError(place, "contains no images", "pass a folder with photographs like those the model will see")
    if count is None or count >= len(images):
        return ImageSelection(tuple(images), (), (*_shortage(count, len(images)), *_others(found)))
    drawn = random.Random(seed).sample(range(len(images)), count)  # noqa: S311 - a reproducible draw, no secret
    rest = sorted(set(range(len(images))) - set(drawn))
    chosen, others = (tuple(images[index] for index in part) for part in (drawn, rest))
    return ImageSelection(chosen, others, _others(found))


def choose_images(options: ImageOptions) -> ImageSelection:
    """The images that a calibration's options ask for.

    Raises:
        InputError: There are no images.
        UsageError: No images were requested.
    """
    if options.images is None:
        raise UsageError("images are needed to calibrate on", "pass --images PATH")
    if options.count is None and not is_list(options.images):
        return select_images(options.images, DEFAULT_COUNT, options.seed)
    return select_images(options.images, options.count, options.seed)


def spread(images: Sequence[ImageSource], count: int) -> list[ImageSource]:
    """At most `count` of the images, spread evenly over them."""
    count = min(count, len(images))
    return [images[index * len(images) // count] for index in range(count)]


def is_list(place: PathLike) -> bool:
    """Whether a path is a text file that lists images."""
    return Path(place).suffix.lower() in LIST_SUFFIXES and Path(place).is_file()


def hash_contents(images: Iterable[ImageSource]) -> list[str]:
    """SHA-256 of each image's file.

    Raises:
        InputError: An image that was used before no longer exists.
    """
    return [
        hashlib.sha256(image.data).hexdigest() if image.data is not None else sha256_file(image.name)
        for image in images
    ]


def hash_images(images: Sequence[ImageSource], contents: Sequence[str]) -> str:
    """SHA-256 over names (without folders) and contents, in order.

    Args:
        images: The images.
        contents: What `hash_contents` returns for them.
    """
    digest = hashlib.sha256()
    for image, content in zip(images, contents, strict=True):
        digest.update(f"{Path(image.name).name}\0{content}\n".encode())
    return digest.hexdigest()


def _shortage(wanted: int | None, available: int) -> tuple[str, ...]:
    if wanted is None or wanted == available:
        return ()
    return (f"{wanted} images were asked for, there are only {available}: all of them are used",)


def _others(found: Sources) -> tuple[str, ...]:
    files = describe_left_out(found.other_files)
    return (*((files,) if files else ()), *found.notes)


# Contents are compared for this many times the wanted number of images, so a large folder need not be read in full.
READ_AHEAD = 4


@dataclass(frozen=True)
class HeldBack:
    """Hold-out images.

    Attributes:
        images: In the order of their names.
        unseen: Whether none of them was used to make the result that they evaluate.
    """

    images: tuple[ImageSource, ...]
    unseen: bool


def held_back(selection: ImageSelection, table: CalibrationTable, count: int, *, used: bool) -> HeldBack:
    """Chooses at most `count` images, spread evenly over the unused ones, or over all if there are none.

    Args:
        selection: The available images.
        table: The calibration, which knows its images by content.
        count: How many are wanted.
        used: Whether the chosen images of `selection` were used for calibration or a refinement; if not, they may be
            hold-out images too.
    """
    candidates = selection.others if used else (*selection.chosen, *selection.others)
    some = spread(candidates, READ_AHEAD * count)
    unseen = [image for image in some if not _is_among(table, image)]
    if unseen:
        return HeldBack(tuple(spread(unseen, count)), unseen=True)
    return HeldBack(tuple(spread(some or selection.chosen, count)), unseen=False)


def _is_among(table: CalibrationTable, image: ImageSource) -> bool:
    try:
        return table.images.holds(hash_contents([image])[0])
    except InputError:  # it is skipped later, with a reason
        return False
