"""A whole run: data, network, loop, the best weights saved as they come, and what there is to say about it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.processor import available_cores
from googlenet_deploy.errors import DeviceError, GoogLeNetDeployError, requires
from googlenet_deploy.training.data import ImageFolder, read_image_folder, require_every_class
from googlenet_deploy.training.images import ImageStore, centre
from googlenet_deploy.training.record import EpochLog, epoch_record, training_record

with requires("train"):
    import torch

    from googlenet_deploy.model.checkpoint import Checkpoint, save_checkpoint
    from googlenet_deploy.training.augmentation import kept_form
    from googlenet_deploy.training.averaging import default_decay
    from googlenet_deploy.training.loop import EpochResult, Trainer
    from googlenet_deploy.training.network import Network, build_network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from googlenet_deploy.device.pipeline import Skipped
    from googlenet_deploy.training.options import TrainingOptions

MAX_WORKERS = 8


@dataclass(frozen=True)
class TrainingResult:
    """The outcome.

    Attributes:
        data: The data set.
        network: What was trained, with the options that were chosen.
        best: The epoch whose weights were saved.
        record: The training record in the checkpoint.
        skipped: Images that could not be used.
    """

    data: ImageFolder
    network: Network
    best: EpochResult
    record: dict[str, Any]
    skipped: tuple[Skipped, ...]


def train(
    folder: str | Path,
    output: str | Path,
    options: TrainingOptions,
    *,
    log: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    quiet: bool = False,
) -> TrainingResult:
    """Trains a classifier on a folder of images.

    After each epoch that is at least as accurate on the validation images as all before, `output` is replaced,
    atomically; an error or Ctrl-C leaves the best so far.

    Args:
        folder: The data set; see `data.py`.
        output: The checkpoint.
        options: Everything else.
        log: File of JSON lines, one per epoch; None writes none.
        say: Receives lines for people.
        quiet: Show no progress bars.

    Raises:
        InputError: The data set cannot be used.
        GoogLeNetDeployError: The loss is not a finite number any more, or options contradict each other.
        OutputError: The checkpoint or the log cannot be written.
    """
    device = choose_device(options.device)
    data = read_image_folder(folder, validation_share=options.validation_share, seed=options.seed)
    network = build_network(options, data)
    workers = options.workers or min(MAX_WORKERS, available_cores())
    parts = _read_images(data, network, workers, quiet)
    network = _with_averaging(network, len(parts[0]))
    skipped = (*parts[0].skipped, *parts[1].skipped)
    record = training_record(network, data, *parts, str(device))
    for line in (*data.notes, *_skipped_lines(skipped), *network.notes, *_summary(network, data, parts, device)):
        say(line)
    decay = network.options.averaging or 0.0
    trainer = Trainer(network, *parts, decay=decay, device=device, workers=workers, quiet=quiet)
    lines = EpochLog(log)
    lines.write("start", **record, skipped=[f"{item.name}: {item.reason}" for item in skipped])
    keeper = BestKeeper(output, network, data, record)
    best = _run_epochs(trainer, keeper, lines, say)
    lines.write("end", best_epoch=best.epoch, validation_accuracy_percent=best.validation.accuracy.percent)
    return TrainingResult(data, network, best, keeper.record, skipped)


class BestKeeper:
    """Saves the weights of the best epoch so far.

    Attributes:
        best: That epoch; None before the first.
        record: The record that was saved with it.
    """

    def __init__(self, output: str | Path, network: Network, data: ImageFolder, record: dict[str, Any]) -> None:
        self.output, self.network, self.data = output, network, data
        self.best: EpochResult | None = None
        self.record = record

    def offer(self, result: EpochResult, trainer: Trainer) -> bool:
        """Saves the averaged weights if no epoch before was more accurate; says whether it did."""
        correct = result.validation.accuracy.successes
        # Of equally accurate epochs the later one: its learning rate is lower and its average longer.
        if self.best is not None and correct < self.best.validation.accuracy.successes:
            return False
        record = {**self.record, **epoch_record(result)}
        checkpoint = Checkpoint(
            model=trainer.averaged_model,
            architecture=self.network.architecture,
            preprocessing=self.network.preprocessing,
            class_names=self.data.class_names,
            class_ids=self.data.class_ids,
            training_record=record,
        )
        save_checkpoint(self.output, checkpoint)
        self.best, self.record = result, record
        return True

    def state(self) -> str:
        """What an interrupted run leaves."""
        if self.best is None:
            return f"nothing was written to {self.output} yet"
        return f"{self.output} holds epoch {self.best.epoch}: {_percent(self.best)} on the validation images"


def choose_device(name: str) -> torch.device:
    """The device that `--device` names.

    Raises:
        DeviceError: "cuda" was asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("this PyTorch finds no CUDA GPU", "use --device cpu, or install a PyTorch with CUDA")
    return torch.device(name)


