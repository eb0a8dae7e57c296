"""Labelled images: a folder with a CSV of labels, or a folder per class."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from googlenet_deploy.device.files import reason
from googlenet_deploy.device.images import SUFFIXES
from googlenet_deploy.device.labels import short_name
from googlenet_deploy.device.sources import ImageSource
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
    """

    sources: tuple[ImageSource, ...]
    labels: tuple[int, ...]
    notes: tuple[str, ...] = ()


class ClassIndex:
    """Finds the index of a class by its number, its name (whole or the first of several) or its WordNet id.

    Args:
        names: Class names in the order of the logits; may be empty.
        ids: WordNet ids in the order of the logits; may be empty.
    """

    def __init__(self, names: Sequence[str], ids: Sequence[str] = ()) -> None:
        self.count = max(len(names), len(ids))
        self._by_word: dict[str, int] = {}
        for words in ([short_name(name) for name in names], names, ids):
            self._by_word.update({word.strip().lower(): index for index, word in enumerate(words)})

    def find(self, label: str) -> int | None:
        """The index that a label means; None where it means nothing.

        A name comes before a number, so that the classes "0" to "9" in any order are found by name.
        """
        word = label.strip().lower()
        if word in self._by_word:
            return self._by_word[word]
        if not word.isascii() or not word.isdigit():
            return None
        index = int(word)
        return index if not self.count or index < self.count else None


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
    return found


def _from_csv(root: Path, labels: Path, classes: ClassIndex) -> LabelledImages:
    rows = _read_rows(labels)
    unknown = [f"{label!r} ({name})" for name, label in rows if classes.find(label) is None]
    if unknown:
        raise InputError(labels, f"has {len(unknown)} labels that are no class: {', '.join(unknown[:SHOWN])}")
    present = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    missing = [name for name, _ in rows if name not in present]
    if missing:
        raise InputError(labels, f"names {len(missing)} files that are not in {root}: {', '.join(missing[:SHOWN])}")
    by_name = {name: classes.find(label) for name, label in rows}
    unlabelled = sorted(n for n in present - set(by_name) if Path(n).suffix.lower() in SUFFIXES)
    notes = (f"{len(unlabelled)} images in {root} have no label and were left out",) if unlabelled else ()
    names = sorted(by_name)
    indices = tuple(index for name in names if (index := by_name[name]) is not None)
    return LabelledImages(tuple(ImageSource(str(root / name)) for name in names), indices, notes)


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
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    if not folders:
        raise InputError(root, "has no folder per class", "give a CSV of filename,label with --labels")
    unknown = [folder.name for folder in folders if classes.find(folder.name) is None]
    if unknown:
        raise InputError(
            root,
            f"has {len(unknown)} folders that are no class: {', '.join(unknown[:SHOWN])}",
            "name them by class name, class index or WordNet id, or give --class-names",
        )
    sources, labels = [], []
    for folder in folders:
        index = classes.find(folder.name)
        for path in sorted(folder.rglob("*")):
            if index is not None and path.is_file() and path.suffix.lower() in SUFFIXES:
                sources.append(ImageSource(str(path)))
                labels.append(index)
    return LabelledImages(tuple(sources), tuple(labels))
