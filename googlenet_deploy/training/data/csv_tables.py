"""Data sets listed in a table of file names and labels, such as a CSV file, with or without a column of splits.

The table is read as every command reads one, see `evaluation.label_tables`: any delimiter, encoding, headings and order
of columns. File names are relative to the table's own folder, or to a folder given separately. If the labels are whole
numbers, classes are in numerical order, otherwise in alphabetical order. A column of splits says "train" or "val";
without it a seeded share of each class is held out.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from googlenet_deploy.device.images.folders import search_folder
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import InputError
from googlenet_deploy.evaluation.dataset import LONGEST_NUMBER
from googlenet_deploy.evaluation.file_names import FileNames
from googlenet_deploy.evaluation.label_tables import SPLITS, plain_label, read_label_table
from googlenet_deploy.training.data.dataset import (
    Sample,
    TrainingData,
    hold_out,
    listed,
    require_every_class,
    require_two,
    same_classes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from googlenet_deploy.evaluation.label_tables import LabelTable

SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
ALLOWED = ("train", "val")


class TableRow(NamedTuple):
    """One row: the file relative to the folder, its label, and "train", "val", or "" without a column of splits."""

    name: str
    label: str
    split: str


class TableRows(NamedTuple):
    """The rows of a table, and in one line how it was read."""

    rows: list[TableRow]
    understood: str


def is_table(place: str) -> bool:
    """Whether a location is a table, by its suffix."""
    return place.lower().endswith(SUFFIXES)


def read_table(
    table: str | Path,
    validation: str | Path | None,
    images: str | Path | None,
    *,
    validation_share: float,
    seed: int,
    every_class: bool = True,
) -> TrainingData:
    """Finds the images that a table lists.

    Args:
        table: The file.
        validation: Another such file, for validation; None uses the rows marked "val", or holds out a share.
        images: The folder that file names are relative to; None for the file's own folder.
        validation_share: Share of each class that is held out if no rows are marked.
        seed: Seed of that split.
        every_class: Whether each class must have training and validation images.

    Raises:
        InputError: A file is missing, damaged, or there are too few classes or images.
    """
    path = Path(table)
    rows, understood = read_rows(path, images)
    notes = [understood]
    other = None
    if validation is not None:
        other, also = read_rows(Path(validation), images)
        notes.append(also)
    classes = _classes(rows if every_class or other is None else [*rows, *other])
    require_two(path, classes, "class")
    samples = _samples(path, rows, classes, images)
    if validation is not None and other is not None:
        if every_class:
            same_classes(Path(validation), classes, _classes(other))
        return TrainingData(path, classes, samples, _samples(Path(validation), other, classes, images), tuple(notes))
    if not rows[0].split:
        train, held_out = hold_out(path, classes, samples, validation_share, seed, every_class=every_class)
        note = f"no validation rows in {path}: {len(held_out)} of {len(samples)} images are held out"
        return TrainingData(path, classes, train, held_out, (note, *notes))
    split_of = {row.name: row.split for row in rows}
    train, held_out = (tuple(s for s in samples if split_of[s.name] == split) for split in ALLOWED)
    for part, split in ((train, "train"), (held_out, "val")) if every_class else ():
        require_every_class(path, classes, part, f"the rows marked {split}")
    return TrainingData(path, classes, train, held_out, tuple(notes))


def read_rows(path: Path, images: str | Path | None = None) -> TableRows:
    """The rows of a table.

    Args:
        path: The table.
        images: The folder that file names are relative to; None for the table's own folder.

    Raises:
        InputError: It cannot be read, is not text, lists files that do not exist or one file twice, or a row is short
            or marked with an unknown split.
    """
    folder = path.parent if images is None else Path(images)
    table = _found_directly(path, folder)
    if table is None:
        content = search_folder(folder) if folder.is_dir() else None
        files = [*content.images, *content.other_files] if content is not None else []
        table = read_label_table(path, FileNames(folder, files, path, anywhere=True), None, split=True)
    missing = [written for written, name, _ in table.rows if name is None]
    splits = _splits(path, table)
    if missing:
        raise InputError(path, f"lists {counted(len(missing), 'file')} missing from {folder}: {listed(missing)}")
    rows = [
        TableRow(name, plain_label(label), split)
        for (_, name, label), split in zip(table.rows, splits, strict=True)
        if name is not None
    ]
    counts = Counter(row.name for row in rows)
    if len(counts) < len(rows):
        raise InputError(path, f"lists {counts.most_common(1)[0][0]} more than once")
    return TableRows(rows, table.understood)


def _found_directly(path: Path, folder: Path) -> LabelTable | None:
    """The table if every name leads to a file as it is written, which spares searching the folder."""
    try:
        table = read_label_table(path, FileNames(folder, (), path, anywhere=True), None, split=True)
    except InputError:
        return None
    return table if all(name is not None for _, name, _ in table.rows) else None


def _splits(path: Path, table: LabelTable) -> list[str]:
    """What each row is for: "train" or "val"; "" for all if there is no column of splits."""
    if not table.splits:
        return [""] * len(table.rows)
    splits = [SPLITS.get(split.lower(), split) for split in table.splits]
    unknown = sorted(set(splits) - set(ALLOWED))
    if "" in unknown:
        raise InputError(
            path, f"has {counted(splits.count(''), 'row')} without a split", "mark every row with train or val"
        )
    if unknown:
        raise InputError(path, f"marks rows with {unknown[0]!r}", "a split is train or val; leave other rows out")
    return splits


def _classes(rows: Sequence[TableRow]) -> tuple[str, ...]:
    labels = sorted({row.label for row in rows})
    numbers = all(label.isascii() and label.isdigit() and len(label.lstrip("0")) <= LONGEST_NUMBER for label in labels)
    return tuple(sorted(labels, key=int) if numbers else labels)


def _samples(
    path: Path, rows: Sequence[TableRow], classes: Sequence[str], images: str | Path | None
) -> tuple[Sample, ...]:
    folder = path.parent if images is None else Path(images)
    label_of = {name: label for label, name in enumerate(classes)}
    samples = [Sample(folder / row.name, label_of[row.label], row.name) for row in rows]
    return tuple(sorted(samples, key=lambda sample: (sample.label, sample.name)))
