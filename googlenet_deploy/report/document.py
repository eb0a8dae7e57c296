"""The content of a report, independent of HTML and Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

SHOWN_ROWS = 14  # tables with more rows are folded in HTML


@dataclass(frozen=True)
class Column:
    """A table's column: its heading, and whether it holds numbers (aligned to the right)."""

    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """Rows of texts.

    Attributes:
        caption: What the table shows.
        columns: Their headings.
        rows: One text per column; the first column is the row's name.
        marked: Indices of rows that deserve attention.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[int] = frozenset()

    @property
    def long(self) -> bool:
        """Whether it is folded if the format allows it."""
        return len(self.rows) > SHOWN_ROWS


@dataclass(frozen=True)
class Drawing:
    """An SVG element with a title above and a line of text below; either may be empty."""

    title: str
    svg: str
    line: str = ""


@dataclass(frozen=True)
class Chart:
    """Drawings with their numbers.

    Attributes:
        drawings: One, or several that are placed side by side if there is room.
        caption: What they show and how to read it.
        table: The numbers; None if another block of the section has them.
        small: Whether the drawings are small multiples.
    """

    drawings: tuple[Drawing, ...]
    caption: str
    table: Table | None = None
    small: bool = False


@dataclass(frozen=True)
class Picture:
    """An image with the models' answers: lines of (model, answer, whether it is correct; None if unknown)."""

    source: str
    title: str
    lines: tuple[tuple[str, str, bool | None], ...]


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side; small ones that belong together are grouped under a title of their own."""

    caption: str
    pictures: tuple[Picture, ...]
    small: bool = False


@dataclass(frozen=True)
class Paragraph:
    """A text."""

    text: str


@dataclass(frozen=True)
class Code:
    """Commands, or other preformatted text."""

    caption: str
    text: str


@dataclass(frozen=True)
class Absent:
    """A missing part, and why it is missing."""

    what: str
    reason: str


Block = Table | Chart | Gallery | Paragraph | Code | Absent


@dataclass(frozen=True)
class ReportSection:
    """A part of the report.

    Attributes:
        id: Identifier for links.
        title: Its heading.
        lead: Its summary, in a sentence or two.
        blocks: Its content.
    """

    id: str
    title: str
    lead: str
    blocks: tuple[Block, ...]


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    words: Sequence[int] = (0,),
    marked: Collection[int] = (),
) -> Table:
    """A table whose columns hold numbers, except those listed in `words`; rows in `marked` deserve attention."""
    heads = tuple(Column(title, index not in words) for index, title in enumerate(columns))
    return Table(caption, heads, tuple(tuple(row) for row in rows), frozenset(marked))
