"""The figures of each precision, the times, and the images on which precisions disagree."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from googlenet_deploy import __version__
from googlenet_deploy.calibration.histogram import Outline
from googlenet_deploy.calibration.table import load_table
from googlenet_deploy.deployment.config import DEFAULT_GATES, DeployConfig
from googlenet_deploy.deployment.job import MODELS, OUTLINES, TABLE, Job
from googlenet_deploy.deployment.state import tool_hash
from googlenet_deploy.deployment.steps.evaluate import first_problem
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.json_decode import decode
from googlenet_deploy.device.labels import short_name
from googlenet_deploy.device.system.machine import describe_machine
from googlenet_deploy.errors import BadImageError, InputError
from googlenet_deploy.evaluation.diagnosis import FINE
from googlenet_deploy.evaluation.statistics import SIGNIFICANT
from googlenet_deploy.report.html import write_html
from googlenet_deploy.report.markdown import write_markdown
from googlenet_deploy.report.results import (
    BOUND,
    Answer,
    Check,
    Difference,
    Disagreement,
    Gate,
    Latency,
    Layer,
    MemoryStep,
    Missing,
    ModeBound,
    Quantity,
    Results,
    Sensitivity,
    Share,
    Step,
    Subject,
    TensorHistogram,
    Variant,
    load_results,
    save_results,
)
from googlenet_deploy.report.sections.activations import tensor_histograms
from googlenet_deploy.report.sections.latency import benchmark_latencies
from googlenet_deploy.report.text import plural

if TYPE_CHECKING:
    from googlenet_deploy.analysis.roofline import Estimate


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


def mode_bounds(variant: str, estimate: Estimate) -> tuple[ModeBound, ...]:
    """The bounds of one variant in every power mode, per image."""
    return tuple(
        ModeBound(
            variant=variant,
            mode=bound.mode.name,
            watts=bound.mode.watts,
            floor_ms=bound.floor_ms / estimate.batch,
            roofline_ms=bound.roofline_ms / estimate.batch,
            millijoules=None if bound.joules is None else 1e3 * bound.joules,
        )
        for bound in estimate.modes
    )


def bound_quantities(estimate: Estimate) -> dict[str, Quantity]:
    """The latency, energy and memory as bounds, for the last power mode that has a stated power."""
    stated = [bound for bound in estimate.modes if bound.mode.watts is not None] or list(estimate.modes)
    if not stated:
        return {}
    bound = stated[-1]
    where = f"{estimate.target.title}, {bound.mode.name}"
    floor, roofline = bound.floor_ms / estimate.batch, bound.roofline_ms / estimate.batch
    quantities = {
        "latency": Quantity(roofline, "ms", BOUND, where, floor, roofline),
        "memory": Quantity(estimate.memory_bytes / 1e6, "MB", BOUND, where),
    }
    if bound.joules is not None and bound.mode.watts is not None:
        low = bound.mode.watts * floor
        quantities["energy"] = Quantity(1e3 * bound.joules, "mJ", BOUND, where, low, 1e3 * bound.joules)
    return quantities


def layer_rows(estimate: Estimate, sqnr: Mapping[str, float], *, bounded: bool) -> tuple[Layer, ...]:
    """The layers with what they have to do.

    Args:
        estimate: Of the deployed model.
        sqnr: Signal over noise of the layers' outputs, by node, where it was compared.
        bounded: Whether the estimate's target is the one that is deployed to, so that its times mean something.
    """
    limits = estimate.modes[-1].limits if bounded and estimate.modes else ()
    rows = []
    for index, work in enumerate(estimate.layers):
        time, limit = limits[index] if limits else (None, "")
        rows.append(
            Layer(
                name=work.name,
                operator=work.operator,
                kind=work.kind,
                multiply_adds=work.multiply_adds // estimate.batch,
                weight_bytes=work.weight_bytes,
                activation_bytes=work.activation_bytes // estimate.batch,
                bound_us=None if time is None or not (work.activation_bytes or work.weight_bytes) else 1e3 * time,
                limit=limit if work.activation_bytes or work.weight_bytes else "",
                sqnr=sqnr.get(work.name),
            )
        )
    return tuple(rows)


def memory_steps(estimate: Estimate) -> tuple[MemoryStep, ...]:
    """Live activations over the schedule."""
    return tuple(MemoryStep(name, size) for name, size in estimate.schedule)


def type_shares(estimate: Estimate) -> dict[str, float]:
    """Share of the multiply-adds by the type that they are computed in, the largest first."""
    sums: dict[str, int] = {}
    for layer in estimate.layers:
        sums[layer.kind] = sums.get(layer.kind, 0) + layer.multiply_adds
    total = sum(sums.values())
    ranked = sorted(sums.items(), key=lambda item: -item[1])
    return {kind: amount / total for kind, amount in ranked if amount} if total else {}


RESULTS, HTML, MARKDOWN = "results.json", "report.html", "report.md"
ARTEFACTS = (*MODELS.values(), TABLE, "model.engine", "bundle.zip")


class Reporting:
    """One report.

    Args:
        job: The deployment.
        rows: The steps that were done, taken over or left out.
        gates: The limits.
        notes: What the user should know.
    """

    def __init__(self, job: Job, rows: tuple[Step, ...], gates: tuple[Gate, ...], notes: tuple[str, ...]) -> None:
        self.job, self.rows, self.gates, self.notes = job, rows, gates, notes

    def fingerprint(self) -> str:
        """Of everything that the report tells, but for which steps were done in this very run."""
        parts = {
            row.name: self.job.state.records[row.name].fingerprint for row in self.rows if row.outcome != "left out"
        }
        gates = [asdict(gate) for gate in self.gates]
        text = json.dumps([tool_hash(), parts, gates, list(self.notes)], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def write(self) -> tuple[str, ...]:
        """Writes results, HTML and Markdown; their names.

        Raises:
            OutputError: One of them cannot be written.
        """
        results = self.results()
        save_results(self.job.path(RESULTS), results)
        write_html(self.job.path(HTML), results)
        write_markdown(self.job.path(MARKDOWN), results)
        return HTML, MARKDOWN, RESULTS

    def results(self) -> Results:
        """Everything that was found out."""
        job, estimate = self.job, self._estimate
        precision = job.config.precision
        return Results(
            subject=self._subject(),
            created=self._created(),
            tool_version=__version__,
            steps=self.rows,
            gates=self.gates,
            checks=checks(job, self.rows),
            variants=variants(job, estimate),
            layers=self._layers(),
            histograms=self._histograms() if precision == "int8" else (),
            sensitivity=sensitivity(job),
            memory=decode(tuple[MemoryStep, ...], estimate.get("memory", []), "memory"),
            latencies=latencies(job),
            bounds=decode(tuple[ModeBound, ...], estimate.get("bounds", []), "bounds"),
            disagreements=disagreements(job),
            environment=environment(),
            commands=commands(job),
            artefacts={name: digest for name in ARTEFACTS if (digest := job.state.hash_of(name))},
            notes=self.notes,
            missing=missing(job, self.rows, estimate),
        )

    @cached_property
    def _estimate(self) -> Mapping[str, Any]:
        """What the step "estimate" wrote; empty where it did not come to that."""
        if "estimate" not in self.job.state.records:
            return {}
        values: Mapping[str, Any] = json.loads(self.job.path("estimate.json").read_text(encoding="utf-8"))
        return values

    def _layers(self) -> tuple[Layer, ...]:
        """The deployed model's layers, with the error of each output where it was measured."""
        layers = decode(tuple[Layer, ...], self._estimate.get("layers", []), "layers")
        if self.job.config.precision != "int8":
            return layers
        sqnr = self.job.data("evaluate").get("int8", {}).get("layers", {})
        return tuple(replace(layer, sqnr=sqnr.get(layer.name)) for layer in layers)

    def _subject(self) -> Subject:
        job, export, images = self.job, self.job.data("export"), self.job.data("images")
        height, width = export["crop"]
        return Subject(
            title=f"GoogLeNet ({export['architecture']})",
            target=job.target.name,
            target_title=job.target.title,
            precision=job.config.precision,
            classes=int(export["classes"]),
            input=f"{height} \N{MULTIPLICATION SIGN} {width}",
            weights=job.config.weights,
            weights_sha256=export["weights_sha256"],
            calibration_images=len(images["calibration"]),
            evaluation_images=int(job.data("evaluate").get("images", 0)),
            evaluation_set=job.config.images,
        )

    def _created(self) -> str:
        """Now; the earlier report's time where every step is unchanged, so that a lost file comes back as it was."""
        if all(row.outcome != "done" for row in self.rows):
            try:
                return load_results(self.job.path(RESULTS)).created
            except InputError:
                pass
        return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")

    def _histograms(self) -> tuple[TensorHistogram, ...]:
        values = json.loads(self.job.path(OUTLINES).read_text(encoding="utf-8"))
        shapes = {name: Outline(shape["width"], tuple(shape["counts"])) for name, shape in values.items()}
        return tensor_histograms(load_table(self.job.path(TABLE)), shapes)


