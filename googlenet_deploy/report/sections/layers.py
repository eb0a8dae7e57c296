"""The deployed model layer by layer."""

from __future__ import annotations

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
