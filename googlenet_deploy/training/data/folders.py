"""Data sets with a folder per class.

Two layouts are read: ``train/CLASS/image`` with ``val/CLASS/image`` (or ``validation/``), or ``CLASS/image``, of
which a seeded share of each class is held out. Class names are the folders' names in sorted order.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from googlenet_deploy.device.files import reason
from googlenet_deploy.device.images.folders import class_folders, describe_left_out, search_folder
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import InputError
from googlenet_deploy.training.data.dataset import (
    Sample,
    TrainingData,
    hold_out,
    require_every_class,
    require_two,
    same_classes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

TRAIN = "train"
VALIDATION = ("val", "validation")

_Found = dict[str, list[tuple[Path, str]]]  # images with their names, by class folder, sorted


def read_folders(
    folder: str | Path, validation: str | Path | None, *, validation_share: float, seed: int
) -> TrainingData:
    """Finds the images of a data set.

    Args:
        folder: The data set, in one of the two layouts.
        validation: Another folder of the same classes, for validation; None uses val/ or a share of `folder`.
        validation_share: Share of each class that is held out if there are no validation images.
        seed: Seed of that split.

    Raises:
        InputError: The folder is missing, has fewer than two classes, a class without images, a class of a single
            image that would have to be split, or other classes in val/ than in train/.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(
            folder, "is not a folder of images", "pass a folder that contains one folder of images per class"
        )
    inner = root / TRAIN if (root / TRAIN).is_dir() else root
    beside = next((root / name for name in VALIDATION if (root / name).is_dir()), None) if inner != root else None
    other = Path(validation) if validation is not None else beside
    if inner != root and other is None:
        raise InputError(root, "has train/ but no val/", f"give {inner} to have a share of it held out for validation")
    notes: list[str] = []
    found = _read_classes(inner, root, notes)
    classes = tuple(found)
    require_two(inner, classes, "folder")
    samples = _labelled(found, classes)
    require_every_class(root, classes, samples, "its folder" if inner == root else f"{TRAIN}/")
    if other is None:
        train, held_out = hold_out(root, classes, samples, validation_share, seed)
        notes.append(f"no val/ in {root}: {len(held_out)} of {len(samples)} images are held out")
        return TrainingData(root, classes, train, held_out, tuple(notes))
    measured = read_like(other, classes, root if other == beside else other, notes)
    return TrainingData(root, classes, samples, measured, tuple(notes))


def read_like(folder: Path, classes: Sequence[str], root: Path, notes: list[str]) -> tuple[Sample, ...]:
    """The images of a folder that must have the given classes.

    Args:
        folder: A folder of images per class.
        classes: The classes.
        root: The folder that the images' names are relative to.
        notes: Receives notes on omitted files.

    Raises:
        InputError: The folder is missing, a class is, or one has no images.
    """
    if not folder.is_dir():
        raise InputError(
            folder, "is not a folder of images", "pass a folder that contains one folder of images per class"
        )
    found = _read_classes(folder, root, notes)
    same_classes(folder, classes, tuple(found))
    samples = _labelled(found, classes)
    require_every_class(root, classes, samples, f"{folder.name}/")
    return samples


def _read_classes(folder: Path, root: Path, notes: list[str]) -> _Found:
    found: _Found = {}
    others: list[str] = []
    try:
        classes, left_out = class_folders(folder)
        for class_folder in classes:
            content = search_folder(class_folder)
            found[class_folder.name] = [(path, path.relative_to(root).as_posix()) for path in map(Path, content.images)]
            others += content.other_files
            notes += content.notes
    except OSError as error:
        raise InputError(folder, f"cannot be read: {reason(error)}") from error
    if left_out:
        folders = counted(len(left_out), "folder")
        notes.append(f"left out, not a class: {folders} in {folder}: {', '.join(left_out)}")
    if others:
        notes.append(f"{folder}: {describe_left_out(others)}")
    return found


def _labelled(found: _Found, classes: Sequence[str]) -> tuple[Sample, ...]:
    return tuple(Sample(path, label, name) for label, each in enumerate(classes) for path, name in found[each])