_WHAT = {"export": "FP32 ONNX", "fp16": "FP16 ONNX"}


def checks(job: Job, rows: tuple[Step, ...]) -> tuple[Check, ...]:
    """Everything that was held against something else, in the order in which it was."""
    found: list[Check] = []
    done = {row.name for row in rows if row.outcome in ("done", "unchanged")}
    for step, what in _WHAT.items():
        entries = job.data(step).get("comparisons", []) if step in done else []
        found += [Check(f"{what} equals {entry['against']}", entry["holds"], entry["text"]) for entry in entries]
    images = job.data("images")
    if images["calibration"]:
        both = {*images["calibration"], *images["choosing"]} & set(images["evaluation"])
        text = f"{len(images['calibration'])} and {len(images['evaluation'])} images, {len(both) or 'none'} in both"
        found.append(Check("Calibration and evaluation images differ", not both, text))
    if "quantize" in done:
        findings = job.data("quantize")["findings"]
        text = "; ".join(findings) if findings else "nothing that TensorRT would refuse"
        found.append(Check("INT8 model keeps TensorRT's rules", True, text))
    found += _accuracy(job) if "evaluate" in done else []
    if "build" in done and job.data("build")["check"]:
        found.append(Check("NVIDIA's parser takes the model", True, job.data("build")["check"]))
    if "bundle" in done:
        found.append(
            Check("Bundle's self-test", True, f"{job.data('bundle')['files']} files; passes in an empty folder")
        )
    return tuple(found)


