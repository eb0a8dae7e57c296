"""The figures of each precision, the times, and the images on which precisions disagree."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from googlenet_deploy.deployment.job import MODELS, Job
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.labels import short_name
from googlenet_deploy.errors import BadImageError
from googlenet_deploy.report.collect.benchmark import benchmark_latencies
from googlenet_deploy.report.decode import decode
from googlenet_deploy.report.details import Answer, Disagreement, Latency, Sensitivity
from googlenet_deploy.report.variants import Difference, Quantity, Share, Variant

THUMBNAIL = (240, 180)
QUALITY = 72


def variants(job: Job, estimate: Mapping[str, Any]) -> tuple[Variant, ...]:
    """Every precision that has a model, FP32 first."""
    figures = job.data("evaluate").get("variants", {})
    return tuple(_variant(job, name, figures.get(name, {}), estimate) for name in job.precisions())


def _variant(job: Job, name: str, figures: Mapping[str, Any], estimate: Mapping[str, Any]) -> Variant:
    path = job.path(MODELS[name])
    quantities = {
        key: decode(Quantity, value, key) for key, value in estimate.get("quantities", {}).get(name, {}).items()
    }
    difference = figures.get("difference")
    return Variant(
        name=name,
        file=MODELS[name],
        bytes=path.stat().st_size,
        sha256=job.state.hash_of(MODELS[name]),
        top1=_share(figures.get("top1")),
        top5=_share(figures.get("top5")),
        difference=None if difference is None else _difference(difference),
        agreement=_share(figures.get("agreement")),
        sqnr=figures.get("sqnr"),
        divergence=figures.get("divergence"),
        latency=quantities.get("latency"),
        energy=quantities.get("energy"),
        memory=quantities.get("memory"),
        shares=estimate.get("shares", {}).get(name, {}),
    )


def _difference(values: Mapping[str, Any]) -> Difference:
    low, high = values["interval_95"]
    return Difference(values["points"], low, high, values["gained"], values["lost"])


def _share(values: Mapping[str, Any] | None) -> Share | None:
    return None if values is None else decode(Share, dict(values), "share")


def sensitivity(job: Job) -> tuple[Sensitivity, ...]:
    """What quantising each layer alone costs, in the graph's order; layers without any effect are left out."""
    precision = job.data("quantize").get("precision") or {}
    return tuple(
        Sensitivity(layer["name"], layer["sqnr"], layer["agreement"], layer["multiply_adds"], layer["float"])
        for layer in precision.get("layers", [])
        if layer["sqnr"] is not None
    )


def latencies(job: Job) -> tuple[Latency, ...]:
    """What the benchmark on this machine measured."""
    found: list[Latency] = []
    for name in job.precisions() if "benchmark" in job.state.records else ():
        result = json.loads(job.path(f"benchmark-{name}.json").read_text(encoding="utf-8"))
        found += benchmark_latencies(name, result)
    return tuple(found)


def disagreements(job: Job) -> tuple[Disagreement, ...]:
    """The images to which precisions give different classes, as small pictures."""
    names = job.data("images")["classes"]

    def name_of(index: int | None) -> str:
        if index is None:
            return ""
        return short_name(names[index]) if index < len(names) else str(index)

    found = []
    for entry in job.data("evaluate").get("disagreements", []):
        answers = tuple(
            Answer(variant, name_of(answer["class"]), answer["probability"])
            for variant, answer in entry["answers"].items()
        )
        picture = thumbnail(Path(job.config.images) / entry["image"])
        found.append(Disagreement(entry["image"], picture, name_of(entry["label"]), answers))
    return tuple(found)


def thumbnail(path: Path) -> str:
    """A small JPEG as a data URI; a grey pixel where the image has gone."""
    try:
        image = load_image(path)
    except BadImageError:
        image = Image.new("RGB", (1, 1), (128, 128, 128))
    image.thumbnail(THUMBNAIL)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
