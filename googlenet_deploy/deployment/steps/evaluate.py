"""Every precision on the images that calibration did not see."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from googlenet_deploy.deployment.job import MODELS, Job, Outcome, Step
from googlenet_deploy.device.files import write_json
from googlenet_deploy.device.images.pipeline import ImageBatches
from googlenet_deploy.device.onnx_model.header import read_onnx
from googlenet_deploy.device.predictions import class_scores, softmax, top_indices
from googlenet_deploy.device.progress import progress
from googlenet_deploy.device.runner.protocol import run_any_batch
from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.errors import InputError
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.evaluation.diagnosis import FINE, PROBLEM, Evidence, diagnose
from googlenet_deploy.evaluation.statistics import PairedDifference, Proportion, top_k_correct
from googlenet_deploy.quantization.layer_errors import InnerErrors, measure_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.runner.protocol import Runner


IMAGES = 16  # on which inner tensors are compared


@dataclass(frozen=True)
class Answers:
    """What the FP32 and the INT8 model said.

    Attributes:
        reference: The FP32 model's scores, (N, classes).
        scores: The INT8 model's.
        truth: The true classes, (N,); None without labels.
        names: Class names.
    """

    reference: NDArray[np.float32]
    scores: NDArray[np.float32]
    truth: NDArray[np.int64] | None
    names: tuple[str, ...]


def diagnose_int8(job: Job, answers: Answers, images: list[str]) -> dict[str, Any]:
    """SQNR of every layer's output, and the verdicts on the whole, as JSON values.

    Args:
        job: The deployment.
        answers: What both models said of all evaluation images.
        images: Paths of those images.
    """
    paths = {name: str(job.path(MODELS[name])) for name in ("fp32", "int8")}
    specs = {name: read_onnx(path).metadata.preprocessing for name, path in paths.items()}
    assert specs["fp32"] is not None  # our own export wrote it
    assert specs["int8"] is not None
    reference, model = (paths["fp32"], specs["fp32"]), (paths["int8"], specs["int8"])
    inner = measure_files(reference, model, images, IMAGES, threads=job.threads, quiet=job.quiet)
    verdicts = diagnose(evidence(answers, inner))
    return {
        "images": inner.images,
        "layers": {layer.name: layer.sqnr for layer in inner.layers},
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }


def evidence(answers: Answers, inner: InnerErrors) -> Evidence:
    """What the rules look at; without labels the FP32 model's answers stand for them."""
    best, wanted = answers.scores.argmax(axis=1), answers.reference.argmax(axis=1)
    truth = wanted if answers.truth is None else answers.truth
    agreement = Agreement()
    agreement.add(answers.reference, answers.scores)
    right = wanted == truth
    confidence = softmax(answers.reference).max(axis=1).mean() if answers.truth is not None else None
    return Evidence(
        agreement=agreement,
        paired=PairedDifference.of((best == truth).tolist(), right.tolist()),
        best=best.tolist(),
        reference_best=wanted.tolist(),
        labels=truth.tolist(),
        classes=answers.reference.shape[1],
        reference_right=float(right.mean()),
        names=answers.names,
        reference_confidence=None if confidence is None else float(confidence),
        **inner.as_evidence(),
    )


def first_problem(data: dict[str, Any]) -> str:
    """The first problem that was found; empty where there is none."""
    return next((str(entry["text"]) for entry in data.get("verdicts", []) if entry["severity"] == PROBLEM), "")


FILE = "evaluation.json"
BATCH = 8
SHOWN = 12  # images on which precisions disagree
TOP = 5


class Evaluate(Step):
    """``evaluation.json``: accuracy, paired differences, agreement, and the images on which precisions disagree.

    The graphs run as they stand in ONNX Runtime, whose Q/DQ arithmetic is what TensorRT is to reproduce.
    """

    name = "evaluate"

    def inputs(self, job: Job) -> dict[str, Any]:
        """The models and the images."""
        hashes = {name: job.state.hash_of(MODELS[name]) for name in job.precisions()}
        return {"models": hashes, "images": job.state.hash_of("images.json")}

    def run(self, job: Job) -> Outcome:
        """Runs all models over the images, batch by batch."""
        labels = {str(name): int(index) for name, index in job.data("images")["labels"].items()}
        names = list(job.data("images")["evaluation"])
        scores, used, skipped = _scores(job, names)
        truth = np.array([labels[name] for name in used], np.int64) if labels else None
        figures = {name: _figures(values, scores["fp32"], truth) for name, values in scores.items()}
        for name, values in scores.items():
            if name != "fp32" and truth is not None:
                figures[name]["difference"] = _difference(values, scores["fp32"], truth)
        data: dict[str, Any] = {
            "images": len(used),
            "skipped": skipped,
            "variants": figures,
            "disagreements": _disagreements(used, scores, labels),
        }
        if "int8" in scores:
            classes = tuple(job.data("images")["classes"])
            answers = Answers(scores["fp32"], scores["int8"], truth, classes)
            data["int8"] = diagnose_int8(job, answers, [source.name for source in job.sources(used)])
        write_json(job.path(FILE), data)
        notes = [f"evaluation skipped {name}: {why}" for name, why in skipped]
        notes += [entry["text"] for entry in data.get("int8", {}).get("verdicts", []) if entry["severity"] != FINE]
        return Outcome((FILE,), _sentence(job, figures, len(used)), data, tuple(notes))


