"""Text files as saved by other programs: UTF-8 with and without a byte order mark, UTF-16, and Latin-1."""

from __future__ import annotations

import codecs
from typing import NamedTuple, Optional, Tuple

_MARKS: Tuple[Tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WHITE = "\t\n\r\f\v\x1a\x85"  # control characters that texts do have; Ctrl-Z ends some old Windows files


class Text(NamedTuple):
    """A text and how it was encoded: "UTF-8", "UTF-16", "UTF-32" or "Latin-1"."""

    content: str
    encoding: str


def decode_text(data: bytes) -> Optional[Text]:
    """The text in a file's content, without a byte order mark; None if it is not text."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], encoding)
    if b"\0" in data[:200]:  # UTF-16 without a mark: one byte of each of the first letters is zero
        return _decoded(data, "utf-16-le" if data[1:2] == b"\0" else "utf-16-be")
    # cp1252 is what Windows calls Latin-1: Latin-1 with quotation marks and dashes where that has control characters.
    return _decoded(data, "utf-8") or _decoded(data, "cp1252")


def _decoded(data: bytes, encoding: str) -> Optional[Text]:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    if any(character < " " and character not in _WHITE for character in text):
        return None
    name = {"utf-8": "UTF-8", "cp1252": "Latin-1"}.get(encoding, encoding.upper()[:6])
    return Text(text.strip("\x1a"), name)
