"""The result of `tune` as text for a terminal."""

from __future__ import annotations

from typing import List, Optional

from googlenet_deploy.device.text import columns, megabytes, number
from googlenet_deploy.device.tune.options import ENERGY, LATENCY, RATE, SIZE
from googlenet_deploy.device.tune.tuned_file import Tuned, TunedFigure, TunedResult

SHOWN = 20
_EMPTY = "-"
_OBJECTIVES = {
    ENERGY: "least energy per image",
    LATENCY: "shortest latency",
    RATE: "most images/s",
    SIZE: "smallest model",
}


def tuned_lines(tuned: Tuned) -> List[str]:
    """The complete result as lines."""
    limits = tuned.budget.text()
    found = tuned.results[:SHOWN]
    heading = ("setting", "verdict", "ms p50", "ms p95", "images/s", "mJ/image", "agreement", "model")
    lines = [f"{_OBJECTIVES[tuned.objective]}{f'; {limits}' if limits else ''}", ""]
    lines += columns([heading, *(_row(tuned, result) for result in found)], words=2)
    if len(tuned.results) > len(found):
        lines.append(f"... and {len(tuned.results) - len(found)} more, which are in the JSON file")
    lines += ["", *_choice(tuned)]
    lines += [f"left out: {item.what}: {item.reason}" for item in tuned.left_out]
    energy = f"power: {tuned.meter}" if tuned.meter else f"power: not measured: {tuned.no_energy}"
    return [*lines, energy, *(f"note: {note}" for note in tuned.notes)]


def nearest_text(tuned: Tuned) -> str:
    """If nothing meets the limits: the limits, and the nearest setting with its figures."""
    assert tuned.nearest is not None
    result = tuned.results[tuned.nearest]
    figures = [f"{number(result.latency_p95_ms.value)} ms for 95 % of the batches"]
    figures += [f"{number(result.images_per_second.value)} images/s"]
    figures += [f"agreement {result.agreement:.1f} %"] if result.agreement is not None else []
    return f"nothing meets: {tuned.budget.text()}; the nearest is {result.setting.text()} with {', '.join(figures)}"


def _row(tuned: Tuned, result: TunedResult) -> List[str]:
    model, setting = tuned.model(result), result.setting
    share = f" {100 * model.int8_share:.0f} %" if model.precision == "int8" and model.int8_share is not None else ""
    return [
        f"{setting.text()} ({model.precision.upper()}{share})",
        result.verdict,
        number(result.latency_ms.value),
        number(result.latency_p95_ms.value),
        _with_spread(result.images_per_second),
        _with_spread(result.millijoules_per_image),
        _EMPTY if result.agreement is None else f"{result.agreement:.1f} %",
        megabytes(model.bytes),
    ]


def _with_spread(figure: Optional[TunedFigure]) -> str:
    if figure is None:
        return _EMPTY
    if figure.low is None or figure.high is None:
        return number(figure.value)
    return f"{number(figure.value)} ({number(figure.low)} to {number(figure.high)})"


def _choice(tuned: Tuned) -> List[str]:
    if tuned.choice is None:
        return [nearest_text(tuned)]
    lines = [f"chosen: {tuned.choice.setting.text()}", f"  {tuned.reason}"]
    lines += [f"  ties with: {tuned.results[index].setting.text()}" for index in tuned.ties]
    return lines
