"""The report as one self-contained HTML file: styles, drawings and pictures are embedded, without scripts."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from googlenet_deploy.device.files import PathLike, write_text
from googlenet_deploy.errors import requires
from googlenet_deploy.report.document import Column
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.sections.all import sections
from googlenet_deploy.report.summary import summarise

with requires("report"):
    import jinja2
    from markupsafe import Markup, escape

_FOLDER = "templates"
_HASH = re.compile(r"[0-9a-f]{64}")
_CODE = re.compile(r"`([^`]+)`")
WORDY = 40  # characters, above which a cell gets more room


def write_html(path: PathLike, results: Results) -> None:
    """Writes ``report.html`` atomically.

    Raises:
        OutputError: It cannot be written.
    """
    write_text(path, render_html(results))


def render_html(results: Results) -> str:
    """The report as HTML; external text is escaped."""
    return _template().render(
        results=results,
        subject=results.subject,
        summary=summarise(results),
        sections=sections(results),
        style=Markup(_read("style.css")),  # noqa: S704 - our own file
        class_of=_class_of,
        kind_of=lambda block: type(block).__name__,
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters["capitalize_first"] = _capitalize_first
    environment.filters["prose"] = prose
    return environment.from_string(_read("report.html"))


def _capitalize_first(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".")


def prose(text: str) -> Markup:
    """A text with the parts between backticks as code; the rest is escaped."""
    parts = _CODE.split(str(text))
    marked = [f"<code>{escape(part)}</code>" if index % 2 else str(escape(part)) for index, part in enumerate(parts)]
    return Markup("".join(marked))  # noqa: S704 - every part is escaped


def _class_of(column: Column, cell: str) -> str:
    """Style of a cell: a number, a hash, or words that need room."""
    if column.numeric:
        return "n"
    return "hash" if _HASH.fullmatch(cell) else "words" if len(cell) > WORDY else ""


def _read(name: str) -> str:
    return (files("googlenet_deploy.report") / _FOLDER / name).read_text(encoding="utf-8")
