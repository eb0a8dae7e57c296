"""Where the INT8 model differs from FP32, layer by layer, and what is likely wrong where it differs too much."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from googlenet_deploy.deployment.job import MODELS, Job
from googlenet_deploy.device.onnx_model.header import read_onnx
from googlenet_deploy.device.predictions import softmax
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.evaluation.diagnosis import diagnose
from googlenet_deploy.evaluation.evidence import PROBLEM, Evidence
from googlenet_deploy.evaluation.paired import PairedDifference
from googlenet_deploy.quantization.layer_errors import InnerErrors, measure_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
