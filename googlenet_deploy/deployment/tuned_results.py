"""The results of `tune` from the device, in the report's types."""

from __future__ import annotations

from collections.abc import Mapping

from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.tune.tuned_file import Tuned, TunedFigure, TunedResult, load_tuned
from googlenet_deploy.errors import InputError
from googlenet_deploy.report.figures import MEASURED, Quantity
from googlenet_deploy.report.results import Doubt


def load_tuned_of(path: PathLike, weights_sha256: str) -> Tuned:
    """Reads a ``tuned.json`` and rejects one of other weights, whose measurements would look plausible.

    Args:
        path: The file.
        weights_sha256: Hash of the weights of this deployment.

    Raises:
        InputError: It is damaged, or a model in it was made from other or unknown weights.
    """
    tuned = load_tuned(path)
    for model in tuned.models:
        if model.source_sha256 != weights_sha256:
            raise InputError(
                path,
                f"measured {model.path!r} of other weights: {model.source_sha256 or 'unknown'}, here {weights_sha256}",
                "run `tune` with the models and engines of this deployment's bundle",
            )
    return tuned


def tuned_place(tuned: Tuned) -> str:
    """The machine it was measured on, human-readable."""
    return tuned.machine.get("model") or tuned.machine.get("gpu") or tuned.machine.get("processor") or "the device"


def tuned_quantities(tuned: Tuned) -> dict[str, Mapping[str, Quantity]]:
    """The latency and energy per image by precision, at its best setting for single images.

    That is the setting with the smallest batch and number of streams that got furthest in the search; latencies are
    divided by the batch.
    """
    best: dict[str, TunedResult] = {}
    order = sorted(tuned.results, key=lambda each: (each.setting.batch, each.setting.streams, -each.stage))
    for result in order:
        best.setdefault(tuned.model(result).precision, result)
    return {name: _quantities(tuned, result) for name, result in best.items()}


def _quantities(tuned: Tuned, result: TunedResult) -> Mapping[str, Quantity]:
    mode = result.setting.power_mode or tuned.machine.get("power_mode", "")
    where = ", ".join(filter(None, (tuned_place(tuned), mode)))
    found = {"latency": _quantity(result.latency_ms, 1 / result.setting.batch, "ms", where)}
    if result.millijoules_per_image is not None:
        found["energy"] = _quantity(result.millijoules_per_image, 1.0, "mJ", where)
    return found


def _quantity(figure: TunedFigure, scale: float, unit: str, where: str) -> Quantity:
    ends = [None if end is None else end * scale for end in (figure.low, figure.high)]
    return Quantity(figure.value * scale, unit, MEASURED, where, ends[0], ends[1])


def tuned_doubts(tuned: Tuned, precision: str) -> tuple[Doubt, ...]:
    """Reasons for doubting the measurements, or the deployed precision.

    Args:
        tuned: The results.
        precision: The deployed precision.
    """
    found = []
    throttled = [note for note in tuned.notes if "throttled while it was measured" in note]
    if throttled:
        remedy = "cool the device or choose a lower power mode, then tune again"
        found.append(Doubt("throttling on the device", f"on the device: {throttled[0]}", remedy))
    if tuned.choice is None:
        text = f"on the device nothing meets {tuned.budget.text()}"
        found.append(Doubt("limits missed on the device", text, "relax the limits, or use a smaller network"))
    elif (chosen := tuned.model(tuned.choice).precision) != precision:
        text = f"on the device `tune` chose {chosen.upper()}, {precision.upper()} is deployed: {tuned.reason}"
        found.append(Doubt(f"{chosen.upper()} is better on the device", text, f"deploy with `--precision {chosen}`"))
    return tuple(found)


def tuned_description(tuned: Tuned) -> dict[str, str]:
    """The machine and the measuring software, by name."""
    names = {"jetpack": "JetPack", "gpu": "GPU", "power_mode": "power mode"}
    texts = {"measured on": tuned_place(tuned), "by": f"tune of {tuned.tool}, {tuned.created}"}
    texts.update({title: tuned.machine[name] for name, title in names.items() if tuned.machine.get(name)})
    texts["notes"] = "; ".join(tuned.notes)
    return {name: text for name, text in texts.items() if text}
