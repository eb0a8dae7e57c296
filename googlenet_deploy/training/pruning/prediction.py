"""Predicted latency and energy of an FP16 engine of one image, as functions of the widths of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from googlenet_deploy.errors import UsageError, requires

with requires("train"):
    from googlenet_deploy.analysis.prediction.predict import ModePrediction, predict
    from googlenet_deploy.training.pruning.skeleton import Skeleton

if TYPE_CHECKING:
    from collections.abc import Callable

    from googlenet_deploy.device.targets.target import Target
    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.model.widths import Widths
    from googlenet_deploy.training.pruning.select import Measure

PRECISION = "fp16"  # supported by the GPUs of all modules


def open_latency(model: GoogLeNet, input_size: int, target: Target | None) -> Measure:
    """Milliseconds in the fastest power mode; see `predict` for what it raises.

    Raises:
        UsageError: There is no target, or it is not a module.
    """
    return _open(model, input_size, target, "latency", lambda mode: mode.latency.value)


def open_energy(model: GoogLeNet, input_size: int, target: Target | None) -> Measure:
    """Millijoules per image in the fastest power mode; see `predict` for what it raises.

    Raises:
        UsageError: There is no target, or it is not a module.
    """
    return _open(model, input_size, target, "energy", lambda mode: mode.energy.value)


def _open(
    model: GoogLeNet, input_size: int, target: Target | None, what: str, value: Callable[[ModePrediction], float]
) -> Measure:
    if target is None:
        raise UsageError(f"--prune-by {what} is a prediction for a module", "name it with --target, such as nano")
    skeleton = Skeleton(model, input_size)
    known: dict[tuple[int, ...], float] = {}

    def measure(widths: Widths) -> float:
        key = tuple(widths.channels.values())
        if key not in known:
            known[key] = value(predict(skeleton.build(widths), target, PRECISION).best)
        return known[key]

    return measure
