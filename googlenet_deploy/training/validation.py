"""How well the network does on images that it does not learn from, prepared exactly as on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.preprocess import normalize
from googlenet_deploy.errors import requires
from googlenet_deploy.evaluation.accuracy import Proportion
from googlenet_deploy.training.batches import validation_batches

with requires("train"):
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.training.images import ImageStore


@dataclass(frozen=True)
class Validation:
    """The outcome.

    Attributes:
        loss: Mean cross-entropy, in nats.
        confusion: int64 (classes, classes): images by true class (row) and predicted class (column).
    """

    loss: float
    confusion: NDArray[np.int64]

    @property
    def accuracy(self) -> Proportion:
        """Top-1 accuracy."""
        return Proportion(int(np.trace(self.confusion)), int(self.confusion.sum()))

    def class_accuracy(self) -> list[Proportion]:
        """Top-1 accuracy on the images of each class."""
        totals = self.confusion.sum(axis=1)
        return [Proportion(int(self.confusion[k, k]), int(total)) for k, total in enumerate(totals)]


@torch.no_grad()
def validate(
    model: nn.Module, store: ImageStore, num_classes: int, *, batch_size: int, workers: int, device: torch.device
) -> Validation:
    """Runs `model`, in eval mode, over all images of a store of centre crops."""
    model.eval()
    confusion = np.zeros((num_classes, num_classes), np.int64)
    loss, count = 0.0, 0
    for batch in validation_batches(store, batch_size, workers):
        inputs = network_input(batch.pixels, store.spec)
        logits = model(inputs.to(device, memory_format=torch.channels_last)).float().cpu()
        loss += float(functional.cross_entropy(logits, batch.labels, reduction="sum"))
        count += len(batch.labels)
        np.add.at(confusion, (batch.labels.numpy(), logits.argmax(dim=1).numpy()), 1)
    return Validation(loss / count, confusion)


def network_input(pixels: Tensor, spec: Preprocessing) -> Tensor:
    """uint8 (N, C, H, W) in RGB order to float32 (N, C, H, W), by the device's own arithmetic."""
    arrays = [normalize(image, spec) for image in pixels.permute(0, 2, 3, 1).numpy()]
    return torch.from_numpy(np.stack(arrays))