def _accuracy(job: Job) -> list[Check]:
    found = []
    evaluation = job.data("evaluate")
    difference = evaluation["variants"][job.config.precision].get("difference")
    if difference is not None:
        worse = difference["points"] < 0 and difference["p_value"] < SIGNIFICANT
        text = (
            f"{difference['points']:+.2f} points: {plural(difference['gained'], 'image')} gained and "
            f"{difference['lost']} lost, McNemar p = {difference['p_value']:.2g}"
        )
        found.append(Check("No more is lost to FP32 than chance explains", not worse, text))
    if job.config.precision == "int8":
        fine = next((entry["text"] for entry in evaluation["int8"]["verdicts"] if entry["severity"] == FINE), "")
        text = fine or first_problem(evaluation["int8"])
        found.append(Check("INT8 is as near to FP32 as INT8 usually is", bool(fine), text))
    return found


def missing(job: Job, rows: tuple[Step, ...], estimate: Mapping[str, Any]) -> tuple[Missing, ...]:
    """What the report does not have, with the reason, as the report's sections ask for it."""
    reached = {row.name for row in rows}
    stopped = "a gate did not hold, so the deployment stopped before it"
    found: list[Missing] = []
    if not job.data("images")["labels"]:
        found.append(Missing("accuracy", "the images have no labels"))
    if job.config.precision == "fp32":
        found.append(Missing("agreement", "FP32 is what the others would be compared with"))
        found.append(Missing("disagreements", "there is only one precision"))
    if job.config.precision != "int8":
        reason = f"{job.config.precision.upper()} is deployed, which needs no calibration"
        found += [Missing("histograms", reason), Missing("layer SQNR", reason), Missing("sensitivity", reason)]
    elif not job.config.sensitivity and not job.config.budget:
        found.append(Missing("sensitivity", "it was switched off"))
    if "estimate" not in reached:
        found += [Missing(part, stopped) for part in ("layers", "memory", "bounds", "latency")]
    elif estimate.get("why"):
        found.append(Missing("bounds", estimate["why"]))
    found += _measurements(job, rows, reached, stopped)
    return tuple(found)


