"""Tables of labels: which column holds the file names, which the classes, and how they were identified.

`evaluate` and `calibrate` know the classes; `train` learns them from the table, which may also have a column that
divides its rows into training and validation. The evidence is the data itself: the column of file names is the one
whose cells are files of the folder, the column of labels the one whose cells are classes. If several columns qualify,
headings decide.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from googlenet_deploy.device.images.folders import SUFFIXES
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import InputError
from googlenet_deploy.evaluation.table_forms import from_class_columns
from googlenet_deploy.evaluation.text_tables import FIRST_SPACE, JSON, LAST_SPACE, TextTable, read_text_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from googlenet_deploy.evaluation.file_names import FileNames

    Find = Callable[[str], int | None]

# Headings without case, blanks, underscores and other signs.
FILE_HEADINGS = frozenset(
    (
        "filename", "file", "files", "image", "images", "img", "imageid", "imageids", "imagename", "imagefile",
        "imagepath", "imgpath", "imgname", "path", "paths", "filepath", "id", "name", "uri", "url", "photo", "picture",
    )
)  # fmt: skip
LABEL_HEADINGS = frozenset(
    (
        "label", "labels", "class", "classes", "classid", "classindex", "classidx", "classname", "classlabel",
        "labelid", "labelname", "category", "categoryid", "categoryname", "target", "targets", "y", "gt",
        "groundtruth", "truth",
        "wnid", "wordnetid", "synset", "synsetid", "predictionstring", "species", "breed", "diagnosis", "tag", "tags",
    )
)  # fmt: skip
SPLIT_HEADINGS = frozenset(("split", "subset", "set", "part", "partition", "fold", "phase", "usage", "dataset"))
# Without case. Rows for a test have no part in training.
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_NO_CLASSES = LABEL_HEADINGS | SPLIT_HEADINGS | SPLITS.keys()
SAMPLE_ROWS = 2000
SHOWN = 3
LONGEST_SHOWN = 40
_BOXES = re.compile(r"(n\d{8})(?: -?\d+(?:\.\d+)?){4}(?: n\d{8}(?: -?\d+(?:\.\d+)?){4})*")
_WHOLE_NUMBER = re.compile(r"(\d{1,9})\.0+")


@dataclass(frozen=True)
class LabelTable:
    """A table of labels.

    Attributes:
        rows: (name as written, file relative to the folder or None if there is none, label) of each row.
        understood: In one line, how the table was read.
        splits: What each row says that it is for, as written; empty without such a column.
    """

    rows: tuple[tuple[str, str | None, str], ...]
    understood: str
    splits: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Reading:
    """One way to read a table."""

    separator: str
    rows: list[list[str]]
    heading: list[str] | None
    file_column: int
    label_column: int
    split_column: int | None
    files_found: float
    labels_found: float

    @property
    def score(self) -> tuple[float, float, bool]:
        """How well it fits: the number of rows with a file and with a class, and whether there is a heading."""
        return self.files_found * len(self.rows), self.labels_found * len(self.rows), self.heading is not None


def read_label_table(path: Path, files: FileNames, find: Find | None, *, split: bool = False) -> LabelTable:
    """Reads a table of labels.

    Args:
        path: The table.
        files: The files that it may list.
        find: Returns the index of a label's class, or None; without it every label is a class.
        split: Whether a column may divide the rows into training and validation.

    Raises:
        InputError: It cannot be read, is not text, or has no rows with two cells.
    """
    table = read_text_table(path)
    splits_of_rows = ((name, from_class_columns(rows, _NO_CLASSES)) for name, rows in table.splits())
    readings = [_read(name, rows, files, find, split=split) for name, rows in splits_of_rows]
    found = max((reading for reading in readings if reading is not None), key=lambda each: each.score, default=None)
    if found is None or not found.rows:
        raise _no_rows(table)
    rows, splits, unlabelled = [], list[str](), 0
    for cells in found.rows:
        name, label = _cell(cells, found.file_column), _label(cells, found, find)
        if not label:
            short = len(cells) <= max(found.file_column, found.label_column)
            if short and not _is_blank_row(cells, found):
                what = (
                    found.separator
                    if found.separator in (FIRST_SPACE, LAST_SPACE)
                    else f"cells between {found.separator}"
                )
                raise InputError(path, f"has a row without a label: {_shown(','.join(cells))}", f"rows are {what}")
            unlabelled += 1
            continue
        rows.append((name, files.find(name), label))
        splits += [] if found.split_column is None else [_cell(cells, found.split_column)]
    if not rows:
        raise InputError(path, "contains no labels")
    if find is not None:
        _refuse_contradiction(path, found, find)
    understood = _describe(table, found, [row[2] for row in rows], unlabelled, find or _any_number)
    return LabelTable(tuple(rows), understood, tuple(splits))


def _refuse_contradiction(path: Path, reading: _Reading, find: Find) -> None:
    """Refuses a table whose labels are numbers, and that names other classes in words beside them."""
    if reading.heading is None:
        return
    for column in _headed(reading.heading, LABEL_HEADINGS):
        for cells in reading.rows:
            number, name = _cell(cells, reading.label_column), _cell(cells, column)
            if not name or class_of(name, find) is None or _any_number(plain_label(name)) is not None:
                break
            if _any_number(plain_label(number)) is not None and class_of(number, find) != class_of(name, find):
                raise InputError(
                    path,
                    f"contradicts itself: for {_cell(cells, reading.file_column)} {reading.heading[column]} is "
                    f"{_shown(name)}, but {reading.heading[reading.label_column]} {number} is another class",
                    "leave one of the two columns out; numbers are positions in the model's scores, from 0",
                )


def _read(
    separator: str, rows: list[list[str]], files: FileNames, known: Find | None, *, split: bool
) -> _Reading | None:
    """The best choice of columns for one way to separate cells; None if no row has two cells."""
    width = max((len(row) for row in rows), default=0)
    if width < 2:
        return None
    find = known or _repeated(rows)
    heading = rows[0] if _is_heading(rows, files, find) else None
    body = rows[1:] if heading is not None else rows
    sample = body[:: max(1, len(body) // SAMPLE_ROWS)]
    file_shares = [_share(sample, column, lambda cell: files.find(cell) is not None) for column in range(width)]
    file_column = _best(file_shares, _headed(heading, FILE_HEADINGS), 0)
    split_column = _split_column(heading, sample, width, file_column) if split else None
    label_shares = [
        -1.0
        if column in (file_column, split_column)
        else _share(sample, column, lambda cell: class_of(cell, find) is not None)
        for column in range(width)
    ]
    if max(label_shares) < 0:
        return None
    nearest = [*range(file_column + 1, width), *reversed(range(file_column))]
    beside = next(column for column in nearest if column != split_column)
    headed = [column for column in _headed(heading, LABEL_HEADINGS) if label_shares[column] >= 0]
    # Cells are no evidence for a label if the classes are unknown.
    label_column = (headed or [beside])[0] if known is None else _best(label_shares, headed, beside)
    shares = file_shares[file_column], label_shares[label_column]
    return _Reading(separator, body, heading, file_column, label_column, split_column, *shares)


def _repeated(rows: Sequence[Sequence[str]]) -> Find:
    """Finds the cells that occur several times, as labels do and file names and headings do not."""
    counts = Counter(cell for row in rows for cell in row)
    return lambda cell: 0 if counts[cell] > 1 else None


def _any_number(label: str) -> int | None:
    return int(label) if label.isascii() and label.isdigit() and len(label) < LONGEST_SHOWN else None


def _split_column(heading: list[str] | None, rows: Sequence[Sequence[str]], width: int, file_column: int) -> int | None:
    """The column that says what a row is for, by its heading or its cells; None if there is none."""
    headed = [column for column in _headed(heading, SPLIT_HEADINGS) if column != file_column]
    if headed or width < 3:
        return headed[0] if headed else None
    for column in range(width):
        cells = {row[column].lower() for row in rows if column < len(row) and row[column]}
        if column != file_column and cells and cells <= SPLITS.keys():
            return column
    return None


def _best(shares: Sequence[float], headed: Sequence[int], otherwise: int) -> int:
    """The column with the largest share; headed ones first, and `otherwise` for ties or if nothing is found."""
    if headed and (max(shares[column] for column in headed) > 0 or max(shares) <= 0):
        return max(headed, key=lambda column: shares[column])
    largest = max(shares)
    if shares[otherwise] == largest or largest <= 0:
        return otherwise
    return shares.index(largest)


def _headed(heading: list[str] | None, words: frozenset[str]) -> list[int]:
    return [] if heading is None else [column for column, cell in enumerate(heading) if _plain(cell) in words]


def _plain(cell: str) -> str:
    return re.sub(r"[^a-z0-9]", "", cell.lower())


def _is_heading(rows: list[list[str]], files: FileNames, find: Find) -> bool:
    """Whether the first row is a heading: it has no file, and a known heading or nothing found in rows of data."""
    first = rows[0]
    if any(files.find(cell) is not None for cell in first if cell):
        return False
    known = [cell for cell in first if _plain(cell) in FILE_HEADINGS | LABEL_HEADINGS]
    if len(known) > 1 or (known and not _looks_like_data(first, find)):
        return True
    others = any(files.find(cell) is not None for row in rows[1:3] for cell in row if cell)
    return others and not _looks_like_data(first, find)


def _looks_like_data(row: list[str], find: Find) -> bool:
    has_suffix = any(Path(cell.replace("\\", "/")).suffix.lower() in SUFFIXES for cell in row)
    return has_suffix or any(
        class_of(cell, find) is not None for cell in row if cell and _plain(cell) not in LABEL_HEADINGS
    )


def _share(rows: Sequence[Sequence[str]], column: int, fits: Callable[[str], bool]) -> float:
    cells = [row[column] for row in rows if column < len(row) and row[column]]
    return sum(map(fits, cells)) / max(1, len(rows))


def class_of(label: str, find: Find) -> int | None:
    """The class of a cell: as written, or in its plain form."""
    found = find(label)
    if found is not None:
        return found
    plain = plain_label(label)
    return None if plain == label else find(plain)


def plain_label(label: str) -> str:
    """A label without what some tables add: a number such as "2.0", or Kaggle's form "n01440764 85 1 499 272"."""
    number = _WHOLE_NUMBER.fullmatch(label)
    if number:
        return number.group(1)
    boxes = _BOXES.fullmatch(label.strip())
    if boxes and len(set(re.findall(r"n\d{8}", label))) == 1:
        return boxes.group(1)
    return label


