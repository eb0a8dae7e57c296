"""The predicted cost of an engine on the target, with lower bounds from published rates."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from googlenet_deploy.deployment.job import MODELS, Job, Outcome, Step
from googlenet_deploy.deployment.records import ESTIMATE, EstimateRecord
from googlenet_deploy.deployment.steps.build import model_of
from googlenet_deploy.device.files import write_json
from googlenet_deploy.device.json_decode import encode
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import DeviceError
from googlenet_deploy.report.figures import PREDICTED, Layer, MemoryStep, Quantity
from googlenet_deploy.report.text import number

if TYPE_CHECKING:
    from googlenet_deploy.analysis.prediction.predict import ModePrediction, PredictedValue
    from googlenet_deploy.analysis.roofline import Estimate, ModeBound

# The target whose rates are used if the target has no published ones: only results independent of rates are kept.
SUBSTITUTE = "agx-orin"


class EstimateBounds(Step):
    """``estimate.json``: prediction and bounds of every precision, the deployed model's layers, memory by layer."""

    name = "estimate"

    def inputs(self, job: Job) -> dict[str, Any]:
        """The models and the target."""
        hashes = {name: job.state.hash_of(MODELS[name]) for name in job.precisions()}
        return {"models": hashes, "target": job.config.target, "precision": job.config.precision}

    def run(self, job: Job) -> Outcome:
        """Estimates; if the target has no published rates, that is noted and only the layers are kept."""
        from googlenet_deploy.analysis.roofline import estimate  # noqa: PLC0415 - brings the onnx package

        why = "" if job.target.module is not None else f"{job.target.title} is software, which has no speed of its own"
        found: dict[str, Estimate] = {}
        for name in job.precisions() if not why else ():
            try:
                found[name] = estimate(job.path(MODELS[name]), job.target)
            except DeviceError as error:
                why = error.message
                break
        precision = job.config.precision
        if why:
            found = {}
        deployed = found.get(precision) or estimate(job.path(MODELS[precision]), load_target(SUBSTITUTE))
        record = EstimateRecord(
            why=why,
            quantities={name: quantities_of(each) for name, each in found.items()},
            bounds={name: bounds_per_image(each) for name, each in found.items()},
            layers=layers_of(deployed, bounded=not why),
            memory=tuple(MemoryStep(name, size) for name, size in deployed.schedule),
            shares={name: type_shares(each) for name, each in {**found, precision: deployed}.items()},
        )
        write_json(job.path(ESTIMATE), encode(record))
        return Outcome((ESTIMATE,), _sentence(deployed, why), {"model": model_of(job)})


def bounds_per_image(estimate: Estimate) -> tuple[ModeBound, ...]:
    """The lower bounds in every power mode per image, without those of single layers."""
    return tuple(
        replace(
            bound,
            floor_ms=bound.floor_ms / estimate.batch,
            roofline_ms=bound.roofline_ms / estimate.batch,
            limits=(),
            prediction=_per_image(bound.prediction, estimate.batch),
        )
        for bound in estimate.modes
    )


def _per_image(expected: ModePrediction | None, batch: int) -> ModePrediction | None:
    if expected is None:
        return None
    latency = expected.latency
    shared = replace(latency, value=latency.value / batch, low=latency.low / batch, high=latency.high / batch)
    return replace(expected, latency=shared, layers_ms=())


def quantities_of(estimate: Estimate) -> dict[str, Quantity]:
    """Predicted latency, energy and memory per image, in the largest power mode with a stated power."""
    expected = [bound.prediction for bound in bounds_per_image(estimate) if bound.prediction is not None]
    if not expected:
        return {}
    largest = max(expected, key=lambda each: (each.mode.watts or 0.0, -each.latency.value))
    where = f"{estimate.target.title}, {largest.mode.name}"
    memory = estimate.prediction.memory
    module = f"{estimate.target.title}, which has {memory.available / 2**30:.0f} GiB" if memory.available else where
    return {
        "latency": _predicted(largest.latency, "ms", where),
        "energy": _predicted(largest.energy, "mJ", where),
        "memory": Quantity(memory.total / 1e6, "MB", PREDICTED, module, memory.low / 1e6, memory.high / 1e6),
    }


def _predicted(value: PredictedValue, unit: str, where: str) -> Quantity:
    return Quantity(value.value, unit, PREDICTED, where, value.low, value.high)


def layers_of(estimate: Estimate, *, bounded: bool) -> tuple[Layer, ...]:
    """The layers with their work for one image.

    Args:
        estimate: The estimate of the deployed model.
        bounded: Whether the estimate's target is the deployment's, so that its times are meaningful.
    """
    limits = estimate.modes[-1].limits if bounded and estimate.modes else ()
    rows = []
    for index, work in enumerate(estimate.layers):
        per_image = replace(
            work,
            multiply_adds=work.multiply_adds // estimate.batch,
            activation_bytes=work.activation_bytes // estimate.batch,
        )
        time, limit = limits[index] if limits and (work.activation_bytes or work.weight_bytes) else (None, "")
        rows.append(Layer(**asdict(per_image), bound_us=None if time is None else 1e3 * time, limit=limit))
    return tuple(rows)


def type_shares(estimate: Estimate) -> dict[str, float]:
    """Share of the multiply-adds by data type, largest first."""
    sums: dict[str, int] = {}
    for layer in estimate.layers:
        sums[layer.kind] = sums.get(layer.kind, 0) + layer.multiply_adds
    total = sum(sums.values())
    ranked = sorted(sums.items(), key=lambda item: -item[1])
    return {kind: amount / total for kind, amount in ranked if amount} if total else {}


def _sentence(deployed: Estimate, why: str) -> str:
    if why:
        return f"no prediction: {why}"
    latency = quantities_of(deployed)["latency"]
    assert latency.low is not None
    assert latency.high is not None
    return (
        f"predicted {number(latency.value)} ms per image on {latency.where}, not measured "
        f"({number(latency.low)} to {number(latency.high)} in nine of ten cases)"
    )
