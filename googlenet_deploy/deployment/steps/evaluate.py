"""Evaluates every precision on the hold-out images, which calibration did not see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from googlenet_deploy.deployment.job import MODELS, Job, Outcome, Step
from googlenet_deploy.deployment.records import EVALUATION, EvaluationRecord
from googlenet_deploy.device.files import write_json
from googlenet_deploy.device.json_decode import encode
from googlenet_deploy.device.labels import short_name
from googlenet_deploy.device.onnx_model.header import read_onnx
from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.device.text import counted
from googlenet_deploy.evaluation.dataset import LabelledImages
from googlenet_deploy.evaluation.diagnosis import FINE, Verdict, diagnose, evidence_of, label_verdicts
from googlenet_deploy.evaluation.evaluate import Evaluation, evaluate_models
from googlenet_deploy.evaluation.summary import AccuracyFigures, summary_of
from googlenet_deploy.quantization.layer_errors import InnerErrors, measure_files
from googlenet_deploy.report.figures import Confusion, Disagreement, Example, VariantAnswer
from googlenet_deploy.report.pictures import SMALL_THUMBNAIL, thumbnail

INNER_IMAGES = 16  # on which inner tensors are compared
BATCH = 8
SHOWN_DISAGREEMENTS, SHOWN_CONFUSIONS, SHOWN_EXAMPLES = 12, 8, 3


class Evaluate(Step):
    """``evaluation.json``: accuracy, agreement, and the images on which precisions disagree or are wrong.

    ONNX Runtime runs the graphs unchanged: its Q/DQ arithmetic is the reference for TensorRT.
    """

    name = "evaluate"

    def inputs(self, job: Job) -> dict[str, Any]:
        """The models and the images."""
        hashes = {name: job.state.hash_of(MODELS[name]) for name in job.precisions()}
        return {"models": hashes, "images": job.state.hash_of("images.json"), "deployed": job.config.precision}

    def run(self, job: Job) -> Outcome:
        """Runs all models over the images, batch by batch."""
        found = evaluate_precisions(job)
        fp32 = found["fp32"]
        shown = Shown(Path(job.config.images), tuple(job.data("images")["classes"]), tuple(fp32.labels))
        verdicts, inner = _diagnosis(job, found["int8"]) if "int8" in found else (_labels(job, fp32), None)
        record = EvaluationRecord(
            images=len(fp32.names),
            skipped=tuple((shown.relative(item.name), item.reason) for item in fp32.skipped),
            variants={name: summary_of(result) for name, result in found.items()},
            disagreements=shown.disagreements(found),
            confusions=shown.confusions(found[job.config.precision], fp32),
            layers=inner.layers if inner is not None else (),
            verdicts=tuple(verdicts),
        )
        write_json(job.path(EVALUATION), encode(record))
        notes = [f"evaluation skipped {name}: {why}" for name, why in record.skipped]
        notes += [verdict.text for verdict in verdicts if verdict.severity != FINE]
        return Outcome((EVALUATION,), _sentence(job, record), notes=tuple(notes))


def evaluate_precisions(job: Job) -> dict[str, Evaluation]:
    """The evaluation of every precision that has a model, FP32 first; the others are compared with it."""
    data = job.data("images")
    labels = tuple(int(data["labels"][name]) for name in data["evaluation"]) if data["labels"] else ()
    images = LabelledImages(tuple(job.sources(data["evaluation"])), labels)
    with ExitStack() as stack:
        runners = {
            name: stack.enter_context(
                open_runner(job.path(MODELS[name]), "onnxruntime", threads=job.threads, batch=BATCH, as_is=True)
            )
            for name in job.precisions()
        }
        fp32 = runners.pop("fp32")
        spec = fp32.metadata.preprocessing
        assert spec is not None  # written by our own export
        if not runners:
            return {"fp32": evaluate_models([fp32], spec, images, batch_size=BATCH, quiet=job.quiet)[0]}
        results = evaluate_models(
            list(runners.values()), spec, images, reference=fp32, batch_size=BATCH, quiet=job.quiet
        )
    assert results[0].reference is not None
    itself = replace(results[0], model=results[0].reference, reference=None, agreement=None)
    return {"fp32": itself, **dict(zip(runners, results, strict=True))}


def _labels(job: Job, result: Evaluation) -> list[Verdict]:
    """Whether the labels match the model's classes."""
    return label_verdicts(result, tuple(job.data("images")["classes"]))


