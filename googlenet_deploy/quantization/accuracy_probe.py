"""Compares models with the FP32 model on hold-out images, which are read only once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.images.pipeline import ImageBatches
from googlenet_deploy.errors import InputError, VerificationError
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.evaluation.statistics import PairedDifference, Proportion
from googlenet_deploy.export.samples import prepare
from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.graph.session import TensorSession, require_independent_images
from googlenet_deploy.quantization.score_outputs import ScoreOutput, as_scores, candidates, find_score_outputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import onnx
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.images import Batches
    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.specification import Preprocessing


BATCH_SIZE = 4
# A sound INT8 GoogLeNet agrees with FP32 on about 98 of 100 images, at 28 dB or more.
DOUBTFUL_AGREEMENT, DOUBTFUL_DECIBELS = 0.9, 15.0
# Percent of images. If even the upper end of the interval is below this, most answers have changed.
RUINED_AGREEMENT = 50.0
RUINED_REMEDY = "try other images, another --method, or --budget agreement=95; --keep-doubtful writes it all the same"


def is_ruined(sqnr: float, agreements: Iterable[Proportion]) -> bool:
    """Whether a model is unusable: more noise than signal, or certainly other answers than FP32's on most images.

    Args:
        sqnr: Signal-to-noise ratio of its scores, in dB.
        agreements: Images whose best class is that of the FP32 model, of each score output.
    """
    return sqnr < 0 or any(each.interval[1] < RUINED_AGREEMENT for each in agreements)


@dataclass(frozen=True)
class Measure:
    """Comparison of a model with the FP32 model.

    Attributes:
        agreement: Agreement on the scores that `infer` shows.
        paired: Difference of their top-1 accuracies; None without labels.
        others: Agreement on the model's other score outputs, by name.
        quantity: What the ratio in `agreement` is measured on, such as ``logit (before Softmax)``.
    """

    agreement: Agreement
    paired: PairedDifference | None
    others: Mapping[str, Agreement] = field(default_factory=dict)
    quantity: str = "logit"

    @property
    def sqnr(self) -> float:
        """The smallest signal-to-noise ratio of all score outputs, in dB."""
        return min(each.sqnr for each in (self.agreement, *self.others.values()))

    @property
    def percent(self) -> float:
        """The smallest agreement of all score outputs, in percent of the images."""
        return min(each.proportion.percent for each in (self.agreement, *self.others.values()))

    def distance(self) -> str:
        """Agreement and SQNR, each the smallest over all score outputs, for a message."""
        return f"{self.percent:.1f} % agreement, {self.sqnr:.1f} dB"

    @property
    def is_ruined(self) -> bool:
        """Whether the model is unusable: more noise than signal, or certainly different answers on most images."""
        return is_ruined(self.sqnr, [each.proportion for each in (self.agreement, *self.others.values())])

    @property
    def is_doubtful(self) -> bool:
        """Whether the model is further from the FP32 model than sound INT8 models are."""
        return self.percent < 100 * DOUBTFUL_AGREEMENT or self.sqnr < DOUBTFUL_DECIBELS


class ScoreSession:
    """Runs a model for its class scores.

    Args:
        model: The model.
        scores: Which outputs hold scores; None finds them on the first batch.
        path: The model's file, for error messages.
        threads: ONNX Runtime threads; None uses one per core.
        strict: Refuse a model without class scores; otherwise any numbers it has for each image are compared.

    Attributes:
        scores: The outputs with scores; empty before the first batch if they still have to be found.

    Raises:
        BadModelError: It cannot be run.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        scores: Sequence[ScoreOutput] | None = None,
        path: str = "model",
        *,
        threads: int | None = None,
        strict: bool = True,
    ) -> None:
        self._strict = strict
        self.graph = GraphView(model, path)
        self.scores: Sequence[ScoreOutput] = scores or ()
        self._candidates = candidates(self.graph) if scores is None else list(scores)
        # A model from another tool may lack an inner tensor; its output is then used instead.
        self._tensors = {
            each: each.tensor if each.tensor in self.graph.producers else each.output for each in self._candidates
        }
        self.session = TensorSession(model, list(dict.fromkeys(self._tensors.values())), threads, path)

    @property
    def fixed_batch(self) -> int | None:
        """The model's fixed batch size; None if it is dynamic."""
        return self.session.fixed_batch

    def run(self, images: NDArray[np.generic]) -> list[NDArray[np.float32]]:
        """The scores of a batch, (N, classes) for each of `scores`.

        Raises:
            BadModelError: ONNX Runtime rejects the batch, no output holds class scores, or an image's scores depend on
                the others.
        """
        values = self.session.run(images)
        if not self.scores:
            require_independent_images(self.session, images, values)
            by_tensor = {each.tensor: values[self._tensors[each]] for each in self._candidates}
            by_tensor.update({each.output: values[each.output] for each in self._candidates if each.output in values})
            self.scores = find_score_outputs(self.graph, self._candidates, by_tensor, strict=self._strict)
        return [as_scores(values[self._tensors[each]]) for each in self.scores]


