"""Numbers and columns for a terminal."""

from __future__ import annotations

import unicodedata
from typing import Any, Callable, Iterable, List, Optional, Sequence

LONGEST_LINE = 1000  # characters of a printed line

Report = Callable[[str], None]  # called with a line for the user


def log_note(line: str) -> None:
    """The default `Report` of functions: the logger "googlenet_deploy", which prints to stderr by default."""
    import logging  # noqa: PLC0415 - takes longer than anything else that `--help` imports

    logging.getLogger("googlenet_deploy").warning("%s", printable(line, LONGEST_LINE))


def counted(amount: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def printable_lines(lines: Iterable[str]) -> str:
    """Makes lines that may contain names from files safe to print; see `printable`."""
    return "\n".join(printable(line, LONGEST_LINE) for line in lines)


def columns(rows: Sequence[Sequence[str]], words: int = 1) -> List[str]:
    """Rows as lines: the first `words` cells of each to the left, the others to the right; empty for no rows.

    Cells may come from files; see `printable`.
    """
    if not rows:
        return []
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if index < words else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def number(value: float) -> str:
    """Four significant digits, without an exponent."""
    size = abs(value)
    places = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    return f"{value:.{places}f}" if size >= 0.01 or value == 0 else f"{value:.5f}"


def megabytes(size: Any) -> str:  # noqa: ANN401 - from JSON
    """Bytes as megabytes; "?" for None."""
    return "?" if size is None else f"{size / 1e6:.1f} MB"


def one_line(error: BaseException) -> str:
    """A library's error on one line; its class if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def printable(text: str, limit: int = 120) -> str:
    r"""Makes text from a file safe to show: on one line, without terminal control sequences, and of limited length.

    Control characters, invisible ones and those that change the direction of writing become escapes such as ``\x1b``.
    The middle of a text of more than `limit` characters is left out.

    Args:
        text: A name or message that may come from an untrusted file.
        limit: Most characters that are shown.
    """
    if len(text) > limit:
        kept = max(1, (limit - 5) // 2)
        text = f"{text[:kept]} ... {text[-kept:]}"
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _is_visible(character) else _escaped(character) for character in text)


def _is_visible(character: str) -> bool:
    return character.isprintable() and unicodedata.category(character) not in ("Cf", "Cs", "Co", "Cn")


def _escaped(character: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    code = ord(character)
    form = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return named.get(character, form)


# Lines in which OpenVINO and its frontends print a source location, not the reason.
_NOISE = (
    "Exception from", "Check '", "While validating", "FrontEnd API failed", "Model wasn't fully converted", "Summary:",
    "-- Conversion is failed for", "Shape inference input shapes", "To facilitate the conversion",
    "Failed operations detailed log",
)  # fmt: skip


def reason_line(error: BaseException, limit: int = 300) -> str:
    """The line of a library's error with the reason, made safe to show; its class if there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_NOISE) and not line.endswith("with a message:")]
    # A missing operator causes other errors, which are reported before it.
    missing = [line for line in telling if line.startswith("-- No conversion rule")]
    line = (missing or telling or lines or [type(error).__name__])[0]
    return printable(line[3:] if line.startswith("-- ") else line, limit)


def sizes_text(sizes: Iterable[Optional[int]]) -> str:
    """Dimensions for a message, such as "3, any, any": None is an open one."""
    return ", ".join("any" if size is None else str(size) for size in sizes)
