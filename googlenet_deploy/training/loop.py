"""The training loop: steps, the average of the weights, validation after each epoch, a stop where the loss diverges."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from googlenet_deploy.device.progress import progress
from googlenet_deploy.errors import GoogLeNetDeployError, requires
from googlenet_deploy.training.batches import Batch, step_seed, steps_per_epoch, training_batches
from googlenet_deploy.training.schedule import learning_rate

with requires("train"):
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    from googlenet_deploy.model.googlenet import GoogLeNet, TrainingOutputs
    from googlenet_deploy.training.augmentation import BatchTransform
    from googlenet_deploy.training.averaging import averaged
    from googlenet_deploy.training.network import freeze
    from googlenet_deploy.training.validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from googlenet_deploy.training.images import ImageStore
    from googlenet_deploy.training.network import Network
    from googlenet_deploy.training.validation import Validation


@dataclass(frozen=True)
class EpochResult:
    """One epoch.

    Attributes:
        epoch: Counted from 1.
        loss: Mean training loss, auxiliary losses included.
        accuracy: Share of right answers on the augmented training images, in percent.
        learning_rate: Of the last step.
        validation: Of the averaged weights.
        images_per_second: Of training alone.
        seconds: Training and validation.
    """

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    validation: Validation
    images_per_second: float
    seconds: float


class Trainer:
    """Trains one network.

    Args:
        network: What is trained; its options hold every choice already.
        train: The images to learn from.
        validation: The images to measure with.
        decay: Of the average of the weights; 0 takes the last weights.
        device: Where it runs.
        workers: Threads that prepare images.
        quiet: Show no progress within an epoch.
    """

    def __init__(
        self,
        network: Network,
        train: ImageStore,
        validation: ImageStore,
        *,
        decay: float,
        device: torch.device,
        workers: int,
        quiet: bool = False,
    ) -> None:
        self.options, self.train, self.validation = network.options, train, validation
        self.device, self.workers, self.quiet = device, workers, quiet
        self.num_classes = network.model.num_classes
        self.model = _channels_last(network.model.to(device))
        self.frozen = freeze(self.model, self.options.freeze)
        self.transform = BatchTransform(network.preprocessing, self.options.augmentation).to(device)
        self.optimizer = _optimizer(self.model, self.options.momentum, self.options.weight_decay)
        self.average = averaged(self.model, decay)
        self.steps = steps_per_epoch(len(train), self.options.batch_size)

    @property
    def averaged_model(self) -> GoogLeNet:
        """The network with averaged weights."""
        module = self.average.module
        assert isinstance(module, GoogLeNet)
        return module

    def epochs(self) -> Iterator[EpochResult]:
        """Trains, one epoch per item; stopping the iteration stops the training.

        Raises:
            GoogLeNetDeployError: The loss is not a finite number any more.
            BadImageError: An image can no longer be read.
        """
        with torch.random.fork_rng():
            for epoch in range(1, self.options.epochs + 1):
                yield self._epoch(epoch)

    def _epoch(self, epoch: int) -> EpochResult:
        start = time.perf_counter()
        self.model.train()
        for module in self.frozen:
            module.eval()
        loss_sum, correct, images = 0.0, 0, 0
        size = min(self.options.batch_size, len(self.train))
        with progress(f"epoch {epoch}", self.steps * size, quiet=self.quiet) as advance:
            for step, batch in enumerate(training_batches(self.train, self.options, epoch, self.workers)):
                loss, right = self._step(batch, epoch, step)
                loss_sum += loss * len(batch.labels)
                correct += right
                images += len(batch.labels)
                advance(len(batch.labels))
        seconds = time.perf_counter() - start
        validation = validate(
            self.averaged_model,
            self.validation,
            self.num_classes,
            batch_size=self.options.batch_size,
            workers=self.workers,
            device=self.device,
        )
        _require_finite(validation.loss, f"the validation loss after epoch {epoch}")
        return EpochResult(
            epoch=epoch,
            loss=loss_sum / images,
            accuracy=100.0 * correct / images,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            validation=validation,
            images_per_second=images / seconds,
            seconds=time.perf_counter() - start,
        )

    def _step(self, batch: Batch, epoch: int, step: int) -> tuple[float, int]:
        """One step; returns its loss and the number of right answers."""
        assert self.options.learning_rate is not None
        torch.manual_seed(step_seed(self.options.seed, epoch, step))
        passed = epoch - 1 + (step + 1) / self.steps
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.options, self.options.learning_rate, passed)
        labels = batch.labels.to(self.device, non_blocking=True)
        outputs = self.model(self.transform(batch.pixels.to(self.device, non_blocking=True)))
        loss = training_loss(outputs, labels, self.options.label_smoothing, self.options.auxiliary_weight)
        value = float(loss.detach())
        _require_finite(value, f"the loss in step {step + 1} of epoch {epoch}")
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.average.update_parameters(self.model)
        logits = outputs.logits if isinstance(outputs, TrainingOutputs) else outputs
        return value, int((logits.detach().argmax(dim=1) == labels).sum())


def training_loss(
    outputs: Tensor | TrainingOutputs, labels: Tensor, label_smoothing: float, auxiliary_weight: float
) -> Tensor:
    """Cross-entropy, plus the auxiliary classifiers' at `auxiliary_weight` (0.3 in section 5 of the paper).

    Args:
        outputs: Logits (N, classes), or three of them.
        labels: int64 (N,).
        label_smoothing: Share of the target that is spread over all classes.
        auxiliary_weight: Of each auxiliary loss.
    """
    if not isinstance(outputs, TrainingOutputs):
        return functional.cross_entropy(outputs, labels, label_smoothing=label_smoothing)
    main, *auxiliary = (functional.cross_entropy(x, labels, label_smoothing=label_smoothing) for x in outputs)
    return main + auxiliary_weight * torch.stack(auxiliary).sum()


def _channels_last(model: GoogLeNet) -> GoogLeNet:
    """Kernels in the memory order that oneDNN and cuDNN are fastest with."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def _optimizer(model: nn.Module, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """SGD; kernels decay, biases and BatchNorm's factors do not."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD([group for group in groups if group["params"]], lr=0.0, momentum=momentum)


def _require_finite(value: float, what: str) -> None:
    if not abs(value) < float("inf"):
        raise GoogLeNetDeployError(f"training diverged: {what} is {value}", "try a lower --lr or a longer --warmup")