def _label(cells: Sequence[str], reading: _Reading, find: Find | None) -> str:
    """The cell of the label, joined with later ones if a name with commas was not put in quotation marks."""
    label = _cell(cells, reading.label_column)
    width = len(reading.heading) if reading.heading is not None else reading.label_column + 1
    if reading.separator == "commas" and len(cells) > width and reading.label_column == width - 1:
        whole = ", ".join(cells[reading.label_column :])
        if find is None:
            return whole if reading.heading is not None and reading.split_column is None else label
        return whole if find(whole) is not None else label
    return label


def _cell(cells: Sequence[str], column: int) -> str:
    return cells[column] if column < len(cells) else ""


def _is_blank_row(cells: Sequence[str], reading: _Reading) -> bool:
    return not _cell(cells, reading.file_column)


def _no_rows(table: TextTable) -> InputError:
    rows = table.single_column() if table.lines else []
    if not rows or (len(rows) == 1 and {_plain(cell) for cell in rows[0]} <= FILE_HEADINGS | LABEL_HEADINGS):
        return InputError(table.path, "contains no labels")
    first = rows[0][0] if rows[0] else ""
    if all(row[0].isdigit() for row in rows if row):
        return InputError(
            table.path,
            "has one number per line and no file names, as ILSVRC's ground truth file",
            "make a table of filename,label of it; ILSVRC's numbers are in the order of its development kit",
        )
    return InputError(table.path, f"has a row without a label: {_shown(first)}", "rows are filename,label")


