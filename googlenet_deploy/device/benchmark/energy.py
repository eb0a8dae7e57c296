"""Energy per image from the energies of the rounds."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from googlenet_deploy.device.benchmark.statistics import Figure, over_rounds
from googlenet_deploy.device.power.energy import Energy, Measured, above_idle, combine
from googlenet_deploy.device.power.meter import Meter, NotMeasured, total_name


def energy_dict(meter: Meter, rounds: Sequence[Measured], images: Sequence[int], idle: Measured) -> Dict[str, Any]:
    """For JSON: energy per image in millijoules, as read and above idle, with everything needed to assess it.

    Args:
        meter: The meter.
        rounds: The energy of each round.
        images: Number of images in each round.
        idle: Energy of the machine with the model loaded but idle.
    """
    energies: List[Energy] = []
    for measured in rounds:
        if isinstance(measured, NotMeasured):
            return not_measured(measured)
        energies.append(measured)
    together, count = combine(energies), sum(images)
    per_round = [1000 * part.joules / number for part, number in zip(energies, images)]
    return {
        "millijoules_per_image": over_rounds(1000 * together.joules / count, per_round).to_dict(),
        "uncertainty_millijoules_per_image": 1000 * together.uncertainty / count,
        "above_idle": _above_idle(energies, images, idle),
        "watts": together.watts,
        "images_per_second_per_watt": count / together.joules,
        "meter": meter.name,
        "covers": meter.covers,
        "total": total_name(meter.rails),
        "rails": [
            {
                "name": rail.name,
                "in_total": rail.in_total,
                "millijoules_per_image": 1000 * together.rails[rail.name] / count,
            }
            for rail in meter.rails
        ],
        "seconds": together.seconds,
        "readings": together.readings,
        "readings_per_second": together.rate,
        "lost_readings": together.lost,
        "standard_uncertainties_millijoules_per_image": {
            "sampling": 1000 * together.sampling / count,
            "quantisation": 1000 * together.quantisation / count,
            "accuracy": None if together.accuracy is None else 1000 * together.accuracy / count,
        },
        "accuracy_source": meter.source,
        "notes": list(together.notes),
    }


def idle_dict(idle: Measured) -> Dict[str, Any]:
    """For JSON: the idle power."""
    if isinstance(idle, NotMeasured):
        return not_measured(idle)
    return {
        "watts": idle.watts,
        "uncertainty_watts": idle.uncertainty / idle.seconds,
        "seconds": idle.seconds,
        "readings": idle.readings,
        "notes": list(idle.notes),
    }


def not_measured(why: NotMeasured) -> Dict[str, Any]:
    """For JSON: a missing figure, with the reason."""
    return {"not_measured": why.reason, **({"remedy": why.remedy} if why.remedy else {})}


def _above_idle(energies: Sequence[Energy], images: Sequence[int], idle: Measured) -> Dict[str, Any]:
    if isinstance(idle, NotMeasured):
        return Figure(None, missing=f"idle power: {idle.reason}").to_dict()
    per_round = [1000 * above_idle(part, idle)[0] / count for part, count in zip(energies, images)]
    joules, uncertainty = above_idle(combine(energies), idle)
    figure = over_rounds(1000 * joules / sum(images), per_round).to_dict()
    return {**figure, "uncertainty": 1000 * uncertainty / sum(images), "idle_watts": idle.watts}
