"""Layers, bounds and memory from an estimate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from googlenet_deploy.report.details import Layer, MemoryStep, ModeBound
from googlenet_deploy.report.variants import BOUND, Quantity

if TYPE_CHECKING:
    from googlenet_deploy.analysis.roofline import Estimate


def mode_bounds(variant: str, estimate: Estimate) -> tuple[ModeBound, ...]:
    """The bounds of one variant in every power mode, per image."""
    return tuple(
        ModeBound(
            variant=variant,
            mode=bound.mode.name,
            watts=bound.mode.watts,
            floor_ms=bound.floor_ms / estimate.batch,
            roofline_ms=bound.roofline_ms / estimate.batch,
            millijoules=None if bound.joules is None else 1e3 * bound.joules,
        )
        for bound in estimate.modes
    )


def bound_quantities(estimate: Estimate) -> dict[str, Quantity]:
    """The latency, energy and memory as bounds, for the last power mode that has a stated power."""
    stated = [bound for bound in estimate.modes if bound.mode.watts is not None] or list(estimate.modes)
    if not stated:
        return {}
    bound = stated[-1]
    where = f"{estimate.target.title}, {bound.mode.name}"
    floor, roofline = bound.floor_ms / estimate.batch, bound.roofline_ms / estimate.batch
    quantities = {
        "latency": Quantity(roofline, "ms", BOUND, where, floor, roofline),
        "memory": Quantity(estimate.memory_bytes / 1e6, "MB", BOUND, where),
    }
    if bound.joules is not None and bound.mode.watts is not None:
        low = bound.mode.watts * floor
        quantities["energy"] = Quantity(1e3 * bound.joules, "mJ", BOUND, where, low, 1e3 * bound.joules)
    return quantities


def layer_rows(estimate: Estimate, sqnr: Mapping[str, float], *, bounded: bool) -> tuple[Layer, ...]:
    """The layers with what they have to do.

    Args:
        estimate: Of the deployed model.
        sqnr: Signal over noise of the layers' outputs, by node, where it was compared.
        bounded: Whether the estimate's target is the one that is deployed to, so that its times mean something.
    """
    limits = estimate.modes[-1].limits if bounded and estimate.modes else ()
    rows = []
    for index, work in enumerate(estimate.layers):
        time, limit = limits[index] if limits else (None, "")
        rows.append(
            Layer(
                name=work.name,
                operator=work.operator,
                kind=work.kind,
                multiply_adds=work.multiply_adds // estimate.batch,
                weight_bytes=work.weight_bytes,
                activation_bytes=work.activation_bytes // estimate.batch,
                bound_us=None if time is None or not (work.activation_bytes or work.weight_bytes) else 1e3 * time,
                limit=limit if work.activation_bytes or work.weight_bytes else "",
                sqnr=sqnr.get(work.name),
            )
        )
    return tuple(rows)


def memory_steps(estimate: Estimate) -> tuple[MemoryStep, ...]:
    """Live activations over the schedule."""
    return tuple(MemoryStep(name, size) for name, size in estimate.schedule)


def type_shares(estimate: Estimate) -> dict[str, float]:
    """Share of the multiply-adds by the type that they are computed in, the largest first."""
    sums: dict[str, int] = {}
    for layer in estimate.layers:
        sums[layer.kind] = sums.get(layer.kind, 0) + layer.multiply_adds
    total = sum(sums.values())
    ranked = sorted(sums.items(), key=lambda item: -item[1])
    return {kind: amount / total for kind, amount in ranked if amount} if total else {}
