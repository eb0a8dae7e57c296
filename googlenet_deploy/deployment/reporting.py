"""From what the steps left to the report."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from googlenet_deploy import __version__
from googlenet_deploy.calibration.histogram import Outline
from googlenet_deploy.calibration.table import load_table
from googlenet_deploy.deployment import report_checks, report_commands, report_figures
from googlenet_deploy.deployment.job import MODELS, OUTLINES, TABLE, Job
from googlenet_deploy.deployment.state import tool_hash
from googlenet_deploy.errors import InputError
from googlenet_deploy.report.collect.histograms import tensor_histograms
from googlenet_deploy.report.decode import decode
from googlenet_deploy.report.details import Layer, MemoryStep, ModeBound, TensorHistogram
from googlenet_deploy.report.html import write_html
from googlenet_deploy.report.markdown import write_markdown
from googlenet_deploy.report.outcomes import Gate, Step, Subject
from googlenet_deploy.report.results import Results, load_results, save_results

if TYPE_CHECKING:
    from collections.abc import Mapping

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
            checks=report_checks.checks(job, self.rows),
            variants=report_figures.variants(job, estimate),
            layers=self._layers(),
            histograms=self._histograms() if precision == "int8" else (),
            sensitivity=report_figures.sensitivity(job),
            memory=decode(tuple[MemoryStep, ...], estimate.get("memory", []), "memory"),
            latencies=report_figures.latencies(job),
            bounds=decode(tuple[ModeBound, ...], estimate.get("bounds", []), "bounds"),
            disagreements=report_figures.disagreements(job),
            environment=report_commands.environment(),
            commands=report_commands.commands(job),
            artefacts={name: digest for name in ARTEFACTS if (digest := job.state.hash_of(name))},
            notes=self.notes,
            missing=report_checks.missing(job, self.rows, estimate),
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
