"""The training loop: steps, weight averaging, validation after each epoch, and a stop if the loss diverges."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from googlenet_deploy.analysis.sparsity import PATTERN
from googlenet_deploy.device.progress import progress
from googlenet_deploy.errors import DeviceError, requires
from googlenet_deploy.training.data.batches import Feed, TrainingBatch, step_seed, steps_per_epoch
from googlenet_deploy.training.meter import EpochMeter, require_finite

with requires("train"):
    import torch
    from torch import Tensor, nn
    from torch.nn.parallel import DistributedDataParallel

    from googlenet_deploy.model.googlenet import GoogLeNet, TrainingOutputs
    from googlenet_deploy.training.data.augmentation import BatchTransform
    from googlenet_deploy.training.data.mixup import Targets, cross_entropy, mix
    from googlenet_deploy.training.distributed import share_batch_norm
    from googlenet_deploy.training.dropout import step_dropouts
    from googlenet_deploy.training.ema import Average
    from googlenet_deploy.training.network import freeze
    from googlenet_deploy.training.precision import TrainingPrecision
    from googlenet_deploy.training.sparsity import Masks
    from googlenet_deploy.training.validation import Validation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from googlenet_deploy.training.distributed import Processes
    from googlenet_deploy.training.network import TrainedNetwork
    from googlenet_deploy.training.options import TrainingOptions


STEP_EPOCHS, STEP_FACTOR = 8, 0.96  # section 6 of the GoogLeNet paper: "by 4% every 8 epochs"


def learning_rate(options: TrainingOptions, peak: float, epoch: float) -> float:
    """The learning rate of a step.

    Args:
        options: The run's options: schedule, epochs and warm-up.
        peak: The highest learning rate.
        epoch: Epochs completed at the end of the step, as a fraction: above 0 and at most `options.epochs`.
    """
    warmup = min(options.warmup_epochs, options.epochs / 2)
    if epoch < warmup:
        return peak * epoch / warmup
    if options.schedule == "constant":
        return peak
    if options.schedule == "step":
        return float(peak * STEP_FACTOR ** math.floor((epoch - warmup) / STEP_EPOCHS))
    remaining = (options.epochs - epoch) / (options.epochs - warmup)
    return peak * 0.5 * (1.0 - math.cos(math.pi * remaining))


# The loss, as a function of (the network's outputs, its inputs, the targets).
Criterion = Callable[[Any, Tensor, Targets], Tensor]
# Evaluates a network; the second argument is called between batches.
Evaluate = Callable[[GoogLeNet, Callable[[], None]], Validation]


@dataclass(frozen=True)
class EpochResult:
    """The result of one epoch.

    Attributes:
        epoch: Counted from 1.
        loss: Mean training loss, auxiliary losses included.
        accuracy: Share of correct predictions on the augmented training images, in percent.
        learning_rate: Learning rate of the last step.
        validation: Validation of the averaged weights.
        images_per_second: Training throughput, without validation, over all processes.
        seconds: Time of training and validation.
        left_out: Steps skipped because their gradients overflowed float16.
    """

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    validation: Validation
    images_per_second: float
    seconds: float
    left_out: int = 0


class RunControl:
    """Callbacks with which the owner of a run controls it; these defaults let the run finish."""

    def stop_requested(self) -> bool:
        """Whether this process was asked to stop."""
        return False

    def after_step(self, *, stop: bool) -> None:
        """Called after each step; if `stop`, one of the processes was asked to stop, so the run ends here."""

    def while_measuring(self) -> None:
        """Called between the batches of a validation."""

    def note(self, text: str) -> None:
        """Receives the trainer's messages, one line at a time."""


