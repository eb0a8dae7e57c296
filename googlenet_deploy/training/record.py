"""What is kept of a run: the training record in the checkpoint, and the log of its epochs."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from googlenet_deploy import __version__
from googlenet_deploy.device.files import reason, write_text
from googlenet_deploy.errors import OutputError
from googlenet_deploy.training.data import data_hash

if TYPE_CHECKING:
    from googlenet_deploy.training.data import ImageFolder
    from googlenet_deploy.training.images import ImageStore
    from googlenet_deploy.training.loop import EpochResult
    from googlenet_deploy.training.network import Network

PACKAGES = ("torch", "kornia", "numpy", "pillow")


def training_record(
    network: Network, data: ImageFolder, train: ImageStore, validation: ImageStore, device: str
) -> dict[str, Any]:
    """What does not change during the run: options, data, versions. No times, so that equal runs give equal files."""
    return {
        "options": network.options.to_record(),
        "weights_sha256": network.weights_sha256,
        "data": {
            "sha256": data_hash([*train.content(), *validation.content()]),
            "classes": len(data.classes),
            "train_images": len(train),
            "validation_images": len(validation),
            "skipped": sorted(skipped.name for skipped in (*train.skipped, *validation.skipped)),
        },
        "device": device,
        "versions": {
            "googlenet_deploy": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
    }


def epoch_record(result: EpochResult) -> dict[str, Any]:
    """What the checkpoint says about the epoch whose weights it holds."""
    accuracy = result.validation.accuracy
    return {
        "epoch": result.epoch,
        "validation": {
            "top1_percent": accuracy.percent,
            "correct": accuracy.successes,
            "images": accuracy.total,
            "loss": result.validation.loss,
        },
    }


class EpochLog:
    """A JSON object per line, written as things happen so that it can be followed; a new run begins a new file.

    Args:
        path: The file; None writes nothing.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path)
        if self.path is not None:
            write_text(self.path, "")

    def write(self, event: str, **values: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Adds a line.

        Raises:
            OutputError: The disk is full.
        """
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"event": event, **values}, ensure_ascii=False) + "\n")
        except OSError as error:
            raise OutputError(self.path, f"cannot be written: {reason(error)}") from error

    def write_epoch(self, result: EpochResult, best: bool) -> None:
        """Adds an epoch's line; `best` says whether its weights were saved."""
        self.write(
            "epoch",
            epoch=result.epoch,
            train_loss=result.loss,
            train_accuracy_percent=result.accuracy,
            learning_rate=result.learning_rate,
            validation_loss=result.validation.loss,
            validation_accuracy_percent=result.validation.accuracy.percent,
            images_per_second=round(result.images_per_second, 1),
            seconds=round(result.seconds, 3),
            best=best,
        )
