"""Runs models, optionally with a reference, over images with or without labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.images.pipeline import Batch, ImageBatches, Skipped
from googlenet_deploy.device.labels import BACKGROUND_FIRST
from googlenet_deploy.device.predictions import TOP_K_INDICES, Predictions, class_scores, predict
from googlenet_deploy.device.progress import progress
from googlenet_deploy.device.runner.protocol import run_any_batch
from googlenet_deploy.errors import BadModelError, InputError
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.evaluation.statistics import Proportion, top_k_correct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.evaluation.dataset import LabelledImages

TOP = 5


@dataclass
class Answers:
    """One model's predictions for each image.

    Attributes:
        top1: Per image, whether the best class is the true one; empty without labels.
        top5: Per image, whether the true class is among the best five; empty without labels.
        best: Per image, the index of the best class.
        confidence: Per image, the probability of the best class; empty if the model has no probabilities.
    """

    top1: list[bool] = field(default_factory=list)
    top5: list[bool] = field(default_factory=list)
    best: list[int] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)

    def add(self, predictions: Predictions, labels: NDArray[np.int64] | None) -> None:
        """Adds the best classes of a batch, and its (N,) true classes; None without labels."""
        indices = predictions.indices
        if labels is not None:
            self.top1.extend(top_k_correct(indices, labels, 1).tolist())
            self.top5.extend(top_k_correct(indices, labels, TOP).tolist())
        self.best.extend(indices[:, 0].tolist())
        if predictions.probabilities is not None:
            self.confidence.extend(predictions.probabilities[:, 0].tolist())

    @property
    def accuracy1(self) -> Proportion:
        """Top-1 accuracy."""
        return Proportion(sum(self.top1), len(self.top1))

    @property
    def accuracy5(self) -> Proportion:
        """Top-5 accuracy."""
        return Proportion(sum(self.top5), len(self.top5))


@dataclass
class Evaluation:
    """The result of an evaluation.

    Attributes:
        model: The model's predictions.
        reference: The reference's predictions; None without a reference.
        agreement: Agreement of the model with the reference; None without one.
        names: The images that were used, in order.
        labels: Their true classes; empty without labels.
        classes: Number of classes of the model; 0 if unknown.
        skipped: The images that could not be used.
        classes_given: Number of classes per image that the model returns: 5 or more for a meaningful top-5.
    """

    model: Answers = field(default_factory=Answers)
    reference: Answers | None = None
    agreement: Agreement | None = None
    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    classes: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    classes_given: int = 0


def evaluate(
    runner: Runner,
    spec: Preprocessing,
    images: LabelledImages,
    *,
    reference: Runner | None = None,
    reference_spec: Preprocessing | None = None,
    batch_size: int = 8,
    workers: int | None = None,
    backend: str = "pillow",
    quiet: bool = False,
) -> Evaluation:
    """Classifies every image and compares with the labels; `evaluate_models` for one model."""
    return evaluate_models(
        [runner],
        spec,
        images,
        reference=reference,
        reference_spec=reference_spec,
        batch_size=batch_size,
        workers=workers,
        backend=backend,
        quiet=quiet,
    )[0]


def evaluate_models(
    runners: Sequence[Runner],
    spec: Preprocessing,
    images: LabelledImages,
    *,
    reference: Runner | None = None,
    reference_spec: Preprocessing | None = None,
    batch_size: int = 8,
    workers: int | None = None,
    backend: str = "pillow",
    quiet: bool = False,
) -> list[Evaluation]:
    """Classifies every image with several models, which share one pass over the images and one reference.

    Args:
        runners: The models, at least one.
        spec: How the models' images are prepared.
        images: Images with labels; without labels only agreement with the reference is measured.
        reference: A model to compare with; it and the models must then return scores of every class.
        reference_spec: How the reference's images are prepared; None if in the same way.
        batch_size: Images per batch.
        workers: Decoding threads; None for one per core.
        backend: The backend of the resize.
        quiet: Show no progress.

    Returns:
        One result per model; with a reference, all share its predictions.

    Raises:
        InputError: No image could be used.
        BadModelError: A model's outputs are not those of a classifier, or are inconsistent.
    """
    shared = None if reference is None else Answers()
    results = [Evaluation(reference=shared, agreement=None if shared is None else Agreement()) for _ in runners]
    label_of = {source.name: label for source, label in zip(images.sources, images.labels, strict=bool(images.labels))}

    def prepared(by: Preprocessing) -> ImageBatches:
        return ImageBatches(images.sources, by, batch_size, workers=workers, backend=backend)

    batches = prepared(spec)
    others = None if reference_spec in (None, spec) else iter(prepared(reference_spec))
    with progress("evaluate", len(images.sources), quiet=quiet) as advance:
        for batch in batches:
            labels = np.array([label_of[name] for name in batch.names], np.int64) if label_of else None
            outputs = [run_any_batch(runner, batch.array) for runner in runners]
            for result, runner, values in zip(results, runners, outputs, strict=True):
                _add(result, runner, values, batch.names, labels, images.class_count)
            if reference is not None and shared is not None:
                other = batch if others is None else _same_images(next(others, None), batch)
                wanted = run_any_batch(reference, other.array)
                for result, runner, values in zip(results, runners, outputs, strict=True):
                    _compare(result, values, runner, wanted, reference)
                shared.add(predict(wanted, TOP, reference.path), labels)
            advance(len(batch.names))
    for result in results:
        result.skipped = list(batches.skipped)
    if not results[0].names:
        raise InputError(images.sources[0].name, "not one of the images could be used", "see the skipped ones above")
    return results


def _add(
    result: Evaluation,
    runner: Runner,
    outputs: dict[str, NDArray[np.generic]],
    names: Sequence[str],
    labels: NDArray[np.int64] | None,
    class_count: int,
) -> None:
    """Adds one model's outputs for a batch."""
    predictions = predict(outputs, TOP, runner.path)
    result.classes = _check_labels(labels, class_count, outputs, runner.path)
    result.classes_given = predictions.indices.shape[1]
    result.model.add(predictions, labels)
    result.names.extend(names)
    result.labels.extend([] if labels is None else labels.tolist())


