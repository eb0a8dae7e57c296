"""Data sets listed in a CSV file of rows ``filename,label`` or ``filename,label,split``.

File names are relative to the CSV's own folder, or to a folder given separately. If the label column holds only whole
numbers, classes are in numerical order, otherwise in alphabetical order. ``split`` is "train" or "val"; without that
column a seeded share of each class is held out.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from googlenet_deploy.device.files import reason
from googlenet_deploy.errors import InputError
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

HEADING = ("filename", "label", "split")
SPLITS = {"train": "train", "val": "val", "validation": "val"}
COLUMNS = "rows are filename,label or filename,label,split"


class TableRow(NamedTuple):
    """One line of the file; `split` is "train", "val", or empty without such a column."""

    name: str
    label: str
    split: str


def read_table(
    table: str | Path,
    validation: str | Path | None,
    images: str | Path | None,
    *,
    validation_share: float,
    seed: int,
    every_class: bool = True,
) -> TrainingData:
    """Finds the images that a CSV file lists.

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
    rows = read_rows(path)
    other = None if validation is None else read_rows(Path(validation))
    classes = _classes(rows if every_class or other is None else [*rows, *other])
    require_two(path, classes, "class")
    samples = _samples(path, rows, classes, images)
    if validation is not None and other is not None:
        if every_class:
            same_classes(Path(validation), classes, _classes(other))
        return TrainingData(path, classes, samples, _samples(Path(validation), other, classes, images))
    if not rows[0].split:
        train, held_out = hold_out(path, classes, samples, validation_share, seed, every_class=every_class)
        note = f"no validation rows in {path}: {len(held_out)} of {len(samples)} images are held out"
        return TrainingData(path, classes, train, held_out, (note,))
    split_of = {row.name: row.split for row in rows}
    train, held_out = (tuple(s for s in samples if split_of[s.name] == split) for split in ("train", "val"))
    for part, split in ((train, "train"), (held_out, "val")) if every_class else ():
        require_every_class(path, classes, part, f"the rows marked {split}")
    return TrainingData(path, classes, train, held_out)


def read_rows(path: Path) -> list[TableRow]:
    """The rows of a file, without its header.

    Raises:
        InputError: It cannot be read, is not a CSV text file, or a row is short or marked with an unknown split.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            cells = [[cell.strip() for cell in row] for row in csv.reader(stream) if row]
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, "is not a CSV file of text") from error
    if cells and tuple(cell.lower() for cell in cells[0]) in (HEADING, HEADING[:2]):
        del cells[0]
    if not cells:
        raise InputError(path, "lists no images", COLUMNS)
    width = len(cells[0])
    wrong = next((row for row in cells if len(row) != width or width not in (2, 3) or not row[0] or not row[1]), None)
    if wrong is not None:
        raise InputError(path, f"has a row that is not like the others: {','.join(wrong)!r}", COLUMNS)
    unknown = sorted({row[2] for row in cells if width == 3} - set(SPLITS))
    if unknown:
        raise InputError(path, f"marks rows with {unknown[0]!r}", "a split is train or val")
    rows = [TableRow(row[0], row[1], SPLITS[row[2]] if width == 3 else "") for row in cells]
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(path, f"lists {twice} more than once")
    return rows


def _classes(rows: Sequence[TableRow]) -> tuple[str, ...]:
    labels = sorted({row.label for row in rows})
    numbers = all(label.isascii() and label.isdigit() for label in labels)
    return tuple(sorted(labels, key=int) if numbers else labels)


def _samples(
    path: Path, rows: Sequence[TableRow], classes: Sequence[str], images: str | Path | None
) -> tuple[Sample, ...]:
    folder = path.parent if images is None else Path(images)
    label_of = {name: label for label, name in enumerate(classes)}
    samples = [Sample(folder / row.name, label_of[row.label], row.name) for row in rows]
    missing = [sample.name for sample in samples if not Path(str(sample.path)).is_file()]
    if missing:
        raise InputError(path, f"lists {len(missing)} files that are not in {folder}: {listed(missing)}")
    return tuple(sorted(samples, key=lambda sample: (sample.label, sample.name)))
