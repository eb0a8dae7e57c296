"""The accuracy lost to a host's preprocessing on the user's images, measured by emulating it with ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.hosts import Host, host_input
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.predictions import class_scores
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.device.runner.protocol import run_any_batch
from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.errors import BadImageError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.packaging.models import BundleModel

MOST_IMAGES = 200


@dataclass(frozen=True)
class HostAccuracy:
    """Predictions on images prepared by the host, compared with those on images prepared as the model expects.

    Attributes:
        title: The host's name, human-readable.
        count: Images compared.
        agreeing: Images with the same predicted class both ways.
        correct: Correctly classified images (prepared as the model expects, prepared by the host); None without labels.
    """

    title: str
    count: int
    agreeing: int
    correct: tuple[int, int] | None

    def lines(self) -> list[str]:
        """The results as human-readable lines."""
        same = f"{self.agreeing} of {self.count} images get the class of the model's own preprocessing"
        lines = [f"{self.title}: {same}"]
        if self.correct is not None:
            own, theirs = (f"{right} of {self.count} ({right / self.count:.1%})" for right in self.correct)
            lines.append(f"right are {theirs} instead of {own}")
        return lines


def host_accuracy(
    data: bytes, original: BundleModel, host: Host, images: Sequence[ImageSource], labels: Sequence[int]
) -> HostAccuracy | None:
    """Runs the host's model on emulated input, and the original on its own input, on up to 200 images.

    Args:
        data: The model made for the host.
        original: The model it was made from.
        host: The host.
        images: Candidates, sampled evenly.
        labels: Their classes, or none.

    Returns:
        None if there is no usable image.
    """
    spec = original.preprocessing
    chosen = sorted({number * len(images) // MOST_IMAGES for number in range(MOST_IMAGES)}) if images else []
    used, own, theirs = _prepared([images[index] for index in chosen], (spec, host_input(host, spec)))
    if not used:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        first, second = _classes(original.path, own), _classes(path, theirs)
    correct = None
    if labels:
        true = np.asarray([labels[chosen[index]] for index in used])
        correct = int((first == true).sum()), int((second == true).sum())
    return HostAccuracy(host.title, len(used), int((first == second).sum()), correct)


def _prepared(
    images: Sequence[ImageSource], specs: tuple[Preprocessing, Preprocessing]
) -> tuple[list[int], list[NDArray[np.generic]], list[NDArray[np.generic]]]:
    used, own, theirs = [], [], []
    for index, source in enumerate(images):
        try:
            image = load_image(source.data if source.data is not None else source.name, name=source.name, mode="RGB")
            pair = [preprocess(image, spec) for spec in specs]
        except (BadImageError, UsageError):
            continue
        used.append(index)
        own.append(pair[0])
        theirs.append(pair[1])
    return used, own, theirs


def _classes(path: Path, prepared: list[NDArray[np.generic]]) -> NDArray[np.int64]:
    with open_runner(path, "onnxruntime") as runner:
        found = [
            class_scores(run_any_batch(runner, np.stack(prepared[start : start + 8])), runner.path).argmax(axis=1)
            for start in range(0, len(prepared), 8)
        ]
    return np.concatenate(found).astype(np.int64)
