"""The report of a training run: loss and accuracy per epoch, as a self-contained HTML page and as a picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from googlenet_deploy.device.files import PathLike, write_bytes, write_text
from googlenet_deploy.report.charts.lines import Line, axes_of, lines_chart
from googlenet_deploy.report.charts.scale import tick_texts
from googlenet_deploy.report.text import THIN, fixed, number, plural

# One panel of metrics shared by training and validation: title, unit, and the values' names in a run's history.
_CHARTS = (
    ("Loss", "", "train_loss", "validation_loss"),
    ("Accuracy", "%", "train_accuracy_percent", "validation_accuracy_percent"),
)
_COLUMNS = ("epoch", "training loss", "validation loss", "training accuracy, %", "validation accuracy, %", "best")
_SIZE, _MARGIN = (640, 480), (70, 70, 20, 60)  # of a panel in pixels; left, top, right, bottom
_COLOURS = {"c-int8": (31, 119, 180), "c-fp16": (214, 102, 14)}
_NAMES = ("training", "validation")

Epochs = Sequence[Mapping[str, Any]]


def write_training_report(path: PathLike, history: Epochs, title: str) -> tuple[Path, Path]:
    """Writes the page, and the picture next to it with the suffix .png.

    Args:
        path: The page, ``.html``.
        history: The log's record of each epoch, in order; at least one.
        title: What was trained.

    Returns:
        Both files.

    Raises:
        OutputError: One of them cannot be written.
    """
    page, picture = Path(path), Path(path).with_suffix(".png")
    drawn = training_picture(history)
    write_bytes(picture, drawn)
    write_text(page, training_page(history, title, drawn))
    return page, picture


def training_page(history: Epochs, title: str, picture: bytes) -> str:
    """The page; external text is escaped. `picture` is linked so that it can be saved from the page."""
    epochs = [int(values["epoch"]) for values in history]
    drawings = "".join(
        f'<figure class="one"><figcaption>{name} by epoch</figcaption><div class="drawings"><div class="drawing">'
        f"{lines_chart(epochs, lines, unit, f'{name} by epoch', number)}</div></div></figure>"
        for name, unit, lines in _charts(history)
    )
    rows = "".join(
        f'<tr><th scope="row">{cells[0]}</th>{"".join(f"""<td class="n">{cell}</td>""" for cell in cells[1:])}</tr>'
        for cells in map(_cells, history)
    )
    heads = "".join(f'<th scope="col" class="n">{name}</th>' for name in _COLUMNS)
    style = (files("googlenet_deploy.report") / "templates" / "style.css").read_text(encoding="utf-8")
    source = "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
    best = max((values for values in history if values["best"]), key=lambda values: int(values["epoch"]), default=None)
    sentence = "" if best is None else (
        f" The best on the validation images is epoch {best['epoch']}: "
        f"{fixed(best['validation_accuracy_percent'], 2)} %."
    )  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{escape(title)}: training</title><style>{style}</style></head><body>"
        f'<div class="wrap page"><main><section><h1>{escape(title)}</h1>'
        f'<p class="lead">{plural(len(history), "epoch")}.{sentence} Training accuracy is on augmented images, the '
        f"training loss has the auxiliary losses in it.</p>{drawings}"
        f'<div class="card"><table><caption>Every epoch</caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f'<p><a download="training.png" href="{source}">Both charts as PNG</a></p></section></main></div>'
        "</body></html>\n"
    )


def training_picture(history: Epochs) -> bytes:
    """Both charts side by side as a PNG; equal histories produce identical bytes."""
    epochs = [int(values["epoch"]) for values in history]
    charts = _charts(history)
    image = Image.new("RGB", (_SIZE[0] * len(charts), _SIZE[1]), "white")
    for index, (name, unit, lines) in enumerate(charts):
        _draw(ImageDraw.Draw(image), index * _SIZE[0], f"{name}, {unit}" if unit else name, epochs, lines)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _charts(history: Epochs) -> list[tuple[str, str, list[Line]]]:
    return [
        (title, unit, [
            Line(name, style, tuple(float(values[key]) for values in history))
            for name, style, key in zip(_NAMES, _COLOURS, keys, strict=True)
        ])
        for title, unit, *keys in _CHARTS
    ]  # fmt: skip


def _cells(values: Mapping[str, Any]) -> tuple[str, ...]:
    losses = (f"{values[key]:.4f}" for key in ("train_loss", "validation_loss"))
    shares = (fixed(values[key], 2) for key in ("train_accuracy_percent", "validation_accuracy_percent"))
    return (str(values["epoch"]), *losses, *shares, "yes" if values["best"] else "")


def _draw(draw: ImageDraw.ImageDraw, offset: int, title: str, epochs: Sequence[int], lines: Sequence[Line]) -> None:
    left, top, right, below = _MARGIN
    box = (offset + left, top, offset + _SIZE[0] - right, _SIZE[1] - below)
    axes, font = axes_of(epochs, lines, box), ImageFont.load_default()
    black, grey = (0, 0, 0), (215, 215, 215)
    draw.text((box[0], 12), f"{title} by epoch", black, font)
    texts = [text.replace(THIN, " ") for text in tick_texts(list(axes.levels))]  # Pillow's own font has no thin space
    for level, text in zip(axes.levels, texts, strict=True):
        draw.line((box[0], axes.y(level), box[2], axes.y(level)), grey)
        draw.text((box[0] - 8 - draw.textlength(text, font), axes.y(level) - 6), text, black, font)
    for epoch in axes.epochs:
        draw.text((axes.x(epoch) - draw.textlength(str(epoch), font) / 2, box[3] + 8), str(epoch), black, font)
    draw.line((box[0], box[3], box[2], box[3]), black)
    for index, line in enumerate(lines):
        colour, place = _COLOURS[line.style], box[0] + 120 * index
        draw.line((place, 44, place + 24, 44), colour, 3)
        draw.text((place + 30, 38), line.name, black, font)
        points = [(axes.x(epoch), axes.y(value)) for epoch, value in zip(epochs, line.values, strict=True)]
        draw.line(points, colour, 2)
        for x, y in points:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), colour)