def _run_epochs(trainer: Trainer, keeper: BestKeeper, lines: EpochLog, say: Callable[[str], None]) -> EpochResult:
    start = time.perf_counter()
    try:
        for result in trainer.epochs():
            best = keeper.offer(result, trainer)
            lines.write_epoch(result, best)
            say(_epoch_line(result, trainer.options.epochs, time.perf_counter() - start, best))
    except KeyboardInterrupt:
        say(keeper.state())
        lines.write("interrupted")
        raise
    except GoogLeNetDeployError as error:
        say(keeper.state())
        lines.write("failed", message=error.message)
        raise
    assert keeper.best is not None
    return keeper.best


def _read_images(data: ImageFolder, network: Network, workers: int, quiet: bool) -> tuple[ImageStore, ImageStore]:
    budget = network.options.cache_megabytes * 1_000_000
    spec = network.preprocessing
    # The smaller part first, so that it is in memory as a whole.
    validation = ImageStore(
        data.validation, spec, centre, budget=budget, workers=workers, label="read validation images", quiet=quiet
    )
    train = ImageStore(
        data.train,
        spec,
        kept_form(network.options),
        budget=budget - validation.memory,
        workers=workers,
        label="read training images",
        quiet=quiet,
    )
    for store, part in ((train, "training"), (validation, "validation")):
        try:
            require_every_class(data.root, data.classes, store.samples, part)
        except GoogLeNetDeployError as error:
            if store.skipped:
                error.remedy = f"{len(store.skipped)} images cannot be used, such as {store.skipped[0].name}"
            raise
    return train, validation


def _with_averaging(network: Network, images: int) -> Network:
    options = network.options
    if options.averaging is not None:
        return network
    steps = options.epochs * max(1, images // options.batch_size)
    return replace(network, options=replace(options, averaging=round(default_decay(steps), 6)))


def _summary(
    network: Network, data: ImageFolder, parts: tuple[ImageStore, ImageStore], device: torch.device
) -> list[str]:
    options = network.options
    parameters = sum(p.numel() for name, p in network.model.named_parameters() if not name.startswith("aux"))
    size = options.input_size
    shape = f"width {options.width:g}, {parameters:,} parameters, input {size}x{size} of short side {options.resize}"
    rate = f"learning rate {options.learning_rate:g} ({options.schedule}), averaging {options.averaging:g}"
    return [
        f"{len(data.classes)} classes, {len(parts[0])} training and {len(parts[1])} validation images",
        f"{options.architecture} GoogLeNet, {shape}, on {device}",
        f"{options.epochs} epochs of batches of {options.batch_size}, {rate}",
        f"augmentation {options.augmentation}, seed {options.seed}",
    ]


def _skipped_lines(skipped: tuple[Skipped, ...], shown: int = 5) -> list[str]:
    lines = [f"skipped: {item.name}: {item.reason}" for item in skipped[:shown]]
    if len(skipped) > shown:
        lines.append(f"skipped: ... and {len(skipped) - shown} more")
    return [*lines, f"{len(skipped)} images cannot be used and were left out"] if skipped else []


def _epoch_line(result: EpochResult, epochs: int, elapsed: float, best: bool) -> str:
    left = elapsed / result.epoch * (epochs - result.epoch)
    return (
        f"epoch {result.epoch}/{epochs}  loss {result.loss:.4f}  training {result.accuracy:.1f} %"
        f"  validation {_percent(result)}{' (saved)' if best else ''}"
        f"  {result.images_per_second:,.0f} images/s  {int(left) // 60}:{int(left) % 60:02d} left"
    )


def _percent(result: EpochResult) -> str:
    return f"{result.validation.accuracy.percent:.2f} %"
