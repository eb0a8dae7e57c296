"""Accuracy on validation images, prepared exactly as on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.preprocess import normalize
from googlenet_deploy.errors import requires
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.evaluation.statistics import Proportion
from googlenet_deploy.training.data.pools import ahead

with requires("train"):
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.training.distributed import Processes


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Attributes:
        loss: Mean cross-entropy, in nats.
        confusion: int64 (classes, classes): images by true class (row) and predicted class (column).
        agreement: Agreement of the scores with those of the imitated network; None without one.
    """

    loss: float
    confusion: NDArray[np.int64]
    agreement: Agreement | None = None

    @property
    def accuracy(self) -> Proportion:
        """Top-1 accuracy."""
        return Proportion(int(np.trace(self.confusion)), int(self.confusion.sum()))

    def class_accuracy(self) -> list[Proportion]:
        """Top-1 accuracy on the images of each class."""
        totals = self.confusion.sum(axis=1)
        return [Proportion(int(self.confusion[k, k]), int(total)) for k, total in enumerate(totals)]


Batches = Iterable[tuple[Tensor, Tensor]]


class Validator:
    """Evaluates a network on centre crops.

    Args:
        images: Called to iterate over this process's share of the images from the beginning: uint8 (N, C, H, W) in RGB
            order, and labels (N,).
        spec: How images are prepared.
        num_classes: How many classes there are.
        processes: The processes of the run.
        reference: A network to compare with, or None.
    """

    def __init__(
        self,
        images: Callable[[], Batches],
        spec: Preprocessing,
        num_classes: int,
        *,
        processes: Processes,
        reference: nn.Module | None = None,
    ) -> None:
        self.images, self.spec, self.num_classes = images, spec, num_classes
        self.processes, self.reference = processes, reference

    def __call__(self, model: nn.Module, between: Callable[[], None] = lambda: None) -> Validation:
        """Runs `model`, in eval mode, over all images; `between` is called after each batch and may abort."""
        return measure(model, self._batches(between), self.num_classes, self.processes, self.reference)

    def _batches(self, between: Callable[[], None]) -> Iterator[tuple[Tensor, Tensor]]:
        prepared = ((network_input(images, self.spec), labels) for images, labels in self.images())
        for inputs, labels in ahead(prepared):
            yield inputs.to(self.processes.device, memory_format=torch.channels_last), labels
            between()


@torch.no_grad()
def measure(
    model: nn.Module, batches: Batches, num_classes: int, processes: Processes, reference: nn.Module | None = None
) -> Validation:
    """Loss and predictions of `model`, in eval mode, over the batches of inputs and labels of all processes."""
    model.eval()
    agreement = Agreement()
    if reference is not None:
        reference.eval().to(processes.device)
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    sums = torch.zeros(2, dtype=torch.float64)
    for inputs, labels in batches:
        logits = model(inputs).float().cpu()
        sums[0] += functional.cross_entropy(logits, labels, reduction="sum").double()
        sums[1] += len(labels)
        if reference is not None:
            agreement.add(reference(inputs).float().cpu().numpy(), logits.numpy())
        confusion.index_put_((labels, logits.argmax(dim=1)), torch.ones_like(labels), accumulate=True)
    loss, count = processes.sum(sums.to(processes.device)).tolist()
    total = processes.sum(confusion.to(processes.device)).cpu().numpy()
    return Validation(loss / count, total, _over_all(agreement, processes) if reference is not None else None)


def _over_all(agreement: Agreement, processes: Processes) -> Agreement:
    values = torch.tensor(agreement_numbers(agreement), dtype=torch.float64, device=processes.device)
    return agreement_of(processes.sum(values).tolist())


def agreement_numbers(agreement: Agreement) -> list[float]:
    """An agreement's sums as plain numbers, which add up over processes."""
    sums = (agreement.divergence, agreement.signal, agreement.noise)
    return [float(agreement.images), float(agreement.equal), *sums, *agreement.moments.tolist()]


def agreement_of(numbers: Sequence[float]) -> Agreement:
    """The agreement that `agreement_numbers` turned into numbers.

    Raises:
        ValueError: The number of values is wrong.
    """
    images, equal, divergence, signal, noise, *moments = numbers
    if len(moments) != len(Agreement().moments):
        raise ValueError("an agreement has other numbers")
    return Agreement(int(images), int(equal), divergence, signal, noise, np.array(moments))


def network_input(pixels: Tensor, spec: Preprocessing) -> Tensor:
    """uint8 (N, C, H, W) in RGB order to float32 (N, C, H, W), by the device's own arithmetic."""
    arrays = [normalize(image, spec) for image in pixels.permute(0, 2, 3, 1).numpy()]
    return torch.from_numpy(np.stack(arrays))
