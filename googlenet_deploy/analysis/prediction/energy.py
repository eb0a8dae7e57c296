"""Energy of a batch: the board's idle power over the batch's time, plus the energy of every operation.

    joules = idle_watts * seconds + operations * joules_per_operation * (clock / 1 GHz) ** 2

Energy per operation is proportional to the square of the voltage, and the voltage roughly to the clock (dynamic voltage
and frequency scaling): on the TX2, whose watts were measured in three modes, per-operation energy above idle falls
with the clock to the power of 1.9 to 2.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from googlenet_deploy.analysis.prediction.latency import KINDS

if TYPE_CHECKING:
    from googlenet_deploy.analysis.prediction.constants import EnergyConstants, PredictionConstants
    from googlenet_deploy.analysis.prediction.kernels import Kernel
    from googlenet_deploy.device.targets.target import PowerMode, Target

_REFERENCE_MHZ = 1000.0
_PICO = 1e-12


def operations_by_kind(kernels: Sequence[Kernel]) -> dict[str, float]:
    """Two operations per multiply-add, by type; BF16 counts as FP16."""
    sums = dict.fromkeys(KINDS, 0.0)
    for kernel in kernels:
        sums["fp16" if kernel.kind == "bf16" else kernel.kind] += 2.0 * kernel.multiply_adds
    return sums


def joules_above_idle(sums: dict[str, float], constants: EnergyConstants, gpu_mhz: float) -> float:
    """Energy of a batch above what the board draws when idle."""
    at_reference = sum(sums[kind] * cost for kind, cost in zip(KINDS, constants.picojoules, strict=True))
    return _PICO * at_reference * (gpu_mhz / _REFERENCE_MHZ) ** 2


def idle_watts(target: Target, mode: PowerMode, constants: PredictionConstants) -> tuple[float, bool]:
    """Watts of the idle board in a power mode, and whether they were measured on this module.

    Without a measurement: the share of the smallest power mode's watts that other modules draw when idle or, if no
    watts are stated, the idle watts of other modules.
    """
    for name in (f"{target.name} {mode.name}", target.name):
        if name in constants.idle_watts:
            return constants.idle_watts[name], True
    assert target.module is not None
    stated = [each.watts for each in target.module.power_modes if each.watts]
    if stated:
        return constants.idle_share * min(stated), False
    return constants.idle_watts["pooled"], False
