"""Reads class names in the formats that frameworks publish: lines, numbered lines, WordNet ids, CSV and JSON.

Each reader requires its format in all lines, so a name that merely starts with a number remains a name.
"""

from __future__ import annotations

import csv
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.labels import imagenet_classes
from googlenet_deploy.device.text import Report, log_note
from googlenet_deploy.device.text_files import decode_text
from googlenet_deploy.errors import InputError

_ID = re.compile(r"n\d{8}")
_NUMBERED = re.compile(r"(\d{1,6})(?:\s*[:,;=]\s*|\s+)(\S.*)")
_WITH_ID = re.compile(r"(n\d{8})(?:\s*[:,;=]\s*|\s+)(\S.*)")
_HEADINGS = {"index", "idx", "id", "number", "classid", "classindex", "class", "label", "name", "classname", "wnid", ""}
_NAMES_INSIDE = ("id2label", "label2id", "names", "classes", "class_names", "labels", "categories")

StatedNames = Union[PathLike, Sequence[str], None]


@dataclass(frozen=True)
class ClassList:
    """The class names in a file.

    Attributes:
        names: In the order of the logits.
        ids: WordNet ids in the same order; empty if the file has none.
        form: The detected format; empty for one name per line.
    """

    names: Tuple[str, ...]
    ids: Tuple[str, ...] = ()
    form: str = ""


def read_class_list(path: PathLike) -> ClassList:
    """Reads the class names in a file, in the order of the logits.

    Raises:
        InputError: The file cannot be read, is not text, has no names, or omits classes.
    """
    try:
        text = decode_text(Path(path).read_bytes())
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    if text is None:
        raise InputError(path, "is not a text file with one class name per line")
    content = text.content.strip("\n\r\t \ufeff")
    if not content:
        raise InputError(path, "contains no class names: the text file is empty")
    if content[0] in "[{":
        found = _from_json(path, content)
        if found is not None:
            return found
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text.content.rstrip())]
    for reader in (_one_line, _csv, _numbered, _with_ids):
        found = reader(path, lines)
        if found is not None:
            return found
    return ClassList(tuple(lines))


def read_class_names(path: PathLike) -> Tuple[str, ...]:
    """Like `read_class_list`, but returns the names only.

    Raises:
        InputError: The file cannot be read, is not text, has no names, or omits classes.
    """
    return read_class_list(path).names


def choose_class_list(
    stated: StatedNames, own: Sequence[str], own_ids: Sequence[str] = (), report: Report = log_note
) -> ClassList:
    """The stated class names, or else the model's own; empty if there are none.

    Args:
        stated: A file, "imagenet", the names themselves, or None.
        own: The model's names.
        own_ids: The model's WordNet ids.
        report: Called with a line about the detected format.

    Raises:
        InputError: See `read_class_list`.
    """
    if stated is None:
        return ClassList(tuple(own), tuple(own_ids))
    if stated == "imagenet":  # no ids are stated, so the model's are used
        return ClassList(tuple(entry.name for entry in imagenet_classes()), tuple(own_ids))
    if not isinstance(stated, (str, os.PathLike)):
        return ClassList(tuple(stated))
    found = read_class_list(stated)
    if found.form:
        report(f"{stated}: {len(found.names)} class names, read as {found.form}")
    return found


def _one_line(_path: PathLike, lines: Sequence[str]) -> Optional[ClassList]:
    """DeepStream's label file: all names on one line."""
    if len(lines) != 1 or lines[0].count(";") < 1:
        return None
    return ClassList(
        tuple(name.strip() for name in lines[0].strip(";").split(";")), (), "names separated by semicolons"
    )


def _csv(path: PathLike, lines: Sequence[str]) -> Optional[ClassList]:
    """A header such as ``index,name`` followed by numbers and names."""
    delimiter = next((each for each in ",;\t" if each in lines[0]), None)
    if delimiter is None:
        return None
    heading = [re.sub(r"[^a-z]", "", cell.lower()) for cell in lines[0].split(delimiter)]
    if len(heading) < 2 or not set(heading) <= _HEADINGS:
        return None
    rows = list(csv.reader([line for line in lines[1:] if line], delimiter=delimiter))
    numbers = next((c for c in range(len(heading)) if all(len(r) > c and r[c].strip().isdigit() for r in rows)), None)
    if numbers is None or not rows:
        return None
    ids = next((c for c in range(len(heading)) if all(len(r) > c and _ID.fullmatch(r[c].strip()) for r in rows)), None)
    named = [c for c in range(len(heading)) if c not in (numbers, ids)]
    if not named:
        return None
    entries = [(int(row[numbers]), row[named[-1]].strip() if len(row) > named[-1] else "") for row in rows]
    found = _in_order(path, entries, "a table with numbers")
    if ids is None:
        return found
    by_number = _in_order(path, [(int(row[numbers]), row[ids].strip()) for row in rows], "")
    return ClassList(found.names, by_number.names, found.form)


def _numbered(path: PathLike, lines: Sequence[str]) -> Optional[ClassList]:
    """``0 tench``, ``0: 'tench',``, ``0,tench``: the numbers are those of all classes, from 0 or from 1."""
    filled = [line.strip("{}").strip() for line in lines if line.strip("{} ")]
    matches = [_NUMBERED.fullmatch(line) for line in filled]
    entries = [(int(match.group(1)), _bare(match.group(2))) for match in matches if match is not None]
    numbers = sorted(number for number, _ in entries)
    if len(entries) < len(filled) or not entries or numbers[0] > 1 or numbers[-1] - numbers[0] + 1 != len(numbers):
        return None
    if len(entries) < 2 or len(set(numbers)) < len(numbers):
        return None
    found = _in_order(path, entries, "lines with numbers")
    with_ids = _with_ids(path, found.names)
    return found if with_ids is None else ClassList(with_ids.names, with_ids.ids, f"{found.form} and WordNet ids")


