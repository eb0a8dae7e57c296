"""The images of a folder per class, split into training and validation.

Two layouts are read: ``train/CLASS/image`` with ``val/CLASS/image`` (or ``validation/``), or ``CLASS/image``, of
which a seeded share of each class is held out. Class names are the folders' names in sorted order.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from googlenet_deploy.device.files import reason
from googlenet_deploy.device.images import SUFFIXES
from googlenet_deploy.device.labels import imagenet_classes
from googlenet_deploy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TRAIN = "train"
VALIDATION = ("val", "validation")
SHOWN = 3
WORDNET_ID = re.compile(r"n\d{8}")


class Sample(NamedTuple):
    """One image: where it lies, the index of its class, and its name within the data set."""

    path: Path
    label: int
    name: str


@dataclass(frozen=True)
class ImageFolder:
    """A data set.

    Attributes:
        root: The folder.
        classes: Names of the class folders, in the order of the logits.
        train: Images to learn from, sorted by name.
        validation: Images to measure with, sorted by name.
        notes: What was left out or decided, for people.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """For people: where every folder is named by its WordNet id, ImageNet's name for it."""
        if not self.class_ids:
            return self.classes
        names = {entry.wordnet_id: entry.name for entry in imagenet_classes()}
        return tuple(names.get(wordnet_id, wordnet_id) for wordnet_id in self.classes)

    @property
    def class_ids(self) -> tuple[str, ...]:
        """The WordNet ids where every folder is named by one; else empty."""
        return self.classes if all(WORDNET_ID.fullmatch(name) for name in self.classes) else ()


def read_image_folder(folder: str | Path, *, validation_share: float, seed: int) -> ImageFolder:
    """Finds the images of a data set; nothing is decoded yet.

    Args:
        folder: The data set, in one of the two layouts.
        validation_share: Share of each class that is held out where there is no val/; at least one image.
        seed: Of that split.

    Raises:
        InputError: The folder is missing, has fewer than two classes, a class without images, a class of a single
            image that would have to be split, or other classes in val/ than in train/.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(folder, "is no folder of images", "give a folder that holds one folder of images per class")
    validation_folder = next((root / name for name in VALIDATION if (root / name).is_dir()), None)
    if (root / TRAIN).is_dir():
        if validation_folder is None:
            raise InputError(
                root, "has train/ but no val/", f"give {root / TRAIN} to have a share of it held out for validation"
            )
        return _two_folders(root, root / TRAIN, validation_folder)
    return _one_folder(root, validation_share, seed)


def data_hash(samples: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the data set: a line of image name and SHA-256 of its content for each image that was used."""
    digest = hashlib.sha256()
    for name, content in sorted(samples):
        digest.update(f"{name}\t{content}\n".encode())
    return digest.hexdigest()


def require_every_class(root: Path, classes: Sequence[str], samples: Iterable[Sample], part: str) -> None:
    """Checks that each class has an image left.

    Raises:
        InputError: A class has none; the message names it.
    """
    present = {sample.label for sample in samples}
    empty = [name for label, name in enumerate(classes) if label not in present]
    if empty:
        noun = "class" if len(empty) == 1 else f"{len(empty)} classes"
        raise InputError(
            root,
            f"{noun} {_listed(empty)} has no usable images in {part}",
            "add images, or remove the folder",
        )


def _two_folders(root: Path, train_folder: Path, validation_folder: Path) -> ImageFolder:
    notes: list[str] = []
    train = _read_classes(train_folder, root, notes)
    validation = _read_classes(validation_folder, root, notes)
    classes = tuple(train)
    _require_two(train_folder, classes)
    missing, extra = sorted(set(classes) - set(validation)), sorted(set(validation) - set(classes))
    if missing or extra:
        which = f"lacks {_listed(missing)}" if missing else f"has {_listed(extra)}, which train/ does not"
        raise InputError(validation_folder, f"its classes are not those of train/: it {which}")
    parts = [_labelled(part, classes) for part in (train, validation)]
    for part, folder in zip(parts, (train_folder, validation_folder), strict=True):
        require_every_class(root, classes, part, f"{folder.name}/")
    return ImageFolder(root, classes, parts[0], parts[1], tuple(notes))


def _one_folder(root: Path, share: float, seed: int) -> ImageFolder:
    notes: list[str] = []
    found = _read_classes(root, root, notes)
    classes = tuple(found)
    _require_two(root, classes)
    require_every_class(root, classes, _labelled(found, classes), "its folder")
    train: list[Sample] = []
    validation: list[Sample] = []
    for label, paths in enumerate(found.values()):
        samples = [Sample(path, label, name) for path, name in paths]
        if len(samples) < 2:
            raise InputError(
                root / classes[label],
                "has a single image, and both training and validation need one",
                "add images, or lay the data out as train/ and val/",
            )
        held_out = min(len(samples) - 1, max(1, round(share * len(samples))))
        chosen = set(np.random.default_rng((seed, label)).permutation(len(samples))[:held_out].tolist())
        for index, sample in enumerate(samples):
            (validation if index in chosen else train).append(sample)
    notes.append(f"no val/ in {root}: {len(validation)} of {len(train) + len(validation)} images are held out")
    return ImageFolder(root, classes, tuple(train), tuple(validation), tuple(notes))


def _read_classes(folder: Path, root: Path, notes: list[str]) -> dict[str, list[tuple[Path, str]]]:
    """Images with their names by class folder, sorted."""
    found: dict[str, list[tuple[Path, str]]] = {}
    others = 0
    try:
        for class_folder in sorted(path for path in folder.iterdir() if path.is_dir() and not _hidden(path)):
            files = sorted(path for path in class_folder.rglob("*") if path.is_file() and not _hidden(path))
            images = [path for path in files if path.suffix.lower() in SUFFIXES]
            others += len(files) - len(images)
            found[class_folder.name] = [(path, path.relative_to(root).as_posix()) for path in images]
    except OSError as error:
        raise InputError(folder, f"cannot be read: {reason(error)}") from error
    if others:
        notes.append(f"{others} files in {folder} are no images by their suffix and were left out")
    return found


def _labelled(found: dict[str, list[tuple[Path, str]]], classes: Sequence[str]) -> tuple[Sample, ...]:
    return tuple(Sample(path, label, name) for label, each in enumerate(classes) for path, name in found[each])


def _require_two(folder: Path, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        found = f"only the folder {classes[0]}" if classes else "no folders"
        raise InputError(folder, f"holds {found}, and a classifier needs two classes", "lay images out as CLASS/image")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")
