"""HoldOutImages models against the FP32 one on images that are read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.images.pipeline import ImageBatches
from googlenet_deploy.errors import InputError, VerificationError
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.evaluation.statistics import PairedDifference
from googlenet_deploy.export.samples import prepare
from googlenet_deploy.graph.session import TensorSession

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.images import Batches
    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.specification import Preprocessing


BATCH_SIZE = 4


@dataclass(frozen=True)
class Measure:
    """A model beside the FP32 one.

    Attributes:
        agreement: Of their scores.
        paired: Difference of their top-1 accuracies; None without labels.
    """

    agreement: Agreement
    paired: PairedDifference | None


class HoldOutEvaluation:
    """Images and what the FP32 model says of them, in memory: a byte per pixel and channel, and the scores.

    Args:
        reference: The FP32 model.
        spec: How its images are prepared.
        images: The images.
        labels: The true class by image name, of all images; None where there are no labels.

    Attributes:
        skipped: Images that could not be used.

    Raises:
        InputError: No image can be used.
        BadModelError: The model cannot be run.
    """

    def __init__(
        self,
        reference: onnx.ModelProto,
        spec: Preprocessing,
        images: Sequence[ImageSource],
        labels: Mapping[str, int] | None = None,
    ) -> None:
        self.spec = spec
        session = TensorSession(reference)
        self._size = session.fixed_batch or BATCH_SIZE
        # The same geometry without the normalisation.
        batches = ImageBatches(images, spec.with_uint8_input(), self._size)
        self._pixels: list[NDArray[np.uint8]] = []
        self._labels: list[int] | None = None if labels is None else []
        self._wanted: list[NDArray[np.float32]] = []
        for batch in batches:
            self._pixels.append(np.asarray(batch.array, np.uint8))
            self._wanted.append(_scores(session, self._prepared(self._pixels[-1])))
            if self._labels is not None and labels is not None:
                self._labels += _checked([labels[name] for name in batch.names], self._wanted[-1].shape[1])
        self.skipped: Sequence[Skipped] = tuple(batches.skipped)
        if not self._pixels:
            raise InputError("images", "none of those that judge the result can be used", "give more images")

    def __len__(self) -> int:
        return sum(map(len, self._pixels))

    def batches(self, count: int | None = None) -> Iterator[tuple[NDArray[np.generic], NDArray[np.float32]]]:
        """Prepared images with the FP32 model's scores, (N, ...) and (N, classes); some `count` of them, or all."""
        seen = 0
        for pixels, wanted in zip(self._pixels, self._wanted, strict=True):
            if count is not None and seen >= count:
                return
            yield self._prepared(pixels), wanted
            seen += len(pixels)

    def measure(self, model: onnx.ModelProto) -> Measure:
        """Runs a model on all images.

        Raises:
            BadModelError: It cannot be run.
            VerificationError: It yields NaN or infinite values.
        """
        session, agreement = TensorSession(model), Agreement()
        right: tuple[list[bool], list[bool]] = ([], [])
        for images, wanted in self.batches():
            got = _scores(session, images)
            if not np.isfinite(got).all():
                raise VerificationError("the quantised model yields NaN or infinite values")
            agreement.add(wanted, got)
            if self._labels is not None:
                labels = self._labels[len(right[0]) : len(right[0]) + len(got)]
                for answers, scores in zip(right, (got, wanted), strict=True):
                    answers.extend((scores.argmax(axis=1) == labels).tolist())
        return Measure(agreement, None if self._labels is None else PairedDifference.of(*right))

    def _prepared(self, pixels: NDArray[np.uint8]) -> NDArray[np.generic]:
        return prepare(pixels, self.spec)


def _checked(labels: list[int], classes: int) -> list[int]:
    """The labels, if they are all among the model's classes, so that none counts as a mistake."""
    if max(labels) >= classes:
        raise InputError("labels", f"name the class {max(labels)}, the model has {classes}")
    return labels


def _scores(session: TensorSession, images: NDArray[np.generic]) -> NDArray[np.float32]:
    values = session.run(images)[session.outputs[0]]
    return np.asarray(values, np.float32).reshape(len(values), -1)


def compare(reference: onnx.ModelProto, quantised: onnx.ModelProto, batches: Batches) -> Agreement | None:
    """Runs both models and compares their first outputs, (N, ...) of float; None where there are no images.

    Raises:
        BadModelError: One of them cannot be run.
        VerificationError: The quantised model yields NaN or infinite values.
    """
    first, second = TensorSession(reference), TensorSession(quantised)
    agreement = Agreement()
    for batch in batches:
        wanted, got = (session.run(batch.array)[session.outputs[0]] for session in (first, second))
        if not np.isfinite(got).all():
            raise VerificationError("the quantised model yields NaN or infinite values")
        agreement.add(wanted.reshape(len(wanted), -1), got.reshape(len(got), -1))
    return agreement if agreement.images else None
