"""Bounds of latency, energy and memory on the target, from published rates."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from googlenet_deploy.deployment.job import MODELS, Job, Outcome, Step
from googlenet_deploy.deployment.report_data import bound_quantities, layer_rows, memory_steps, mode_bounds, type_shares
from googlenet_deploy.deployment.steps.build import model_of
from googlenet_deploy.device.files import write_json
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import DeviceError
from googlenet_deploy.report.text import number

if TYPE_CHECKING:
    from googlenet_deploy.analysis.roofline import Estimate

FILE = "estimate.json"
# Whose rates stand in where the target has none published: only what does not depend on them is kept.
STAND_IN = "agx-orin"


class EstimateBounds(Step):
    """``estimate.json``: bounds of every precision, the deployed model's layers, memory over the schedule."""

    name = "estimate"

    def inputs(self, job: Job) -> dict[str, Any]:
        """The models and the target."""
        hashes = {name: job.state.hash_of(MODELS[name]) for name in job.precisions()}
        return {"models": hashes, "target": job.config.target, "precision": job.config.precision}

    def run(self, job: Job) -> Outcome:
        """Estimates; where the target has no published rates, that is noted and the layers are kept."""
        from googlenet_deploy.analysis.roofline import estimate  # noqa: PLC0415 - brings the onnx package

        why = "" if job.target.module is not None else f"{job.target.title} is software, which has no speed of its own"
        found: dict[str, Estimate] = {}
        for name in job.precisions() if not why else ():
            try:
                found[name] = estimate(job.path(MODELS[name]), job.target)
            except DeviceError as error:
                why = error.message
                break
        bounded = not why
        precision = job.config.precision
        if not bounded:
            found = {}
        deployed = found.get(precision) or estimate(job.path(MODELS[precision]), load_target(STAND_IN))
        data = {
            "why": why,
            "quantities": {n: {k: asdict(q) for k, q in bound_quantities(e).items()} for n, e in found.items()},
            "bounds": [asdict(bound) for name, each in found.items() for bound in mode_bounds(name, each)],
            "layers": [asdict(row) for row in layer_rows(deployed, {}, bounded=bounded)],
            "memory": [asdict(step) for step in memory_steps(deployed)],
            "shares": {name: type_shares(each) for name, each in {**found, precision: deployed}.items()},
        }
        write_json(job.path(FILE), data)
        return Outcome((FILE,), _sentence(deployed, why), {"why": why, "model": model_of(job)})


def _sentence(deployed: Estimate, why: str) -> str:
    if why:
        return f"no bounds: {why}"
    bound = bound_quantities(deployed)["latency"]
    assert bound.low is not None
    assert bound.high is not None
    return f"at best {number(bound.low)} to {number(bound.high)} ms per image on {bound.where} (a bound)"
