"""Activations with their thresholds from a calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from googlenet_deploy.report.results import TensorHistogram

if TYPE_CHECKING:
    from googlenet_deploy.calibration.histogram import Outline
    from googlenet_deploy.calibration.table import CalibrationTable


def tensor_histograms(table: CalibrationTable, outlines: Mapping[str, Outline]) -> tuple[TensorHistogram, ...]:
    """One per record of the table that has an outline, in the table's order; tensors that were zero are left out."""
    found = []
    for record in table.records:
        shape = outlines.get(record.members[0])
        if shape is None or record.zero:
            continue
        found.append(
            TensorHistogram(
                tensor=record.members[0],
                width=shape.width,
                counts=shape.counts,
                maximum=max(abs(record.minimum), abs(record.maximum)),
                amax={name: value for name, value in record.amax.items() if name != "auto"},
                chosen=record.amax[table.method],
                rule=record.chosen if table.method == "auto" else table.method,
                clipped=record.saturated.get(table.method, 0.0),
                sqnr=record.errors.get(table.method),
            )
        )
    return tuple(found)
