"""Output of `quantize` about layers that stay in float: mixed precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

if TYPE_CHECKING:
    from googlenet_deploy.quantization.mixed_precision.choose import PrecisionChoice
    from googlenet_deploy.quantization.mixed_precision.sensitivity import LayerSensitivity

SHOWN = 10


def print_precision(precision: PrecisionChoice) -> None:
    """The layers that stay in float and why, or the most sensitive ones where nothing was asked to stay."""
    layers = {layer.name: layer for layer in precision.layers}
    if precision.trial is None:
        ranked = sorted(precision.layers, key=lambda layer: layer.noise, reverse=True)
        _print_table(f"most sensitive of {len(layers)} layers, each quantised alone", ranked[:SHOWN], precision)
        return
    share = f"{100 * precision.float_share:.1f} % of the multiply-adds"
    title = f"kept in float: {len(precision.kept)} of {len(layers)} layers, {share} ({precision.runs} models run)"
    _print_table(title, [layers[name] for name in precision.kept], precision)
    for budget in precision.budgets:
        mark = "met" if budget.margin(precision.trial.measure) >= 0 else "NOT MET"
        print(f"budget {budget.name}={budget.value:g}: {mark}: {budget.reached(precision.trial.measure)}")


def _print_table(title: str, layers: Sequence[LayerSensitivity], precision: PrecisionChoice) -> None:
    print(title)
    if not layers:
        return
    total = sum(layer.multiply_adds for layer in precision.layers)
    noise = sum(layer.noise for layer in precision.layers) or 1.0
    print(f"  {'layer':34} {'mult.-adds':>10} {'saves kB':>8} {'SQNR alone':>10} {'KL alone':>9} {'of all noise':>12}")
    for layer in layers:
        print(
            f"  {layer.name:34} {100 * layer.multiply_adds / total:8.2f} % {layer.bytes / 1000:8.0f} "
            f"{layer.sqnr:7.1f} dB {layer.divergence:9.6f} {100 * layer.noise / noise:10.1f} %"
        )
