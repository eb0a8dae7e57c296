"""The images of a data set with their classes, split into training and validation; nothing is decoded here.

`folders.py` reads a folder per class, `csv_tables.py` a table; shards, which are streamed, are in `shards.py`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from googlenet_deploy.device.labels import imagenet_classes
from googlenet_deploy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SHOWN = 3
WORDNET_ID = re.compile(r"n\d{8}")


class ImageFile(Protocol):
    """A source of an image: a `Path`, or an image of an archive held in memory."""

    def read_bytes(self) -> bytes:
        """The encoded image."""
        ...

    def __str__(self) -> str:
        """Its name in messages."""
        ...


class Sample(NamedTuple):
    """One image: its location, the index of its class, and its name within the data set."""

    path: ImageFile
    label: int
    name: str


@dataclass(frozen=True)
class TrainingData:
    """A data set.

    Attributes:
        root: The folder or file it was read from.
        classes: Names of the classes as in the data set, in the order of the logits.
        train: Training images, sorted by name within each class; empty if they are streamed.
        validation: Validation images, likewise.
        notes: Human-readable notes on omissions and choices.
        every_class: Whether each class must have images.
        shards: Training shards; with these, `train` and `validation` are empty.
        validation_shards: Validation shards.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[Sample, ...] = ()
    validation: tuple[Sample, ...] = ()
    notes: tuple[str, ...] = ()
    every_class: bool = True
    shards: tuple[str, ...] = ()
    validation_shards: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Human-readable names: ImageNet's, if every class is named by its WordNet id."""
        if not self.class_ids:
            return self.classes
        names = {entry.wordnet_id: entry.name for entry in imagenet_classes()}
        return tuple(names.get(wordnet_id, wordnet_id) for wordnet_id in self.classes)

    @property
    def class_ids(self) -> tuple[str, ...]:
        """The WordNet ids if every class is named by one; otherwise empty."""
        return self.classes if all(WORDNET_ID.fullmatch(name) for name in self.classes) else ()


def hold_out(
    root: Path,
    classes: Sequence[str],
    samples: Sequence[Sample],
    share: float,
    seed: int,
    *,
    every_class: bool = True,
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Splits images into training and validation images: a share of each class, at least one image.

    If a class may have no images, a share of all images is held out, regardless of class.

    Raises:
        InputError: A class has a single image, and each class must have images in both parts.
    """
    parts = {name: [sample for sample in samples if sample.label == label] for label, name in enumerate(classes)}
    if not every_class:
        parts = {"of all images": list(samples)}
    train: list[Sample] = []
    validation: list[Sample] = []
    for number, (name, own) in enumerate(parts.items()):
        if len(own) < 2:
            raise InputError(
                root,
                f"class {name} has a single image, and both training and validation need one",
                "add images, or pass separate validation images",
            )
        held_out = min(len(own) - 1, max(1, round(share * len(own))))
        chosen = set(np.random.default_rng((seed, number)).permutation(len(own))[:held_out].tolist())
        for index, sample in enumerate(own):
            (validation if index in chosen else train).append(sample)
    return tuple(train), tuple(validation)


def data_hash(samples: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the data set: a line of image name and SHA-256 of its content for each image that was used."""
    digest = hashlib.sha256()
    for name, content in sorted(samples):
        digest.update(f"{name}\t{content}\n".encode())
    return digest.hexdigest()


def require_every_class(root: Path, classes: Sequence[str], samples: Iterable[Sample], part: str) -> None:
    """Checks that each class has at least one image left.

    Raises:
        InputError: A class has none; the message names it.
    """
    present = {sample.label for sample in samples}
    empty = [name for label, name in enumerate(classes) if label not in present]
    if empty:
        noun = "class" if len(empty) == 1 else f"{len(empty)} classes"
        raise InputError(
            root, f"{noun} {listed(empty)} has no usable images in {part}", "add images, or remove the class"
        )


def require_two(root: Path, classes: Sequence[str], what: str) -> None:
    """Checks that there are at least two classes.

    Raises:
        InputError: There are fewer than two classes.
    """
    if len(classes) < 2:
        found = f"only the {what} {classes[0]}" if classes else f"no {what}s"
        raise InputError(root, f"holds {found}, and a classifier needs two classes", "lay images out as CLASS/image")


def same_classes(place: Path, train: Sequence[str], validation: Sequence[str]) -> None:
    """Checks that the validation images have the same classes as the training images.

    Raises:
        InputError: A class is missing or extra; the message names it.
    """
    missing, extra = sorted(set(train) - set(validation)), sorted(set(validation) - set(train))
    if missing or extra:
        which = f"lacks {listed(missing)}" if missing else f"has {listed(extra)}, which the training images do not"
        raise InputError(place, f"its classes are not those of the training images: it {which}")


def listed(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
