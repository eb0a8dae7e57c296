"""The deployed model layer by layer."""

from __future__ import annotations

from collections.abc import Iterable

from googlenet_deploy.report.charts.area import area
from googlenet_deploy.report.charts.bars import Bar, bars
from googlenet_deploy.report.charts.svg import style_of
from googlenet_deploy.report.document import Absent, Block, Chart, Drawing, ReportSection, Table, table
from googlenet_deploy.report.figures import Layer
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.sections.accuracy import EMPTY
from googlenet_deploy.report.text import count, fixed, number, precision, size

ONE_COLUMN, WORST = 12, 3
POINTER = " \N{BLACK LEFT-POINTING TRIANGLE}"  # for the worst layers


def section(results: Results) -> ReportSection:
    """The section "Layers"."""
    lead = (
        "What each layer computes in, what it has to do, and how far its output is from the FP32 model's: signal "
        "over noise in dB, of which 6 dB are one bit. A layer far below its neighbours is where accuracy is lost."
    )
    if not results.layers:
        return ReportSection("layers", "Layers", lead, (Absent("Layers", results.why_missing("layers")),))
    compared = [layer for layer in results.layers if layer.sqnr is not None]
    blocks: list[Block] = []
    if compared:
        drawings = tuple(Drawing("", svg) for svg in _drawings(compared))
        caption = (
            "Layers in the order of the network. Longer is nearer to FP32. Blue layers are INT8, others are not. "
            f"{_worst(compared)}"
        )
        blocks.append(Chart(drawings, caption))
    else:
        blocks.append(Absent("SQNR per layer", results.why_missing("layer SQNR")))
    blocks.append(_numbers(results.layers))
    if all(layer.measured_us is None for layer in results.layers):
        blocks.append(Absent("Measured time per layer", results.why_missing("layer times")))
    return ReportSection("layers", "Layers", lead, tuple(blocks))


def _lowest(layers: Iterable[Layer]) -> list[Layer]:
    """The layers whose outputs are farthest from FP32."""
    return sorted((layer for layer in layers if layer.sqnr is not None), key=lambda each: each.sqnr or 0.0)[:WORST]


def _worst(layers: list[Layer]) -> str:
    """The worst layers in a sentence: by the error of their output, and by their own loss."""
    lowest = ", ".join(f"`{layer.name}` ({fixed(layer.sqnr or 0.0)} dB)" for layer in _lowest(layers))
    losing = sorted((each for each in layers if each.drop), key=lambda each: -(each.drop or 0.0))[:WORST]
    dropped = ", ".join(f"`{layer.name}` ({fixed(layer.drop or 0.0)} dB)" for layer in losing if (layer.drop or 0) > 0)
    return f"Farthest from FP32: {lowest}." + (f" Most is lost at: {dropped}." if dropped else "")


def _drawings(layers: list[Layer]) -> tuple[str, ...]:
    lowest = _lowest(layers)
    rows = [
        Bar(
            layer.name,
            max(0.0, layer.sqnr or 0.0),
            style_of(layer.kind),
            fixed(layer.sqnr or 0.0) + (POINTER if layer in lowest else ""),
        )
        for layer in layers
    ]
    label = "Signal over noise of the layers' outputs, in the order of the network"
    return bars(rows, "dB", label, columns=2 if len(rows) > ONE_COLUMN else 1)


def _numbers(layers: tuple[Layer, ...]) -> Table:
    first = ("layer", "operator", "type", "multiply-adds", "weights", "activations", "bound \N{MICRO SIGN}s", "limit")
    columns = (*first, "measured \N{MICRO SIGN}s", "SQNR dB", "lost dB")
    rows = [
        (
            layer.name,
            layer.operator,
            precision(layer.kind),
            count(layer.multiply_adds) if layer.multiply_adds else EMPTY,
            size(layer.weight_bytes) if layer.weight_bytes else EMPTY,
            size(layer.activation_bytes) if layer.activation_bytes else EMPTY,
            number(layer.bound_us) if layer.bound_us is not None else EMPTY,
            layer.limit or EMPTY,
            number(layer.measured_us) if layer.measured_us is not None else EMPTY,
            fixed(layer.sqnr) if layer.sqnr is not None else EMPTY,
            fixed(layer.drop) if layer.drop is not None else EMPTY,
        )
        for layer in layers
    ]
    lowest = _lowest(layers)
    marked = [index for index, layer in enumerate(layers) if layer in lowest]
    return table("Layers of the deployed model", columns, rows, (0, 1, 2, 7), marked)


def memory_section(results: Results) -> ReportSection:
    """The section "Memory"."""
    lead = (
        "Bytes of activations that live at once while the network runs in the graph's order, one image, in each "
        "tensor's own type, nothing written over its input. GoogLeNet was designed to keep this low."
    )
    if not results.memory:
        return ReportSection(
            "memory", "Memory", lead, (Absent("Memory over the schedule", results.why_missing("memory")),)
        )
    drawing = area(
        [(step.node, step.bytes / 1e6) for step in results.memory],
        "MB",
        "Live activations at each node",
        lambda value: fixed(value, 1),
    )
    peak = max(results.memory, key=lambda step: step.bytes)
    caption = f"At most {size(peak.bytes)} at once, at `{peak.node}`. Weights come on top."
    numbers = table(
        "Live activations at each node", ("node", "bytes"), [(s.node, size(s.bytes)) for s in results.memory]
    )
    return ReportSection("memory", "Memory", lead, (Chart((Drawing("", drawing),), caption, numbers),))


SHOWN, SENSITIVITY_COLUMN = 24, 12


def sensitivity_section(results: Results) -> ReportSection:
    """The section "Sensitivity"."""
    lead = (
        "Each layer quantised alone, everything else in FP32. Short bars are the layers to keep in floating point "
        "first, if an accuracy budget asks for it."
    )
    if not results.sensitivity:
        return ReportSection(
            "sensitivity", "Sensitivity", lead, (Absent("Sensitivity", results.why_missing("sensitivity")),)
        )
    ranked, kept = sorted(results.sensitivity, key=lambda entry: entry.sqnr), set(results.kept_in_float)
    rows = [
        Bar(entry.name, max(0.0, entry.sqnr), "c-fp16" if entry.name in kept else "c-int8", fixed(entry.sqnr))
        for entry in ranked[:SHOWN]
    ]
    label = "Signal over noise of the scores with one layer quantised, worst first"
    drawings = bars(rows, "dB of the scores", label, columns=2 if len(rows) > SENSITIVITY_COLUMN else 1)
    lines = [
        (
            entry.name,
            fixed(entry.sqnr),
            fixed(entry.agreement),
            count(entry.multiply_adds),
            "floating point" if entry.name in kept else "INT8",
        )
        for entry in ranked
    ]
    columns = ("layer", "score SQNR dB", "agreement %", "multiply-adds", "deployed in")
    stayed = f" {len(kept)} stayed in floating point." if kept else " None had to stay in floating point."
    first = f" The first to keep in float is `{ranked[0].name}`."
    caption = f"The {len(rows)} most sensitive of {len(ranked)} layers.{first}{stayed}"
    numbers = table("Sensitivity of the layers", columns, lines, (0, 4), range(min(WORST, len(lines))))
    return ReportSection(
        "sensitivity", "Sensitivity", lead, (Chart(tuple(Drawing("", svg) for svg in drawings), caption, numbers),)
    )
