"""The deployed model layer by layer."""

from __future__ import annotations

from googlenet_deploy.report.charts.area import area
from googlenet_deploy.report.charts.bars import Bar, bars
from googlenet_deploy.report.charts.svg import style_of
from googlenet_deploy.report.document import Absent, Block, Chart, Drawing, Section, Table, table
from googlenet_deploy.report.results import Layer, Results
from googlenet_deploy.report.sections.accuracy import EMPTY
from googlenet_deploy.report.text import count, fixed, number, precision, size

ONE_COLUMN = 12


def section(results: Results) -> Section:
    """The section "Layers"."""
    lead = (
        "What each layer computes in, what it has to do, and how far its output lies from the FP32 model's: signal "
        "over noise in dB, of which 6 dB are one bit. A layer far below its neighbours is where accuracy is lost."
    )
    if not results.layers:
        return Section("layers", "Layers", lead, (Absent("Layers", results.why_missing("layers")),))
    compared = [layer for layer in results.layers if layer.sqnr is not None]
    blocks: list[Block] = []
    if compared:
        drawings = tuple(Drawing("", svg) for svg in _drawings(compared))
        caption = "Layers in the order of the network. Longer is nearer to FP32. Blue layers are INT8, others are not."
        blocks.append(Chart(drawings, caption))
    else:
        blocks.append(Absent("SQNR per layer", results.why_missing("layer SQNR")))
    blocks.append(_numbers(results.layers))
    if all(layer.measured_us is None for layer in results.layers):
        blocks.append(Absent("Measured time per layer", results.why_missing("layer times")))
    return Section("layers", "Layers", lead, tuple(blocks))


def _drawings(layers: list[Layer]) -> tuple[str, ...]:
    rows = [
        Bar(layer.name, max(0.0, layer.sqnr or 0.0), style_of(layer.kind), fixed(layer.sqnr or 0.0)) for layer in layers
    ]
    label = "Signal over noise of the layers' outputs, in the order of the network"
    return bars(rows, "dB", label, columns=2 if len(rows) > ONE_COLUMN else 1)


def _numbers(layers: tuple[Layer, ...]) -> Table:
    first = ("layer", "operator", "type", "multiply-adds", "weights", "activations", "bound \N{MICRO SIGN}s", "limit")
    columns = (*first, "measured \N{MICRO SIGN}s", "SQNR dB")
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
        )
        for layer in layers
    ]
    return table("Layers of the deployed model", columns, rows, (0, 1, 2, 7))


def memory_section(results: Results) -> Section:
    """The memory_section "Memory"."""
    lead = (
        "Bytes of activations that live at once while the network runs in the graph's order, one image, in each "
        "tensor's own type, nothing written over its input. GoogLeNet was designed to keep this low."
    )
    if not results.memory:
        return Section("memory", "Memory", lead, (Absent("Memory over the schedule", results.why_missing("memory")),))
    drawing = area(
        [(step.node, step.bytes / 1e6) for step in results.memory],
        "MB",
        "Live activations at each node",
        lambda value: fixed(value, 1),
    )
    peak = max(results.memory, key=lambda step: step.bytes)
    caption = f"At most {size(peak.bytes)} at once, at {peak.node}. Weights come on top."
    numbers = table(
        "Live activations at each node", ("node", "bytes"), [(s.node, size(s.bytes)) for s in results.memory]
    )
    return Section("memory", "Memory", lead, (Chart((Drawing("", drawing),), caption, numbers),))


SHOWN, SENSITIVITY_COLUMN = 24, 12


def sensitivity_section(results: Results) -> Section:
    """The sensitivity_section "Sensitivity"."""
    lead = (
        "Each layer quantised alone, everything else in FP32. Short bars are the layers to keep in floating point "
        "first, if an accuracy budget asks for it."
    )
    if not results.sensitivity:
        return Section("sensitivity", "Sensitivity", lead, (Absent("Sensitivity", results.why_missing("sensitivity")),))
    ranked = sorted(results.sensitivity, key=lambda entry: entry.sqnr)
    rows = [
        Bar(entry.layer, max(0.0, entry.sqnr), "c-fp16" if entry.kept else "c-int8", fixed(entry.sqnr))
        for entry in ranked[:SHOWN]
    ]
    label = "Signal over noise of the scores with one layer quantised, worst first"
    drawings = bars(rows, "dB of the scores", label, columns=2 if len(rows) > SENSITIVITY_COLUMN else 1)
    lines = [
        (
            entry.layer,
            fixed(entry.sqnr),
            fixed(entry.agreement) if entry.agreement is not None else EMPTY,
            count(entry.multiply_adds),
            "floating point" if entry.kept else "INT8",
        )
        for entry in ranked
    ]
    columns = ("layer", "score SQNR dB", "agreement %", "multiply-adds", "deployed in")
    kept = sum(entry.kept for entry in results.sensitivity)
    stayed = f" {kept} stayed in floating point." if kept else " None had to stay in floating point."
    caption = f"The {len(rows)} most sensitive of {len(ranked)} layers.{stayed}"
    numbers = table("Sensitivity of the layers", columns, lines, (0, 4))
    return Section(
        "sensitivity", "Sensitivity", lead, (Chart(tuple(Drawing("", svg) for svg in drawings), caption, numbers),)
    )