def _measurements(job: Job, rows: tuple[Step, ...], reached: set[str], stopped: str) -> list[Missing]:
    on_device = "no device is at hand: run `benchmark` of the bundle on it"
    found = [
        Missing("latency on the device", on_device),
        Missing("energy on the device", on_device),
        Missing("layer times", "no engine ran here"),
    ]
    left_out = {row.name: row.text for row in rows if row.outcome == "left out"}
    if "benchmark" in left_out:
        found.append(Missing("latency", f"the benchmark on this machine was left out: {left_out['benchmark']}"))
    if "build" in reached and not job.data("build")["engine"]:
        found.append(Missing("engine", f"it is built on the device: {job.data('build')['why']}"))
    if "bundle" not in reached:
        found.append(Missing("bundle", stopped))
    return found


_PACKAGES = (
    "googlenet-deploy", "numpy", "pillow", "onnx", "onnxruntime", "onnxsim", "torch", "openvino", "tensorrt",
    "tensorrt-rtx-cu13",
)  # fmt: skip
LINE = 72  # characters, from which an option begins a line of its own


def commands(job: Job) -> tuple[str, ...]:
    """The command that made this, and those for the device."""
    lines = wrapped(command_of(job.config))
    if "bundle" in job.state.records:
        lines += [
            "",
            f"# on the {job.target.title}, with {job.path('bundle.zip').name} copied there",
            "unzip bundle.zip -d googlenet && cd googlenet",
            "./self-test.sh --files-only && ./build.sh",
            "python3 googlenet-device.pyz benchmark on-device/model.engine --json on-device/benchmark.json",
        ]
    return tuple(lines)


def command_of(config: DeployConfig) -> str:
    """The command line for a configuration; what has its default is left out."""
    words = ["googlenet-deploy", "deploy"]
    for name in ("weights", "images", "labels", "target", "precision", "output"):
        value = getattr(config, name)
        words += [f"--{name}", value] if value else []
    defaults = DeployConfig(weights="w", images="i", target="t", output="o")
    for name in ("calibration_images", "evaluation_images", "seed", "method", "refine", "golden_images", "threads"):
        if getattr(config, name) != getattr(defaults, name):
            words += [f"--{name.replace('_', '-')}", str(getattr(config, name))]
    if config.batch != defaults.batch:
        words += ["--batch", ",".join(map(str, config.batch))]
    if config.compute_capabilities != defaults.compute_capabilities:
        words += ["--compute-capabilities", ",".join(config.compute_capabilities)]
    if not config.benchmark:
        words.append("--no-benchmark")
    if not config.sensitivity:
        words.append("--no-sensitivity")
    words += [word for name, limit in config.budget.items() for word in ("--budget", f"{name}={limit:g}")]
    if dict(config.gates) != DEFAULT_GATES:
        words.append("--no-gates")
        words += [word for name, limit in config.gates.items() for word in ("--require", f"{name}={limit:g}")]
    return " ".join(map(shlex.quote, words))


def wrapped(command: str) -> list[str]:
    """A command over lines of about `LINE` characters, broken ahead of options as a shell reads them."""
    lines: list[str] = []
    for word in map(shlex.quote, shlex.split(command)):
        if lines and (not word.startswith("--") or len(lines[-1]) + len(word) < LINE):
            lines[-1] += f" {word}"
        else:
            lines = [*lines[:-1], f"{lines[-1]} \\", f"    {word}"] if lines else [word]
    return lines


def environment() -> dict[str, str]:
    """Machine, system and the versions of what took part."""
    machine = describe_machine()
    found = {"machine": f"{machine.processor or machine.model}, {machine.cores} cores", "system": machine.system}
    if machine.gpu:
        found["GPU"] = f"{machine.gpu}, driver {machine.driver}"
    found["Python"] = machine.python
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
