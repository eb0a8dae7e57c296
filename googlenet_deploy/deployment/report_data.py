"""Gathers the steps' results, and writes the report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

from googlenet_deploy import __version__
from googlenet_deploy.calibration.histogram import Outline
from googlenet_deploy.calibration.table import CalibrationTable, load_table
from googlenet_deploy.deployment.benchmark_results import DeviceResults, benchmark_latencies, read_device_results
from googlenet_deploy.deployment.commands import commands, environment
from googlenet_deploy.deployment.job import MODELS, OUTLINES, TABLE, Job
from googlenet_deploy.deployment.machine_paths import without_machine_paths
from googlenet_deploy.deployment.records import (
    ESTIMATE,
    EVALUATION,
    QUANTIZATION,
    EstimateRecord,
    EvaluationRecord,
    QuantizationRecord,
)
from googlenet_deploy.deployment.report_checks import checks, doubts, missing
from googlenet_deploy.deployment.state import tool_hash
from googlenet_deploy.device.benchmark.result_file import read_result
from googlenet_deploy.device.files import sha256_file
from googlenet_deploy.device.json_decode import decode, encode
from googlenet_deploy.errors import InputError
from googlenet_deploy.evaluation.summary import AccuracyFigures
from googlenet_deploy.report.figures import ActivationHistogram, Latency, Layer, Variant
from googlenet_deploy.report.html import write_html
from googlenet_deploy.report.markdown import write_markdown
from googlenet_deploy.report.results import (
    GateResult,
    Missing,
    Results,
    StepResult,
    Subject,
    load_results,
    save_results,
)

RESULTS, HTML, MARKDOWN = "results.json", "report.html", "report.md"
ARTEFACTS = (*MODELS.values(), TABLE, "model.engine", "bundle.zip")


class Reporting:
    """One report.

    Args:
        job: The deployment.
        rows: The steps that were done, reused or left out.
        gates: The limits.
        notes: Notes for the user.
    """

    def __init__(
        self, job: Job, rows: tuple[StepResult, ...], gates: tuple[GateResult, ...], notes: tuple[str, ...]
    ) -> None:
        self.job, self.rows, self.gates, self.notes = job, rows, gates, notes

    def fingerprint(self) -> str:
        """Fingerprint of the report's whole content, except for which steps were done in this run."""
        parts = {
            row.name: self.job.state.records[row.name].fingerprint for row in self.rows if row.outcome != "left out"
        }
        device = self.job.config.device_results
        measured = sha256_file(device) if device else ""
        gates = [asdict(gate) for gate in self.gates]
        text = json.dumps([tool_hash(), parts, gates, list(self.notes), measured], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def write(self) -> tuple[str, ...]:
        """Writes results, HTML and Markdown; returns their names.

        Raises:
            InputError: The device's results cannot be used.
            OutputError: One of them cannot be written.
        """
        results = self.results()
        save_results(self.job.path(RESULTS), results)
        write_html(self.job.path(HTML), results)
        write_markdown(self.job.path(MARKDOWN), results)
        return HTML, MARKDOWN, RESULTS

    def results(self) -> Results:
        """All results, without paths of this machine."""
        config = self.job.config
        named = [Path(place) for place in (config.images, config.output) if place]
        holding = [Path(place).absolute().parent for place in (config.weights, config.labels) if place]
        values = without_machine_paths(encode(self._gathered()), [*named, *holding, Path.cwd()])
        return decode(Results, values)

    def _gathered(self) -> Results:
        job, device, evaluation = self.job, self._device, self._evaluation
        quantization = job.load(QuantizationRecord, QUANTIZATION)
        return Results(
            subject=self._subject(),
            created=self._created(),
            tool_version=__version__,
            steps=self.rows,
            gates=self.gates,
            checks=checks(job, self.rows),
            doubts=(*doubts(job, self.gates), *(device.doubts if device else ())),
            variants=tuple(self._variant(name) for name in job.precisions()),
            layers=self._layers(),
            histograms=self._histograms() if job.config.precision == "int8" else (),
            sensitivity=quantization.sensitivity,
            kept_in_float=quantization.kept,
            memory=self._estimate.memory,
            latencies=(*(device.latencies if device else ()), *self._latencies_here()),
            bounds=self._estimate.bounds,
            disagreements=evaluation.disagreements,
            confusions=evaluation.confusions,
            environment=environment(),
            device=device.device if device else {},
            tuned=device.tuned if device else None,
            commands=commands(job),
            artefacts={name: digest for name in ARTEFACTS if (digest := job.state.hash_of(name))},
            notes=self.notes,
            missing=(*missing(job, self.rows, measured=device is not None), *self._not_measured()),
        )

    @cached_property
    def _estimate(self) -> EstimateRecord:
        return self.job.load(EstimateRecord, ESTIMATE)

    @cached_property
    def _evaluation(self) -> EvaluationRecord:
        return self.job.load(EvaluationRecord, EVALUATION)

    @cached_property
    def _device(self) -> DeviceResults | None:
        config = self.job.config
        if not config.device_results:
            return None
        return read_device_results(config.device_results, self.job.data("export")["weights_sha256"], config.precision)

    def _not_measured(self) -> tuple[Missing, ...]:
        lacking = self._device.not_measured if self._device else {}
        found = [Missing(f"{name} on the device", reason) for name, reason in lacking.items()]
        if self._device is None or self._device.tuned is None:
            found.append(Missing("tuning", "run `tune` on the device, then `deploy --device-results tuned.json`"))
        return tuple(found)

    def _variant(self, name: str) -> Variant:
        job = self.job
        accuracy = self._evaluation.variants.get(name, AccuracyFigures())
        quantities = dict(self._estimate.quantities.get(name, {}))
        if self._device is not None and self._device.variant == name:
            quantities.update(self._device.quantities)
        elif self._device is not None:
            quantities.update(self._device.others.get(name, {}))
        return Variant(
            **vars(accuracy),
            name=name,
            file=MODELS[name],
            bytes=job.path(MODELS[name]).stat().st_size,
            sha256=job.state.hash_of(MODELS[name]),
            latency=quantities.get("latency"),
            energy=quantities.get("energy"),
            memory=quantities.get("memory"),
            shares=self._estimate.shares.get(name, {}),
        )

    def _layers(self) -> tuple[Layer, ...]:
        """The deployed model's layers, with the error of each output if it was measured."""
        errors = {error.name: error for error in self._evaluation.layers}
        if self.job.config.precision != "int8":
            return self._estimate.layers
        return tuple(
            replace(layer, sqnr=errors[layer.name].sqnr, drop=errors[layer.name].drop)
            if layer.name in errors
            else layer
            for layer in self._estimate.layers
        )

    def _latencies_here(self) -> tuple[Latency, ...]:
        """The latencies measured on this machine."""
        found: list[Latency] = []
        for name in self.job.precisions() if "benchmark" in self.job.state.records else ():
            found += benchmark_latencies(name, read_result(self.job.path(f"benchmark-{name}.json")), "this machine")
        return tuple(found)

    def _subject(self) -> Subject:
        job, export, images = self.job, self.job.data("export"), self.job.data("images")
        height, width = export["crop"]
        return Subject(
            title=export.get("title", f"GoogLeNet ({export['architecture']})"),  # absent from earlier progress files
            target=job.target.name,
            target_title=job.target.title,
            precision=job.config.precision,
            classes=int(export["classes"]),
            input=f"{height} \N{MULTIPLICATION SIGN} {width}",
            weights=job.config.weights,
            weights_sha256=export["weights_sha256"],
            calibration_images=len(images["calibration"]),
            evaluation_images=self._evaluation.images,
            evaluation_set=job.config.images,
        )

    def _created(self) -> str:
        """The current time; the earlier report's if no step changed, so that a lost file is restored exactly."""
        if all(row.outcome != "done" for row in self.rows):
            try:
                return load_results(self.job.path(RESULTS)).created
            except InputError:
                pass
        return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")

    def _histograms(self) -> tuple[ActivationHistogram, ...]:
        values = json.loads(self.job.path(OUTLINES).read_text(encoding="utf-8"))
        outlines = {name: decode(Outline, value, f"{OUTLINES}.{name}") for name, value in values.items()}
        return activation_histograms(load_table(self.job.path(TABLE)), outlines)


def activation_histograms(table: CalibrationTable, outlines: Mapping[str, Outline]) -> tuple[ActivationHistogram, ...]:
    """One histogram per table record that has an outline, in the table's order; all-zero tensors are left out."""
    return tuple(
        ActivationHistogram(
            **vars(outlines[record.members[0]]),
            tensor=record.members[0],
            maximum=max(abs(record.minimum), abs(record.maximum)),
            amax={name: value for name, value in record.amax.items() if name != "auto"},
            chosen=record.amax[table.method],
            rule=record.chosen if table.method == "auto" else table.method,
            clipped=record.saturated.get(table.method, 0.0),
            sqnr=record.errors.get(table.method),
        )
        for record in table.records
        if record.members[0] in outlines and not record.zero
    )