def _scores(job: Job, names: list[str]) -> tuple[dict[str, NDArray[np.float32]], list[str], list[tuple[str, str]]]:
    """Scores of every model, (N, classes), the images used, and those that could not be."""
    sources = job.sources(names)
    known = {source.name: name for source, name in zip(sources, names, strict=True)}
    used: list[str] = []
    with _runners(job) as runners:
        spec = runners["fp32"].metadata.preprocessing
        assert spec is not None  # our own export wrote it
        batches = ImageBatches(sources, spec, BATCH)
        found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in runners}
        with progress("evaluate", len(names), quiet=job.quiet) as advance:
            for batch in batches:
                for name, runner in runners.items():
                    found[name].append(class_scores(run_any_batch(runner, batch.array), runner.path))
                used += [known[name] for name in batch.names]
                advance(len(batch.names))
    skipped = [(known[item.name], item.reason) for item in batches.skipped]
    if not used:
        raise InputError(
            job.config.images, "not one of the evaluation images can be used", "see the first reason above"
        )
    return {name: np.concatenate(parts) for name, parts in found.items()}, used, skipped


@contextmanager
def _runners(job: Job) -> Iterator[dict[str, Runner]]:
    opened: dict[str, Runner] = {}
    try:
        for name in job.precisions():
            path = job.path(MODELS[name])
            opened[name] = open_runner(path, "onnxruntime", threads=job.threads, batch=BATCH, as_is=True)
        yield opened
    finally:
        for runner in opened.values():
            runner.__exit__(None, None, None)


def _figures(
    scores: NDArray[np.float32], reference: NDArray[np.float32], truth: NDArray[np.int64] | None
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    best = top_indices(scores, TOP)
    if truth is not None:
        figures["top1"] = _share(int(top_k_correct(best, truth, 1).sum()), len(truth))
        figures["top5"] = (
            _share(int(top_k_correct(best, truth, TOP).sum()), len(truth)) if best.shape[1] == TOP else None
        )
    if scores is not reference:
        agreement = Agreement()
        agreement.add(reference, scores)
        figures["agreement"] = _share(agreement.equal, agreement.images)
        figures["sqnr"] = agreement.sqnr if math.isfinite(agreement.sqnr) else None
        figures["divergence"] = agreement.mean_divergence
    return figures


def _share(successes: int, total: int) -> dict[str, Any]:
    low, high = Proportion(successes, total).interval
    return {"successes": successes, "total": total, "low": low, "high": high}


def _difference(
    scores: NDArray[np.float32], reference: NDArray[np.float32], truth: NDArray[np.int64]
) -> dict[str, Any]:
    ours = top_k_correct(top_indices(scores, 1), truth, 1)
    theirs = top_k_correct(top_indices(reference, 1), truth, 1)
    return PairedDifference.of(ours.tolist(), theirs.tolist()).as_dict()


def _disagreements(
    used: list[str], scores: dict[str, NDArray[np.float32]], labels: dict[str, int]
) -> list[dict[str, Any]]:
    """The images to which the models give different classes: those with labels on which one is right come first."""
    best = {name: values.argmax(axis=1) for name, values in scores.items()}
    differing = [index for index in range(len(used)) if len({int(indices[index]) for indices in best.values()}) > 1]
    chances = {name: softmax(values).max(axis=1) for name, values in scores.items()}
    right = {index: any(int(best[name][index]) == labels.get(used[index]) for name in best) for index in differing}
    chosen = sorted(differing, key=lambda index: (not right[index], index))[:SHOWN]
    return [
        {
            "image": used[index],
            "label": labels.get(used[index]),
            "answers": {
                name: {"class": int(best[name][index]), "probability": float(chances[name][index])} for name in scores
            },
        }
        for index in chosen
    ]


def _sentence(job: Job, figures: dict[str, Any], count: int) -> str:
    deployed = figures[job.config.precision]
    parts = []
    for name, kind in (("fp32", "FP32"), (job.config.precision, job.config.precision.upper())):
        share = figures[name].get("top1")
        if share is not None:
            text = f"{kind} top-1 {100 * share['successes'] / share['total']:.1f} %"
            parts += [text] if text not in parts else []
    if "agreement" in deployed:
        share = deployed["agreement"]
        parts.append(f"agreement {100 * share['successes'] / share['total']:.1f} %")
    return f"{', '.join(parts) or 'classified'} on {count} images"
