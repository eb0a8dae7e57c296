"""Tables in text files found in practice: any usual encoding, line end and delimiter, with comments and blank rows.

This module does not interpret the cells; `label_tables.py` does.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from googlenet_deploy.device.files import reason
from googlenet_deploy.device.text_files import decode_text
from googlenet_deploy.errors import InputError
from googlenet_deploy.evaluation.table_forms import json_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMENT = "#"
_SEPARATOR_LINE = re.compile(r"\W?sep=.\W?\s*", re.IGNORECASE)
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
JSON = "JSON"
FIRST_SPACE, LAST_SPACE = "the first space", "the last space"


@dataclass(frozen=True)
class TextTable:
    """The lines of a table, without comments and blank lines.

    Attributes:
        path: The file.
        lines: Its lines, with their ends.
        encoding: Its encoding.
        comments: Number of comment lines.
    """

    path: Path
    lines: tuple[str, ...]
    encoding: str
    comments: int

    def splits(self) -> Iterator[tuple[str, list[list[str]]]]:
        """The rows for each way of separating cells that fits some line, with its name; cells are stripped.

        Raises:
            InputError: A quoted cell is not closed, or it is JSON of an unknown form.
        """
        text = "".join(self.lines)
        try:
            rows = json_rows(text)
        except ValueError as error:
            raise InputError(self.path, str(error), "rows are filename,label") from error
        if rows is not None:
            yield JSON, rows
            return
        for delimiter, name in DELIMITERS.items():
            if delimiter in text:
                yield name, self._by_delimiter(delimiter)
        if re.search(r"\S[ \t]+\S", text):
            yield FIRST_SPACE, self._by_space(lambda line: line.split(None, 1))
            yield LAST_SPACE, self._by_space(lambda line: line.rsplit(None, 1))

    def single_column(self) -> list[list[str]]:
        """The rows of a table with a single column."""
        return self._by_delimiter(",")

    def _by_delimiter(self, delimiter: str) -> list[list[str]]:
        # A quote inside a cell, as in 5"-disc.jpg, is an ordinary character.
        try:
            rows = list(csv.reader(self.lines, delimiter=delimiter, skipinitialspace=True))
        except csv.Error as error:
            raise InputError(self.path, f"is not a CSV file of text: {error}") from error
        return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]

    def _by_space(self, split: Callable[[str], list[str]]) -> list[list[str]]:
        return [[cell.strip(" \t\"'") for cell in split(line.strip())] for line in self.lines]


def read_text_table(path: Path) -> TextTable:
    """Reads a table of text.

    Raises:
        InputError: It cannot be read or is not text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    text = decode_text(data)
    if text is None:
        raise InputError(path, "is not a CSV file of text", "save it as UTF-8 text")
    lines = [line + "\n" for line in re.split(r"\r\n|\r|\n", text.content) if line.strip()]
    if lines and _SEPARATOR_LINE.fullmatch(lines[0]):  # Excel's; the cells show it as well
        del lines[0]
    rows = tuple(line for line in lines if not line.lstrip().startswith(COMMENT))
    return TextTable(path, rows, text.encoding, len(lines) - len(rows))