class Trainer:
    """Trains one network.

    Args:
        network: The network to train; its options are fully resolved.
        feed: The training batches.
        evaluate: Evaluates the averaged weights.
        decay: Decay of the weight average; 0 uses the last weights.
        processes: The processes of the run.
        criterion: The loss; None for that of a classifier.
        optimizer: Makes the optimiser of a network; None for `make_optimizer`.
        quiet: Show no progress within an epoch.

    Attributes:
        epoch: The current epoch, counted from 1.
        step: Number of its completed steps.
        rate: The learning rate of the last completed step.
    """

    def __init__(
        self,
        network: TrainedNetwork,
        feed: Feed,
        evaluate: Evaluate,
        *,
        decay: float,
        processes: Processes,
        criterion: Criterion | None = None,
        optimizer: Callable[[GoogLeNet], torch.optim.Optimizer] | None = None,
        quiet: bool = False,
    ) -> None:
        self.options, self.feed, self.evaluate, self.quiet = network.options, feed, evaluate, quiet
        self.processes, self.device = processes, processes.device
        self.model = network.model.to(self.device)
        self.frozen = freeze(self.model, self.options.freeze)
        share_batch_norm(self.model, processes)
        self.transform = BatchTransform(
            network.preprocessing, self.options.augmentation, channels_last=self.options.channels_last
        ).to(self.device)
        self.criterion = criterion or ClassifierLoss(self.options.label_smoothing, self.options.auxiliary_weight)
        self.dropouts = step_dropouts(self.model)
        self.precision = TrainingPrecision(self.options.precision, self.device)
        self._decay, self._optimizer = decay, optimizer or partial(make_optimizer, options=self.options)
        self.rebuild()
        self.steps = steps_per_epoch(feed)
        self.meter = EpochMeter(processes)
        self.epoch, self.step, self.rate = 1, 0, 0.0

    def rebuild(self) -> None:
        """Restarts from the network's current parameters: the optimiser and the average are created afresh."""
        if self.options.channels_last:
            channels_last(self.model)
        self.optimizer = self._optimizer(self.model)
        self.masks = Masks(self.model if self.options.sparsity == PATTERN else None)
        self.average = Average(self.model, self._decay)
        self.net = self._wrapped()

    def before_epoch(self, control: RunControl) -> None:
        """Called before the first step of each epoch."""

    def own_tensors(self) -> Mapping[str, Tensor]:
        """Tensors of a training state besides those of the network, its average and the optimiser."""
        return {}

    def adapt(self, stored: Mapping[str, Tensor]) -> None:
        """Gives the network the shape of a state's tensors, before their values are loaded.

        Raises:
            ValueError: They are damaged.
            KeyError: One is missing.
        """

    @property
    def averaged_model(self) -> GoogLeNet:
        """The network with the averaged weights."""
        return self.average.module

    @property
    def trained(self) -> nn.Module:
        """The module that a training step calls."""
        return self.model

    def prepare(self, batch: TrainingBatch) -> Tensor:
        """The network's input, on its device."""
        inputs: Tensor = self.transform(batch.pixels.to(self.device, non_blocking=True), batch.numbers)
        return inputs

    def epochs(self, control: RunControl | None = None) -> Iterator[EpochResult]:
        """Trains, one epoch per item; stopping the iteration stops the training.

        Args:
            control: Asked at each step whether to stop; None trains to the end.

        Raises:
            GoogLeNetDeployError: The loss is no longer a finite number, or another process has died.
            BadImageError: An image can no longer be read.
            DeviceError: The device's memory is too small, or torch.compile fails.
        """
        with torch.random.fork_rng(devices=[]), closing(self.feed):
            while self.epoch <= self.options.epochs:
                with failures_in_words():
                    result = self._epoch(control or RunControl())
                self.epoch, self.step = self.epoch + 1, 0
                self.meter.reset()
                yield result

    def _epoch(self, control: RunControl) -> EpochResult:
        start = time.perf_counter()
        if self.step == 0:
            self.before_epoch(control)
        self.model.train()
        for module in self.frozen:
            module.eval()
        before, self.precision.left_out = self.meter.images, 0
        self._train_steps(start, control)
        seconds = time.perf_counter() - start
        validation = self.evaluate(self.averaged_model, control.while_measuring)
        require_finite(validation.loss, f"the validation loss after epoch {self.epoch}")
        return EpochResult(
            epoch=self.epoch,
            loss=self.meter.mean_loss,
            accuracy=self.meter.percent_correct,
            learning_rate=self.rate,
            validation=validation,
            images_per_second=(self.meter.images - before) / seconds,
            seconds=time.perf_counter() - start,
            left_out=self.precision.left_out,
        )

    def _train_steps(self, start: float, control: RunControl) -> None:
        first, before = self.step, self.meter.images
        label = f"epoch {self.epoch}/{self.options.epochs}"
        with progress(label, (self.steps - first) * self.feed.size, quiet=self.quiet) as advance:
            for batch in self.feed.batches(self.epoch, first):
                self._step(batch, control.stop_requested())
                self.step += 1
                control.after_step(stop=self.meter.stop)
                rate = (self.meter.images - before) / (time.perf_counter() - start)
                sums = f"loss {self.meter.mean_loss:.4f}  training {self.meter.percent_correct:.1f} %"
                # The meter reads one step late, so there is nothing to show for the first step.
                advance(self.feed.size, f"{sums}  {rate:,.0f} images/s" if self.meter.images else "")
        self.meter.flush()
        if self.meter.stop:
            control.after_step(stop=True)

    def _step(self, batch: TrainingBatch, stop: bool) -> None:
        where = f"step {self.step + 1} of epoch {self.epoch}"
        self._set_learning_rate()
        parts = batch.parts(self.options.accumulate)
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        for number, part in enumerate(parts, 1):
            with self._gathering_gradients(number == len(parts)):
                totals += self._part(part, len(parts))
        self.masks.mask_gradients()
        self.precision.step(self.optimizer, self.model.parameters(), self.options.clip)
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
        self.meter.add(totals[0], totals[1], len(batch.labels), stop=stop, where=where)

    def _part(self, part: TrainingBatch, parts: int) -> Tensor:
        """Adds the gradients of a part of a step; returns its loss, summed over images, and correct predictions."""
        torch.manual_seed(step_seed(self.options.seed, self.epoch, self.step))
        for dropout in self.dropouts:
            dropout.rows = part.rows
        inputs, targets = self.prepare(part), Targets(part.labels.to(self.device, non_blocking=True))
        if self.options.mixup:
            inputs, targets = mix(inputs, targets.labels, part.shares.to(self.device, non_blocking=True))
        with self.precision.forward():
            outputs = self.net(inputs)
            loss = self.criterion(outputs, inputs, targets)
        self.precision.backward(loss / parts)
        logits = outputs.logits if isinstance(outputs, TrainingOutputs) else outputs
        correct = (logits.detach().argmax(dim=1) == targets.labels).sum()
        return torch.stack([loss.detach().double() * len(part.labels), correct.double()])

    def _set_learning_rate(self) -> None:
        assert self.options.learning_rate is not None
        passed = self.epoch - 1 + (self.step + 1) / self.steps
        self.rate = learning_rate(self.options, self.options.learning_rate, passed)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group.get("lr_factor", 1.0)

    def _gathering_gradients(self, last: bool) -> AbstractContextManager[Any]:
        """Processes exchange gradients once per step, with the last of its parts."""
        if isinstance(self.net, DistributedDataParallel) and not last:
            return self.net.no_sync()
        return nullcontext()

    def _wrapped(self) -> nn.Module:
        net: nn.Module = self.trained
        if self.processes.count > 1:
            ids = [self.device] if self.device.type == "cuda" else None
            net = DistributedDataParallel(net, device_ids=ids, broadcast_buffers=False)
        if self.options.compile:
            net = torch.compile(net)  # type: ignore[assignment] # a module again
        return net


