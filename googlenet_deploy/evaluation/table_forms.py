"""Tables of labels that are not one cell per file and class: JSON in its usual forms, and a column per class.

Both become plain rows, which `label_tables.py` reads like any others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container
from typing import Any

from googlenet_deploy.device.text import printable

Rows = list[list[str]]

_FLAG = re.compile(r"[01](?:\.0*)?")
FEWEST_CLASSES = 2


def json_rows(text: str) -> Rows | None:
    """The rows of a JSON document or of JSON Lines; None if the text is not JSON.

    Understood are lists of objects or lists, an object of labels by file, one of lists of files by class, and an
    object that holds one such list, as ``{"labels": [["a.png", 3], ...]}``. Objects become rows with a heading.

    Raises:
        ValueError: It is JSON of another form.
    """
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        value = _parsed(text)
    except (json.JSONDecodeError, RecursionError):
        value = _json_lines(text)
        if value is None:
            return None
    rows = _rows_of(value)
    if rows is None:
        raise ValueError("is JSON, but neither a list of objects nor an object of labels by file")
    return rows


def _json_lines(text: str) -> list[Any] | None:
    try:
        return [_parsed(line) for line in text.splitlines() if line.strip()]
    except (json.JSONDecodeError, RecursionError):
        return None


def _parsed(text: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # of two labels of a file, JSON would keep the last one silently
        twice = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise ValueError(f"is JSON with the key {printable(twice)} twice in one object")
    return found


def _rows_of(value: Any) -> Rows | None:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, dict):
        lists = [each for each in value.values() if isinstance(each, list) and each]
        nested = len(lists) == 1 and isinstance(lists[0][0], (list, dict))
        return _rows_of_list(lists[0]) if nested else _rows_of_object(value)
    return _rows_of_list(value) if isinstance(value, list) else None


def _rows_of_object(value: dict[str, Any]) -> Rows | None:
    """Files by class, or labels by file."""
    if all(isinstance(each, list) and all(isinstance(file, str) for file in each) for each in value.values()):
        return [[file, name] for name, files in value.items() for file in files]
    if all(_is_scalar(each) for each in value.values()):
        return [[name, _cell(each)] for name, each in value.items()]
    return None


def _rows_of_list(values: list[Any]) -> Rows | None:
    if values and all(isinstance(each, dict) for each in values):
        heading = list(dict.fromkeys(key for each in values for key in each))
        return [heading, *([_cell(each.get(key)) for key in heading] for each in values)]
    if all(isinstance(each, list) for each in values):
        return [[_cell(cell) for cell in each] for each in values]
    return None


def _is_scalar(value: Any) -> bool:  # noqa: ANN401 - whatever JSON holds
    return value is None or isinstance(value, (str, int, float))


def _cell(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (list, dict)):  # no label; it may be nested too deeply to be written again
        return "[...]" if isinstance(value, list) else "{...}"
    return value.strip() if isinstance(value, str) else json.dumps(value)


def from_class_columns(rows: Rows, reserved: Container[str] = ()) -> Rows:
    """Rows of (..., label) in place of a column of 0 and 1 per class, as Kaggle's tables have them.

    Tables without such columns are returned as they are: at least two columns with a heading, in which each row has
    exactly one 1. `reserved` are headings that never are the name of a class.
    """
    if len(rows) < FEWEST_CLASSES + 1 or len({len(row) for row in rows}) > 1:
        return rows
    heading, body = rows[0], rows[1:]
    flags = [column for column in range(len(heading)) if all(_FLAG.fullmatch(row[column]) for row in body)]
    named = [column for column in flags if heading[column] and not _FLAG.fullmatch(heading[column])]
    if len(named) < FEWEST_CLASSES or named != flags or any(heading[column].lower() in reserved for column in named):
        return rows
    chosen = [[column for column in named if row[column].startswith("1")] for row in body]
    if any(len(each) != 1 for each in chosen):
        return rows
    others = [column for column in range(len(heading)) if column not in named]
    made = [[*(row[column] for column in others), heading[each[0]]] for row, each in zip(body, chosen, strict=True)]
    return [[*(heading[column] for column in others), "label"], *made]
