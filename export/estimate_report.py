"""An estimate as text for a terminal, labelled as what it is."""

from __future__ import annotations

from collections.abc import Sequence

from googlenet_deploy.device.text import columns
from googlenet_deploy.export.estimate import Estimate, LayerWork

_ASSUMPTIONS = (
    "no engine is faster than the floor; in the roofline every layer reads and writes memory, at peak rates;",
    "launches, shapes that do not fill the GPU and lower clocks come on top.",
    "mJ: if the mode's whole power were drawn for the roofline's time. FP32 without TF32.",
)


def estimate_lines(result: Estimate, *, layers: bool = False) -> list[str]:
    """The estimate as text for a terminal, labelled as what it is."""
    total = sum(layer.multiply_adds for layer in result.layers)
    module = result.target.module
    assert module is not None
    lines = [
        f"{result.path} on {result.target.title}, batch {result.batch}: bounds from published rates, no measurement",
        f"  {total / 1e9:.3f} G multiply-adds; {', '.join(_work_by_kind(result.layers, total))}",
        f"  memory: at least {result.memory_bytes / 1e6:.1f} MB ({result.weight_bytes / 1e6:.1f} MB weights, "
        f"{result.activation_bytes / 1e6:.1f} MB activations)"
        + (f" of {module.memory_bytes / 2**30:.0f} GiB" if module.memory_bytes else "")
        + ", beside what CUDA and TensorRT take",
        "",
    ]
    lines += _mode_lines(result)
    if layers:
        lines += ["", *_layer_lines(result)]
    lines += ["", *_ASSUMPTIONS]
    return [*lines, *(f"note: {note}" for note in result.notes)]


def _work_by_kind(layers: Sequence[LayerWork], total: int) -> list[str]:
    sums: dict[str, int] = {}
    for layer in layers:
        sums[layer.kind] = sums.get(layer.kind, 0) + layer.multiply_adds
    return [f"{kind.upper()} {count / total:.1%}" for kind, count in sorted(sums.items()) if count] if total else []


def _mode_lines(result: Estimate) -> list[str]:
    rows = [("power mode", "W", "GPU MHz", "floor ms", "roofline ms", "images/s below", "mJ/image", "arithmetic-bound")]
    rows += [
        (
            bound.mode.name,
            f"{bound.mode.watts:g}" if bound.mode.watts else "-",
            f"{bound.mode.gpu_mhz:g}",
            f"{bound.floor_ms:.3f}",
            f"{bound.roofline_ms:.3f}",
            f"{1e3 * result.batch / bound.floor_ms:,.0f}",
            f"{1e3 * bound.joules:.2f}" if bound.joules is not None else "-",
            f"{bound.compute_share:.0%}",
        )
        for bound in result.modes
    ]
    return columns(rows)


def _layer_lines(result: Estimate) -> list[str]:
    bound = result.modes[-1]
    rows = [(f"layer, in {bound.mode.name}", "type", "multiply-adds", "bytes", "us", "limit")]
    for layer, (time, limit) in zip(result.layers, bound.limits, strict=True):
        size = layer.weight_bytes + layer.activation_bytes
        if size:
            rows.append((layer.name, layer.kind, f"{layer.multiply_adds:,}", f"{size:,}", f"{1e3 * time:.1f}", limit))
    return columns(rows)