def _describe(table: TextTable, reading: _Reading, labels: Sequence[str], unlabelled: int, find: Find) -> str:
    def column(index: int, what: str) -> str:
        named = f" {reading.heading[index]!r}" if reading.heading is not None and index < len(reading.heading) else ""
        return f"column {index + 1}{named} {what}"

    cells = JSON if reading.separator == JSON else f"cells separated by {reading.separator}"
    parts = [
        f"{counted(len(labels), 'row')}, {cells}, {table.encoding}",
        "the first row is a heading" if reading.heading is not None else "no heading",
        column(reading.file_column, "names the files"),
        column(reading.label_column, f"the classes by {_kind(labels, find)}"),
    ]
    parts += [column(reading.split_column, "says what a row is for")] if reading.split_column is not None else []
    parts += [counted(table.comments, "comment line")] if table.comments else []
    parts += [f"left out: {counted(unlabelled, 'row')} without a label"] if unlabelled else []
    return f"{table.path}: {'; '.join(parts)}"


def _kind(labels: Sequence[str], find: Find) -> str:
    if all(re.fullmatch(r"\d+(\.0+)?", label) for label in labels):
        numbers = [class_of(label, find) for label in labels]
        known = [number for number in numbers if number is not None]
        return f"number ({min(known)} to {max(known)})" if known else "number"
    if all(re.match(r"n\d{8}", label) for label in labels):
        return "WordNet id"
    return "name"


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... ({len(text)} characters)")


def refuse_unknown(path: Path, unknown: Sequence[tuple[str, str]], count: int) -> InputError:
    """The error for labels that are not classes.

    Args:
        path: The table.
        unknown: (label, file name) of each.
        count: Number of classes; 0 if unknown.
    """
    which = ", ".join(f"{_shown(label)} ({name})" for label, name in unknown[:SHOWN])
    numbers = {label.lstrip("0") or "0" for label, _ in unknown if label.isascii() and label.isdigit()}
    all_numbers = all(label.isascii() and label.isdigit() for label, _ in unknown)
    remedy = None
    if all_numbers and count and numbers == {str(count)}:
        remedy = f"the labels seem to count from 1: subtract 1, so that they run from 0 to {count - 1}"
    elif all_numbers and count:
        remedy = f"the classes are numbered from 0 to {count - 1}; pass their names with --class-names for others"
    elif not count:
        remedy = "the model does not name its classes: pass numbers, or the names with --class-names"
    return InputError(path, f"has {counted(len(unknown), 'label')} of no single class: {which}", remedy)