def _check_labels(
    labels: NDArray[np.int64] | None, named: int, outputs: dict[str, NDArray[np.generic]], path: str
) -> int:
    """Rejects labels outside the model's classes, so that they do not count as errors; counts the classes."""
    if TOP_K_INDICES in outputs:
        return 0  # the model's number of classes is unknown
    count: int = class_scores(outputs, path).shape[1]
    if named and named != count:
        remedy = BACKGROUND_FIRST if count == named + 1 else None
        raise BadModelError(path, f"has {count} classes, but there are {named} class names", remedy)
    if labels is not None and labels.max() >= count:
        remedy = "if the labels count from 1, subtract 1 from them" if labels.max() == count else None
        raise BadModelError(path, f"has {count} classes, but an image has the label {labels.max()}", remedy)
    return count


def _same_images(other: Batch | None, batch: Batch) -> Batch:
    """The reference's batch, if it holds the images of the model's batch."""
    if other is None or other.names != batch.names:
        raise InputError(
            batch.names[0],
            "this image or one soon after it can be prepared for one of the two models only",
            "pass both the same --resize and --crop, or leave images out that are smaller than the crop",
        )
    return other


def _compare(
    result: Evaluation,
    outputs: dict[str, NDArray[np.generic]],
    runner: Runner,
    reference_outputs: dict[str, NDArray[np.generic]],
    reference: Runner,
) -> None:
    for values, each in ((outputs, runner), (reference_outputs, reference)):
        if TOP_K_INDICES in values:
            raise BadModelError(each.path, "returns only its best classes, so it cannot be compared class by class")
    scores, wanted = class_scores(outputs, runner.path), class_scores(reference_outputs, reference.path)
    if scores.shape != wanted.shape:
        raise BadModelError(runner.path, f"has {scores.shape[1]} classes, its reference {wanted.shape[1]}")
    assert result.agreement is not None
    result.agreement.add(wanted, scores)
