"""Predicts latency, energy and memory of a model's engine on a module, with intervals.

    from googlenet_deploy.analysis.prediction.predict import predict
    found = predict("model.onnx", load_target("nano"), precision="fp16", batch=1)
    found.best.latency.value   # milliseconds per batch in the fastest power mode
    found.best.energy.value    # millijoules per image

Every figure is labelled as a prediction wherever it is shown: it comes from a model fitted to published measurements,
and the width of its interval comes from cross-validation (docs/prediction.md).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from googlenet_deploy.analysis.layer_work import ModelWork
from googlenet_deploy.analysis.prediction.constants import POOLED, evidence, generation_of, load_constants
from googlenet_deploy.analysis.prediction.energy import idle_watts, joules_above_idle, operations_by_kind
from googlenet_deploy.analysis.prediction.kernels import Kernel, kernels_of
from googlenet_deploy.analysis.prediction.latency import kernel_arrays, kernel_seconds
from googlenet_deploy.analysis.prediction.memory import PredictedMemory, predict_memory
from googlenet_deploy.device.targets.target import Module, PowerMode, Target
from googlenet_deploy.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import ModelProto

    from googlenet_deploy.analysis.prediction.constants import PredictionConstants, Spread
    from googlenet_deploy.device.files import PathLike


@dataclass(frozen=True)
class PredictedValue:
    """A prediction and the interval that contained nine of ten measurements.

    Attributes:
        value: Milliseconds per batch, or millijoules per image.
        low: Lower end.
        high: Upper end.
        evidence: What cross-validation left out to find the interval: "network" for a measured module, "module" for a
            module whose GPU generation is measured, "generation" for any other.
    """

    value: float
    low: float
    high: float
    evidence: str


@dataclass(frozen=True)
class ModePrediction:
    """The prediction in one power mode.

    Attributes:
        mode: The power mode.
        latency: Milliseconds per batch, from the image in the GPU's memory to the result there.
        energy: Millijoules per image of the whole board, with batches back to back.
        watts: The board's mean power during this time.
        layers_ms: Milliseconds of every kernel.
    """

    mode: PowerMode
    latency: PredictedValue
    energy: PredictedValue
    watts: float
    layers_ms: tuple[float, ...]


@dataclass(frozen=True)
class Prediction:
    """The prediction for a model on a module.

    Attributes:
        target: The module.
        batch: Images per batch.
        precision: The requested precision; None for the model's own types.
        modes: One for each power mode, in the profile's order.
        kernels: The kernels that the engine launches.
        memory: Peak memory, the same in every mode.
        notes: What is assumed for lack of a measurement.
    """

    target: Target
    batch: int
    precision: str | None
    modes: tuple[ModePrediction, ...]
    kernels: tuple[Kernel, ...]
    memory: PredictedMemory
    notes: tuple[str, ...]

    @property
    def best(self) -> ModePrediction:
        """The power mode with the lowest latency."""
        return min(self.modes, key=lambda each: each.latency.value)

    def in_mode(self, name: str) -> ModePrediction:
        """The prediction in a power mode.

        Raises:
            UsageError: The module has no such mode.
        """
        for each in self.modes:
            if each.mode.name == name:
                return each
        names = ", ".join(each.mode.name for each in self.modes)
        raise UsageError(f"{self.target.name} has no power mode {name}", f"choose one of {names}")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "modes": [
                {
                    "name": each.mode.name,
                    "latency_ms": asdict(each.latency),
                    "millijoules_per_image": asdict(each.energy),
                    "watts": each.watts,
                    "kernels_ms": list(each.layers_ms),
                }
                for each in self.modes
            ],
            "kernels": [asdict(kernel) for kernel in self.kernels],
            "memory_bytes": {**asdict(self.memory), "total": self.memory.total},
            "notes": list(self.notes),
        }


def predict(model: ModelProto | PathLike, target: Target, precision: str | None = None, batch: int = 1) -> Prediction:
    """Predicts latency, energy and memory of a model's TensorRT engine.

    Args:
        model: An ONNX model, or its file.
        target: A module with a profile, as `load_target` returns it.
        precision: Type of the layers that are FP32 in the model, "fp32" or "fp16"; "int8" treats the model as an INT8
            engine from a calibration cache; None uses FP16 in a model with Q/DQ and FP32 in any other.
        batch: Images per batch, if the model leaves it open.

    Raises:
        BadModelError: The model cannot be read, or a layer's work is not known.
        UsageError: The target is not a module.
        DeviceError: The module's profile lacks the rates that the model needs.
    """
    require_rates(target)
    assert target.module is not None
    return predict_work(ModelWork(model, target.module.types, batch, precision), target, precision)


def require_rates(target: Target) -> Module:
    """The module of a target whose profile has clocks, bandwidth and multiprocessors.

    Raises:
        UsageError: The target is not a module.
        DeviceError: The profile lacks them.
    """
    module = target.module
    if module is None:
        raise UsageError(
            f"{target.name} is software, which has no speed of its own", "name a module, such as orin-nano"
        )
    if not module.power_modes or not module.bus_bits or not module.sms:
        raise DeviceError(
            f"the profile of {target.name} has no published figures for: {', '.join(module.missing)}",
            "estimate another module, or measure on the device",
        )
    return module


def require_types(work: ModelWork, target: Target) -> None:
    """Refuses a model with layers in a type that the module's profile has no rate for.

    Raises:
        DeviceError: The profile has no rate for a type.
    """
    assert target.module is not None
    needed = {layer.kind for layer in work.layers if layer.multiply_adds}
    lacking = sorted(needed - set(target.module.operations))
    if lacking:
        raise DeviceError(
            f"the profile of {target.name} has no published {' or '.join(lacking)} rate",
            "estimate the FP16 model, or measure on the device",
        )


def predict_work(work: ModelWork, target: Target, precision: str | None = None) -> Prediction:
    """`predict` for a model whose layers are known already."""
    module = require_rates(target)
    require_types(work, target)
    constants = load_constants()
    kernels = kernels_of(work)
    modes = tuple(_in_mode(kernels, work.batch, target, mode, constants) for mode in module.power_modes)
    memory = predict_memory(work, constants.memory, module.memory_bytes)
    return Prediction(
        target, work.batch, precision, modes, tuple(kernels), memory, tuple(_notes(target, module, constants))
    )


def _in_mode(
    kernels: list[Kernel], batch: int, target: Target, mode: PowerMode, constants: PredictionConstants
) -> ModePrediction:
    assert target.module is not None
    generation = generation_of(target)
    times = kernel_seconds(kernel_arrays(kernels, target.module, mode), constants.latency[generation])
    seconds = float(times.sum())
    idle, _ = idle_watts(target, mode, constants)
    above = joules_above_idle(operations_by_kind(kernels), constants.energy[generation], mode.gpu_mhz)
    joules = idle * seconds + above
    return ModePrediction(
        mode=mode,
        latency=_spread(1e3 * seconds, evidence(target, constants.latency_modules), constants.latency_spread),
        energy=_spread(1e3 * joules / batch, evidence(target, constants.energy_modules), constants.energy_spread),
        watts=joules / seconds,
        layers_ms=tuple(1e3 * float(time) for time in times),
    )


def _spread(value: float, known: str, spreads: Mapping[str, Spread]) -> PredictedValue:
    spread = spreads[known]
    return PredictedValue(value, value * spread.low, value * spread.high, known)


_EVIDENCE = {
    "network": "",
    "module": "{what} of this module is published for one network at most: the interval is that of modules left out",
    "generation": "{what} of this GPU generation is not published: the interval is that of generations left out",
}


def _notes(target: Target, module: Module, constants: PredictionConstants) -> list[str]:
    notes = [
        _EVIDENCE[evidence(target, modules)].format(what=what)
        for what, modules in (("latency", constants.latency_modules), ("power", constants.energy_modules))
    ]
    if not idle_watts(target, module.power_modes[0], constants)[1]:
        notes.append("idle watts are not measured on this module, but taken from the other modules")
    if generation_of(target) == POOLED:
        notes.append("the efficiencies are the mean of the other GPU generations")
    return [note for note in notes if note]