class ClassifierLoss:
    """Cross-entropy, plus the auxiliary classifiers' at a weight of their own (0.3 in section 5 of the paper).

    Args:
        label_smoothing: Share of the target that is spread over all classes.
        auxiliary_weight: Weight of each auxiliary loss.
    """

    def __init__(self, label_smoothing: float, auxiliary_weight: float) -> None:
        self.label_smoothing, self.auxiliary_weight = label_smoothing, auxiliary_weight

    def __call__(self, outputs: Tensor | TrainingOutputs, _inputs: Tensor, targets: Targets) -> Tensor:
        """The mean loss over the images, from one or three tensors of logits (N, classes), in float32."""
        if not isinstance(outputs, TrainingOutputs):
            return cross_entropy(outputs.float(), targets, self.label_smoothing)
        main, *auxiliary = (cross_entropy(x.float(), targets, self.label_smoothing) for x in outputs)
        return main + self.auxiliary_weight * torch.stack(auxiliary).sum()


def channels_last(model: nn.Module) -> None:
    """Converts kernels, in place, to the memory format with which oneDNN and cuDNN are fastest."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def make_optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """SGD with momentum, or Adam; weight decay applies to kernels, not to biases and BatchNorm's factors."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # On a GPU: one fused kernel instead of several per group, which take longer to launch than to run.
    fused = all(parameter.is_cuda for parameter in parameters) or None
    if options.optimizer == "adam":
        return torch.optim.Adam(groups, lr=0.0, fused=fused)
    return torch.optim.SGD(groups, lr=0.0, momentum=options.momentum, fused=fused)


@contextmanager
def failures_in_words() -> Iterator[None]:
    """Turns PyTorch's own failures into clear errors.

    Raises:
        DeviceError: The device's memory is too small, or torch.compile fails.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError("the GPU's memory is too small for a step", "try --accumulate 2, or more") from error
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        # The first line names the stage, the second what happened in it.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise DeviceError(f"torch.compile fails: {' '.join(lines[:2])}", "leave --compile out") from error