class HoldOutEvaluation:
    """Images and the FP32 model's scores for them, in memory: one byte per pixel and channel, plus the scores.

    Args:
        reference: The FP32 model.
        spec: How its images are prepared.
        images: The images.
        labels: The true class of every image, by image name; None without labels.
        path: The model's file, for error messages.
        threads: ONNX Runtime threads; None uses one per core.

    Attributes:
        skipped: Images that could not be used.
        scores: The outputs that are compared, starting with the one that `infer` shows.

    Raises:
        InputError: No image can be used.
        BadModelError: The model cannot be run, or has no class scores.
    """

    def __init__(
        self,
        reference: onnx.ModelProto,
        spec: Preprocessing,
        images: Sequence[ImageSource],
        labels: Mapping[str, int] | None = None,
        path: str = "model",
        threads: int | None = None,
    ) -> None:
        self.spec, self.threads = spec, threads
        session = ScoreSession(reference, path=path, threads=threads)
        self._size = session.fixed_batch or BATCH_SIZE
        # The same geometry without the normalisation.
        batches = ImageBatches(images, spec.with_uint8_input(), self._size)
        self._pixels: list[NDArray[np.uint8]] = []
        self._labels: list[int] | None = None if labels is None else []
        self._wanted: list[list[NDArray[np.float32]]] = []
        for batch in batches:
            self._pixels.append(np.asarray(batch.array, np.uint8))
            self._wanted.append(session.run(self._prepared(self._pixels[-1])))
            if self._labels is not None and labels is not None:
                self._labels += _checked([labels[name] for name in batch.names], self._wanted[-1][0].shape[1])
        self.skipped: Sequence[Skipped] = tuple(batches.skipped)
        self.scores = session.scores
        if not self._pixels:
            raise InputError("images", "none of the hold-out images can be used", "pass more images")

    def __len__(self) -> int:
        return sum(map(len, self._pixels))

    def batches(self, count: int | None = None) -> Iterator[tuple[NDArray[np.generic], NDArray[np.float32]]]:
        """Prepared images with the FP32 model's first scores, (N, ...) and (N, classes); about `count`, or all."""
        for images, wanted in self._batches(count):
            yield images, wanted[0]

    def measure(self, model: onnx.ModelProto) -> Measure:
        """Runs a model on all images.

        Raises:
            BadModelError: It cannot be run.
            VerificationError: It yields NaN or infinite values.
        """
        session = ScoreSession(model, self.scores, threads=self.threads)
        agreements = [Agreement() for _ in self.scores]
        right: tuple[list[bool], list[bool]] = ([], [])
        for images, wanted in self._batches():
            got = session.run(images)
            _add(agreements, wanted, got)
            if self._labels is not None:
                labels = self._labels[len(right[0]) : len(right[0]) + len(images)]
                for answers, scores in zip(right, (got[0], wanted[0]), strict=True):
                    answers.extend((scores.argmax(axis=1) == labels).tolist())
        others = {each.output: agreement for each, agreement in zip(self.scores[1:], agreements[1:], strict=True)}
        paired = None if self._labels is None else PairedDifference.of(*right)
        return Measure(agreements[0], paired, others, self.scores[0].describe(agreements[0].measured))

    def _batches(self, count: int | None = None) -> Iterator[tuple[NDArray[np.generic], list[NDArray[np.float32]]]]:
        seen = 0
        for pixels, wanted in zip(self._pixels, self._wanted, strict=True):
            if count is not None and seen >= count:
                return
            yield self._prepared(pixels), wanted
            seen += len(pixels)

    def _prepared(self, pixels: NDArray[np.uint8]) -> NDArray[np.generic]:
        return prepare(pixels, self.spec)


def _checked(labels: list[int], classes: int) -> list[int]:
    """Checks that all labels are among the model's classes, so that none counts as a mistake; returns them."""
    if max(labels) >= classes:
        raise InputError("labels", f"name the class {max(labels)}, the model has {classes}")
    return labels


def _add(
    agreements: Sequence[Agreement], wanted: Sequence[NDArray[np.float32]], got: Sequence[NDArray[np.float32]]
) -> None:
    for agreement, reference, scores in zip(agreements, wanted, got, strict=True):
        if not np.isfinite(scores).all():
            raise VerificationError("the quantised model yields NaN or infinite values")
        agreement.add(reference, scores)


def compare(reference: onnx.ModelProto, quantised: onnx.ModelProto, batches: Batches, path: str = "model") -> Measure:
    """Runs two models with the same output names and compares their scores, or any numbers that they return.

    Raises:
        BadModelError: One of them cannot be run, or has no class scores.
        InputError: There are no images.
        VerificationError: The quantised model yields NaN or infinite values.
    """
    first = ScoreSession(reference, path=path, strict=False)
    second: ScoreSession | None = None
    agreements: list[Agreement] = []
    for batch in batches:
        wanted = first.run(batch.array)
        if second is None:
            second, agreements = ScoreSession(quantised, first.scores, path), [Agreement() for _ in first.scores]
        _add(agreements, wanted, second.run(batch.array))
    if not agreements:
        raise InputError("images", "there are none to compare the models on, or no output is a batch of numbers")
    others = {each.output: agreement for each, agreement in zip(first.scores[1:], agreements[1:], strict=True)}
    return Measure(agreements[0], None, others, first.scores[0].describe(agreements[0].measured))
