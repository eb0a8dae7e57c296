"""The report as Markdown: the same texts and numbers without the drawings, for code reviews and terminals."""

from __future__ import annotations

import re
from collections.abc import Sequence

from googlenet_deploy.device.files import PathLike, write_text
from googlenet_deploy.report.document import Absent, Block, Chart, Code, Gallery, Paragraph, Table
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.sections.all import sections
from googlenet_deploy.report.summary import BAD, GOOD, summarise

_CODE = re.compile(r"`([^`<>]+)`")  # without anything that a careless renderer could interpret as HTML
_MARKS = {GOOD: "holds", BAD: "does not hold"}


def write_markdown(path: PathLike, results: Results) -> None:
    """Writes ``report.md`` atomically.

    Raises:
        OutputError: It cannot be written.
    """
    write_text(path, render_markdown(results))


def render_markdown(results: Results) -> str:
    """The report as Markdown (CommonMark with tables)."""
    subject, summary = results.subject, summarise(results)
    parts = [
        f"# {_text(subject.title)} on {_text(subject.target_title)}",
        _facts(results),
        f"**{_text(summary.verdict)}**",
        _list([f"{doubt.text}; {doubt.remedy}".rstrip("; ") for doubt in summary.doubts]) if summary.doubts else "",
        f"Next: {_text(summary.next)}." if summary.next else "",
        _rows(("", "", ""), [_cells((tile.question, tile.answer, tile.detail)) for tile in summary.tiles]),
        "## What was checked",
        _list([f"{name} ({_MARKS[GOOD if ok else BAD]}): {text}" for ok, name, text in summary.checked]),
        "## What was not",
        _list([f"{part}: {reason}" for part, reason in summary.unchecked]),
    ]
    for section in sections(results):
        parts += [f"## {section.title}", _text(section.lead)]
        parts += [text for block in section.blocks for text in _block(block)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(results: Results) -> str:
    subject = results.subject
    made = f"{results.created}, googlenet-deploy {results.tool_version}"
    return f"{subject.precision.upper()}, {subject.classes} classes, {subject.input} pixels. {made}."


def _block(block: Block) -> list[str]:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Chart):
        return [_text(block.caption), *(_table(block.table) if block.table is not None else [])]
    if isinstance(block, Gallery):
        lines = [
            f"{picture.title}: " + "; ".join(f"{who} {what}" for who, what, _ in picture.lines)
            for picture in block.pictures
        ]
        return [f"**{_text(block.caption)}**", _list(lines)]
    if isinstance(block, Code):
        fence = "```"
        return [f"**{_text(block.caption)}**", f"{fence}\n{block.text}\n{fence}"]
    if isinstance(block, Absent):
        return [f"*{_text(block.what)}: not here. {_text(block.reason)}*"]
    assert isinstance(block, Paragraph)
    return [_text(block.text)]


def _table(block: Table) -> list[str]:
    heads = tuple(column.title for column in block.columns)
    rule = tuple("---:" if column.numeric else "---" for column in block.columns)
    return [f"**{_text(block.caption)}**", _rows(_cells(heads), [_cells(row) for row in block.rows], rule)]


def _rows(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], rule: tuple[str, ...] = ()) -> str:
    lines = [heads, rule or ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def _cells(row: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_text(cell).replace("|", "\\|").replace("\n", " ") for cell in row)


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {_text(line)}" for line in lines) if lines else "Nothing."


def _text(text: str) -> str:
    """Text with the special characters of Markdown and HTML escaped, except for code spans."""
    parts = _CODE.split(text)
    return "".join(f"`{part}`" if index % 2 else _escaped(part) for index, part in enumerate(parts))


def _escaped(text: str) -> str:
    for character in "\\`*_[]<>":
        text = text.replace(character, f"\\{character}")
    return text