def _with_ids(_path: PathLike, lines: Sequence[str]) -> Optional[ClassList]:
    """``n01440764 tench, Tinca tinca``, ``n02119789 1 kit_fox`` of ILSVRC's kit, or ids alone."""
    filled = [line for line in lines if line]
    if all(_ID.fullmatch(line) for line in filled):
        known = {entry.wordnet_id: entry.name for entry in imagenet_classes()}
        return ClassList(tuple(known.get(each, each) for each in filled), tuple(filled), "WordNet ids")
    matches = [_WITH_ID.fullmatch(line) for line in filled]
    found = [(match.group(1), _bare(match.group(2))) for match in matches if match is not None]
    if len(found) < len(filled):
        return None
    names = [name for _, name in found]
    numbered = [re.fullmatch(r"(\d{1,6})\s+(\S.*)", name) for name in names]
    if all(match is not None and int(match.group(1)) == place + 1 for place, match in enumerate(numbered)):
        names = [str(match.group(2)) for match in numbered if match is not None]
    return ClassList(tuple(names), tuple(each for each, _ in found), "WordNet ids and names")


def _from_json(path: PathLike, content: str) -> Optional[ClassList]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        if content[0] == "{" and re.match(r"\{\s*\d+\s*:", content):  # a Python dictionary, read as numbered lines
            return None
        if content[0] == "[" and "\n" in content and not content.startswith('["'):
            return None  # names may start with a bracket
        raise InputError(path, f"begins like JSON, but is none: {error}") from error
    for key in _NAMES_INSIDE:
        if isinstance(values, dict) and isinstance(values.get(key), (dict, list)):
            values = values[key]
    found = _json_list(values) if isinstance(values, list) else _json_object(path, values)
    if found is None or not found.names:
        raise InputError(
            path, "is JSON, but neither a list of names nor an object of class numbers", "write one name per line"
        )
    return found


def _json_list(values: Sequence[Any]) -> Optional[ClassList]:
    entries = [_entry(value) for value in values]
    if any(entry is None for entry in entries):
        return None
    filled = [entry for entry in entries if entry is not None]
    ids = tuple(each for _, each in filled)
    return ClassList(tuple(name for name, _ in filled), ids if all(ids) else (), "a JSON list")


def _json_object(path: PathLike, values: Mapping[str, Any]) -> Optional[ClassList]:
    """``{"0": "tench"}``, Keras' ``{"0": ["n01440764", "tench"]}``, or torchvision's ``{"tench": 0}``."""
    if values and all(key.isascii() and key.isdigit() and len(key) < 7 for key in values):
        entries = {int(key): _entry(value) for key, value in values.items()}
        if any(entry is None for entry in entries.values()):
            return None
        filled = {number: entry for number, entry in entries.items() if entry is not None}
        found = _in_order(path, [(n, name) for n, (name, _) in filled.items()], "a JSON object by class number")
        ids = _in_order(path, [(number, each) for number, (_, each) in filled.items()], "").names
        return ClassList(found.names, ids if all(ids) else (), found.form)
    if values and all(isinstance(value, int) and not isinstance(value, bool) for value in values.values()):
        found = _in_order(path, [(value, key) for key, value in values.items()], "a JSON object of class numbers")
        with_ids = _with_ids(path, found.names) if all(map(_ID.match, found.names)) else None
        return found if with_ids is None else ClassList(with_ids.names, with_ids.ids, found.form)
    return None


def _entry(value: object) -> Optional[Tuple[str, str]]:
    """(name, WordNet id or "") of one value: a name, or a list or an object with a name and an id."""
    if isinstance(value, str):
        return value, ""
    if isinstance(value, dict):
        value = [value.get("wnid", value.get("id", "")), value.get("name", value.get("label"))]
        value = [each for each in value if isinstance(each, str) and each]
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        ids = [each for each in value if _ID.fullmatch(each)]
        names = [each for each in value if not _ID.fullmatch(each)]
        return (names[0] if names else ids[0]), (ids[0] if ids else "")
    return None


def _in_order(path: PathLike, entries: Sequence[Tuple[int, str]], form: str) -> ClassList:
    by_number: Dict[int, str] = dict(entries)
    if len(by_number) < len(entries):
        raise InputError(path, "lists a class number twice")
    first = min(by_number)
    count = len(by_number)
    missing = next((number for number in range(first, first + count) if number not in by_number), None)
    if first > 1 or missing is not None:
        lacks = missing if missing is not None else 0
        raise InputError(path, f"numbers its classes, but has no class {lacks}", "number them from 0 without gaps")
    start = "" if first == 0 else " from 1"
    return ClassList(tuple(by_number[first + place] for place in range(count)), (), form + start)


def _bare(name: str) -> str:
    """A name without surrounding quotation marks and comma."""
    name = name.strip().rstrip(",").strip() if name.strip().endswith((",", "',", '",')) else name.strip()
    if len(name) > 1 and name[0] == name[-1] and name[0] in "'\"":
        return name[1:-1]
    return name