def _diagnosis(job: Job, result: Evaluation) -> tuple[list[Verdict], InnerErrors]:
    """The diagnosis of the INT8 model, and the errors of its inner tensors."""
    paths = [job.path(MODELS[name]) for name in ("fp32", "int8")]
    specs = [read_onnx(path).metadata.preprocessing for path in paths]
    assert specs[0] is not None
    assert specs[1] is not None
    reference, model = (paths[0], specs[0]), (paths[1], specs[1])
    inner = measure_files(reference, model, result.names, INNER_IMAGES, threads=job.threads, quiet=job.quiet)
    evidence = evidence_of(result, tuple(job.data("images")["classes"]))
    return diagnose(replace(evidence, **inner.as_evidence())), inner


@dataclass(frozen=True)
class Shown:
    """Chooses the single images that the report shows.

    Attributes:
        root: The folder of images.
        classes: Class names; may be empty.
        labels: The true class of each image; empty without labels.
    """

    root: Path
    classes: tuple[str, ...]
    labels: tuple[int, ...]

    def relative(self, name: str) -> str:
        """An image's name relative to the folder of images."""
        path = Path(name)
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name

    def disagreements(self, found: Mapping[str, Evaluation]) -> tuple[Disagreement, ...]:
        """Images that the models classify differently; labelled ones that one model gets right come first."""
        best = {name: result.model.best for name, result in found.items()}
        names = next(iter(found.values())).names
        differing = [index for index in range(len(names)) if len({each[index] for each in best.values()}) > 1]

        def is_right(index: int) -> bool:
            return bool(self.labels) and any(each[index] == self.labels[index] for each in best.values())

        chosen = sorted(differing, key=lambda index: (not is_right(index), index))[:SHOWN_DISAGREEMENTS]
        return tuple(
            Disagreement(
                image=self.relative(names[index]),
                thumbnail=thumbnail(Path(names[index])),
                label=self._name(self.labels[index]) if self.labels else "",
                answers=tuple(
                    VariantAnswer(name, self._name(best[name][index]), result.model.confidence[index])
                    for name, result in found.items()
                ),
            )
            for index in chosen
        )

    def confusions(self, deployed: Evaluation, fp32: Evaluation) -> tuple[Confusion, ...]:
        """The most frequent pairs of a true class and the class it is mistaken for, with examples."""
        pairs = list(zip(self.labels, deployed.model.best, strict=False))
        counts = Counter(pair for pair in pairs if pair[0] != pair[1])
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_CONFUSIONS]
        of_fp32, of_label = Counter(zip(self.labels, fp32.model.best, strict=False)), Counter(self.labels)
        return tuple(
            Confusion(
                label=self._name(pair[0]),
                answer=self._name(pair[1]),
                count=count,
                total=of_label[pair[0]],
                reference=of_fp32[pair],
                examples=self._examples(
                    [name for name, each in zip(deployed.names, pairs, strict=True) if each == pair]
                ),
            )
            for pair, count in ranked
        )

    def _examples(self, names: Sequence[str]) -> tuple[Example, ...]:
        return tuple(
            Example(self.relative(name), thumbnail(Path(name), SMALL_THUMBNAIL)) for name in names[:SHOWN_EXAMPLES]
        )

    def _name(self, index: int) -> str:
        return short_name(self.classes[index]) if index < len(self.classes) else str(index)


def _sentence(job: Job, record: EvaluationRecord) -> str:
    precision = job.config.precision
    deployed: AccuracyFigures = record.variants[precision]
    parts = [
        f"{name.upper()} top-1 {figures.top1.percent:.1f} %"
        for name, figures in record.variants.items()
        if name in ("fp32", precision) and figures.top1 is not None
    ]
    if deployed.agreement is not None:
        parts.append(f"agreement {deployed.agreement.percent:.1f} %")
    return f"{', '.join(parts) or 'classified'} on {counted(record.images, 'image')}"
