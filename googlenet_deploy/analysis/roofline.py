"""Bounds of latency and memory on a module that is not available, by the roofline model, and energy at its cap.

A layer takes at least as long as its arithmetic at the GPU's peak rate, and as its memory traffic at the peak bandwidth
(Williams, Waterman and Patterson 2009, "Roofline"). This yields two sums: the *floor*, a lower bound for every
implementation (all arithmetic, or weights, input and output through memory once, whichever takes longer), and the
*roofline*, where every layer reads its inputs from memory and writes its outputs there. Real engines are slower than
the floor, and mostly slower than the roofline: neither includes launches, shapes that do not fill the GPU, or clocks
below the mode's maximum. In FP32 this applies to direct convolutions on CUDA cores; TF32 on Orin's tensor cores and
Winograd's method, for which the profiles have no rate, were measured faster. The expected latency is the prediction,
which `analysis.prediction` makes for the same layers from published measurements; the bounds are shown after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from googlenet_deploy.analysis.layer_work import LayerWork, ModelWork
from googlenet_deploy.analysis.prediction.predict import (
    ModePrediction,
    PredictedValue,
    Prediction,
    predict_work,
    require_rates,
)
from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.targets.target import Module, PowerMode, Target, load_target
from googlenet_deploy.device.text import columns

__all__ = ["Estimate", "LayerWork", "ModeBound", "estimate"]


@dataclass(frozen=True)
class ModeBound:
    """The bounds in one power mode.

    Attributes:
        mode: The power mode.
        floor_ms: Milliseconds per batch, a lower bound for every implementation.
        roofline_ms: Milliseconds per batch if every layer reads its inputs from memory and writes its outputs there.
        compute_share: Share of the roofline's time in layers limited by arithmetic.
        joules: Energy per image if the mode's power cap were drawn for `roofline_ms`; None without a stated power. It
            is not a bound: the board may draw less, and an engine may take longer.
        limits: For every layer, milliseconds and the limit, "arithmetic" or "memory".
        prediction: The expected values, per batch; None in records that were written without it.
    """

    mode: PowerMode
    floor_ms: float
    roofline_ms: float
    compute_share: float
    joules: float | None
    limits: tuple[tuple[float, str], ...]
    prediction: ModePrediction | None = None


@dataclass(frozen=True)
class Estimate:
    """Prediction and bounds for a model on a module.

    Attributes:
        path: The model.
        target: The module.
        batch: Images per batch.
        layers: The work of each layer.
        modes: The bounds per power mode.
        weight_bytes: Bytes of all weights.
        activation_bytes: Largest sum of activations that are live at once.
        schedule: (layer, bytes of activations that are live while it runs), in the graph's order.
        notes: Assumptions, and what is left out.
        prediction: What an engine is expected to need.
    """

    path: str
    target: Target
    batch: int
    layers: tuple[LayerWork, ...]
    modes: tuple[ModeBound, ...]
    weight_bytes: int
    activation_bytes: int
    schedule: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]
    prediction: Prediction

    @property
    def memory_bytes(self) -> int:
        """Weights and live activations: less than an engine needs."""
        return self.weight_bytes + self.activation_bytes

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.path,
            "target": self.target.name,
            "batch": self.batch,
            "memory_bytes": self.memory_bytes,
            "weight_bytes": self.weight_bytes,
            "activation_bytes": self.activation_bytes,
            "predicted_memory_bytes": {**asdict(self.prediction.memory), "total": self.prediction.memory.total},
            "modes": [
                {
                    **asdict(bound.mode),
                    **_predicted_dict(bound.prediction),
                    "floor_ms": bound.floor_ms,
                    "roofline_ms": bound.roofline_ms,
                    "arithmetic_share": bound.compute_share,
                    "joules_per_image": bound.joules,
                    "layers_ms": [time for time, _ in bound.limits],
                }
                for bound in self.modes
            ],
            "layers": [asdict(layer) for layer in self.layers],
            "kernels": [asdict(kernel) for kernel in self.prediction.kernels],
            "notes": list(self.notes),
            "sources": list(self.target.module.sources) if self.target.module else [],
        }


def estimate(path: PathLike, target: Target | str, batch: int = 1, precision: str | None = None) -> Estimate:
    """Prediction and bounds for a model on a module.

    Args:
        path: An ONNX model.
        target: A module or its name, such as "orin-nano"; a bare software version has no speed.
        batch: Images per batch, if the model leaves it open.
        precision: Type of the layers that are FP32 in the model, "fp32" or "fp16"; "int8" treats the model as an INT8
            engine from a calibration cache; None uses FP16 in a quantised model and FP32 in any other.

    Raises:
        BadModelError: The model cannot be read.
        UsageError: The target is not a module.
        DeviceError: The module's profile does not have the rates.
    """
    target = load_target(target) if isinstance(target, str) else target
    module = require_rates(target)
    work = ModelWork(path, module.types, batch, precision)
    found = predict_work(work, target, precision)
    modes = tuple(_bound(work, module, mode) for mode in found.modes)
    missing = (f"not in the profile, for lack of a source: {item}" for item in module.missing)
    notes = (*work.notes, *found.notes, *missing)
    schedule = tuple(work.schedule())
    peak = max(size for _, size in schedule)
    return Estimate(
        str(path), target, work.batch, tuple(work.layers), modes, work.weight_bytes, peak, schedule, notes, found
    )


def _bound(work: ModelWork, module: Module, expected: ModePrediction) -> ModeBound:
    mode = expected.mode
    bandwidth = module.bandwidth(mode)
    assert bandwidth is not None
    limits = []
    arithmetic = 0.0
    for layer in work.layers:
        rate = module.peak(layer.kind, mode)
        compute = 2 * layer.multiply_adds / rate if rate and layer.multiply_adds else 0.0
        memory = (layer.weight_bytes + layer.activation_bytes) / bandwidth
        arithmetic += compute
        limits.append((1e3 * max(compute, memory), "arithmetic" if compute > memory else "memory"))
    roofline = sum(time for time, _ in limits)
    floor = 1e3 * max(arithmetic, (work.weight_bytes + work.io_bytes()) / bandwidth)
    compute_time = sum(time for time, limit in limits if limit == "arithmetic")
    joules = mode.watts * roofline / 1e3 / work.batch if mode.watts else None
    return ModeBound(
        mode, floor, roofline, compute_time / roofline if roofline else 0.0, joules, tuple(limits), expected
    )


def _predicted_dict(expected: ModePrediction | None) -> dict[str, Any]:
    if expected is None:
        return {}
    return {
        "predicted_ms": asdict(expected.latency),
        "predicted_millijoules_per_image": asdict(expected.energy),
        "predicted_watts": expected.watts,
        "kernels_ms": list(expected.layers_ms),
    }


_PREDICTION = (
    "prediction: of TensorRT engines, fitted to published measurements, nine of ten of which lay in the range",
    "(docs/prediction.md);",
    "ms from the GPU's memory to it, of a batch; mJ and W of the whole board, one batch after the other.",
)
_ASSUMPTIONS = (
    "no engine is faster than the floor; in the roofline every layer reads and writes memory, at peak rates;",
    "launches, shapes that do not fill the GPU and lower clocks come on top.",
    "W caps the board's power; mJ is that cap for the roofline's time, no bound in either direction;",
    "FP32 without TF32 and Winograd's method, with which engines were measured up to 1.7 times as fast as the floor.",
)


def estimate_lines(result: Estimate, *, layers: bool = False) -> list[str]:
    """The estimate as text for a terminal, labelled as a prediction."""
    total = sum(layer.multiply_adds for layer in result.layers)
    module = result.target.module
    assert module is not None
    lines = [
        f"{result.path} on {result.target.title}, batch {result.batch}: predicted, not measured",
        f"  {total / 1e9:.3f} G multiply-adds; {', '.join(_work_by_kind(result.layers, total))}",
        *_memory_lines(result, module),
        "",
        *_prediction_lines(result),
        "",
        *_PREDICTION,
        "",
        "bounds from published rates, no measurement:",
        *_mode_lines(result),
    ]
    if layers:
        lines += ["", *_layer_lines(result)]
    lines += ["", *_ASSUMPTIONS]
    return [*lines, *(f"note: {note}" for note in result.notes)]


def _memory_lines(result: Estimate, module: Module) -> list[str]:
    memory = result.prediction.memory
    parts = f"engine {memory.engine / 1e6:.0f}, context {memory.context / 1e6:.0f}"
    parts += f", CUDA and TensorRT {memory.libraries / 1e6:.0f}"
    available = f" of {module.memory_bytes / 2**30:.0f} GiB" if module.memory_bytes else ""
    least = f"{result.weight_bytes / 1e6:.1f} MB weights, {result.activation_bytes / 1e6:.1f} MB activations"
    sure = f"{memory.low / 1e6:,.0f} to {memory.high / 1e6:,.0f}"
    return [
        f"  memory: {memory.total / 1e6:,.0f} MB predicted{available} ({sure}; {parts})",
        f"  at least {result.memory_bytes / 1e6:.1f} MB of it: {least}",
    ]


def _prediction_lines(result: Estimate) -> list[str]:
    rows = [("power mode", "predicted ms", "range", "images/s", "mJ/image", "range", "W")]
    rows += [
        (
            each.mode.name,
            f"{each.latency.value:.3g}",
            _range_text(each.latency),
            f"{1e3 * result.batch / each.latency.value:,.0f}",
            f"{each.energy.value:.3g}",
            _range_text(each.energy),
            f"{each.watts:.1f}",
        )
        for each in result.prediction.modes
    ]
    return columns(rows)


def _range_text(value: PredictedValue) -> str:
    return f"{value.low:.3g} to {value.high:.3g}"


def _work_by_kind(layers: Sequence[LayerWork], total: int) -> list[str]:
    sums: dict[str, int] = {}
    for layer in layers:
        sums[layer.kind] = sums.get(layer.kind, 0) + layer.multiply_adds
    return [f"{kind.upper()} {count / total:.1%}" for kind, count in sorted(sums.items()) if count] if total else []


def _mode_lines(result: Estimate) -> list[str]:
    rows = [
        ("power mode", "W cap", "GPU MHz", "floor ms", "roofline ms", "images/s below", "mJ at W", "arithmetic-bound")
    ]
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
