"""Labelled images: a folder with a CSV of labels, or a folder per class."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from googlenet_deploy.device.files import reason
from googlenet_deploy.device.images.decode import SUFFIXES
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.labels import short_name
from googlenet_deploy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = 3


@dataclass(frozen=True)
class LabelledImages:
    """Images with the index of their true class.

    Attributes:
        sources: The images, sorted by name.
        labels: One class index per image.
        notes: What was left out, for people.
        class_count: How many classes the labels choose from; 0 where that is not known.
    """

    sources: tuple[ImageSource, ...]
    labels: tuple[int, ...]
    notes: tuple[str, ...] = ()
    class_count: int = 0


class ClassIndex:
    """Finds the index of a class by its number, its name (whole or the first of several) or its WordNet id.

    Args:
        names: Class names in the order of the logits; may be empty.
        ids: WordNet ids in the order of the logits; may be empty.
    """

    def __init__(self, names: Sequence[str], ids: Sequence[str] = ()) -> None:
        self.count = max(len(names), len(ids))
        self._by_word: dict[str, int | None] = {}
        for words in ([short_name(name) for name in names], names, ids):
            self._by_word.update(_unique_places(words))

    def find(self, label: str) -> int | None:
        """The index that a label means; None where it means nothing, or several classes as "crane" does in ImageNet.

        A name comes before a number, so that the classes "0" to "9" in any order are found by name.
        """
        word = label.strip().lower()
        if word in self._by_word:
            return self._by_word[word]
        if not word.isascii() or not word.isdigit():
            return None
        index = int(word)
        return index if not self.count or index < self.count else None


def _unique_places(words: Sequence[str]) -> dict[str, int | None]:
    """The index of each word in lower case; None for a word that occurs more than once."""
    places: dict[str, int | None] = {}
    for index, word in enumerate(words):
        key = word.strip().lower()
        places[key] = None if key in places else index
    return places


def read_labelled_images(folder: str | Path, labels: str | Path | None, classes: ClassIndex) -> LabelledImages:
    """Images with labels, from a CSV file or, where `labels` is None, from a folder per class.

    Raises:
        InputError: Files are missing, labels are unknown, or nothing is left.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(folder, "is no folder of images")
    found = _from_csv(root, Path(labels), classes) if labels is not None else _from_folders(root, classes)
    if not found.sources:
        raise InputError(folder, "holds no images with labels")
    return replace(found, class_count=classes.count)


def _from_csv(root: Path, labels: Path, classes: ClassIndex) -> LabelledImages:
    by_name = _label_of_each(labels, _read_rows(labels), classes)
    present = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    missing = [name for name in by_name if name not in present]
    if missing:
        raise InputError(labels, f"names {len(missing)} files that are not in {root}: {', '.join(missing[:SHOWN])}")
    unlabelled = [name for name in present - set(by_name) if Path(name).suffix.lower() in SUFFIXES]
    notes = (f"{len(unlabelled)} images in {root} have no label and were left out",) if unlabelled else ()
    names = sorted(by_name)
    sources = tuple(ImageSource(str(root / name)) for name in names)
    return LabelledImages(sources, tuple(by_name[name] for name in names), notes)


def _label_of_each(labels: Path, rows: list[tuple[str, str]], classes: ClassIndex) -> dict[str, int]:
    """The class index of each file name."""
    by_name: dict[str, int] = {}
    unknown = []
    for name, label in rows:
        index = classes.find(label)
        if index is None:
            unknown.append(f"{label!r} ({name})")
        elif by_name.setdefault(name, index) != index:
            raise InputError(labels, f"gives {name} two different labels")
    if unknown:
        raise InputError(labels, f"has {len(unknown)} labels that are not one class: {', '.join(unknown[:SHOWN])}")
    return by_name


def _read_rows(path: Path) -> list[tuple[str, str]]:
    """(file name, label) of each row; a first row "filename,label" is a heading."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, "is not a CSV file of text") from error
    if rows and [cell.strip().lower() for cell in rows[0][:2]] == ["filename", "label"]:
        rows = rows[1:]
    short = next((row for row in rows if len(row) < 2), None)
    if short is not None:
        raise InputError(path, f"has a row without a label: {','.join(short)!r}", "rows are filename,label")
    if not rows:
        raise InputError(path, "holds no labels")
    return [(row[0].strip(), row[1]) for row in rows]


def _from_folders(root: Path, classes: ClassIndex) -> LabelledImages:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise InputError(root, "has no folder per class", "give a CSV of filename,label with --labels")
    unknown = [folder.name for folder in folders if classes.find(folder.name) is None]
    if unknown:
        raise InputError(
            root,
            f"has {len(unknown)} folders that are not one class: {', '.join(unknown[:SHOWN])}",
            "name them by class name, class index or WordNet id, or give --class-names",
        )
    sources, labels, others = [], [], 0
    for folder in folders:
        index = classes.find(folder.name)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if index is not None and path.suffix.lower() in SUFFIXES:
                sources.append(ImageSource(str(path)))
                labels.append(index)
            else:
                others += 1
    notes = (f"{others} files in {root} are no images and were left out",) if others else ()
    return LabelledImages(tuple(sources), tuple(labels), notes)
