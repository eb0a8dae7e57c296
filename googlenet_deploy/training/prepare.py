"""Everything that stands before the first step: the data set is read, the network built, the trainer put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.processor import available_cores
from googlenet_deploy.errors import GoogLeNetDeployError, requires
from googlenet_deploy.training.batches import Feed, ImageFeed
from googlenet_deploy.training.data import TrainingData, data_hash, require_every_class
from googlenet_deploy.training.distributed import Processes, check_division
from googlenet_deploy.training.folders import read_folders
from googlenet_deploy.training.images import ImageStore, centre
from googlenet_deploy.training.record import training_record
from googlenet_deploy.training.tables import read_table

with requires("train"):
    import torch

    from googlenet_deploy.training.augmentation import kept_form
    from googlenet_deploy.training.averaging import default_decay
    from googlenet_deploy.training.features import (
        FeatureFeed,
        FeatureValidator,
        HeadTrainer,
        compute_features,
        features_suffice,
    )
    from googlenet_deploy.training.loop import Evaluate, Trainer
    from googlenet_deploy.training.network import Network
    from googlenet_deploy.training.task import Task
    from googlenet_deploy.training.validation import Validator

if TYPE_CHECKING:
    from googlenet_deploy.device.pipeline import Skipped
    from googlenet_deploy.training.options import TrainingOptions

    MakeTask = Callable[[TrainingOptions, TrainingData], Task]

MAX_WORKERS = 8
SHOWN = 5


@dataclass(frozen=True)
class DataPlaces:
    """Where a data set lies.

    Attributes:
        data: A folder of images per class, or a CSV file.
        validation: Images to measure with, of the same kind; None takes what `data` holds for that, or a share of it.
        images: The folder that a CSV's file names are relative to; None for the CSV's own.
    """

    data: Path
    validation: Path | None = None
    images: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """A run that can begin.

    Attributes:
        task: What is trained, and on what.
        trainer: The trainer.
        record: The training record.
        skipped: Images that cannot be used.
        notes: What was decided, for people.
    """

    task: Task
    trainer: Trainer
    record: dict[str, Any]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


def read_data(places: DataPlaces, options: TrainingOptions) -> TrainingData:
    """Finds the images of a data set.

    Raises:
        InputError: The data set cannot be used.
    """
    share, seed = options.validation_share, options.seed
    if places.data.suffix.lower() == ".csv":
        return read_table(places.data, places.validation, places.images, validation_share=share, seed=seed)
    return read_folders(places.data, places.validation, validation_share=share, seed=seed)


def prepare(
    places: DataPlaces,
    options: TrainingOptions,
    make_task: MakeTask,
    *,
    processes: Processes,
    quiet: bool,
) -> Prepared:
    """Prepares a run on images that lie on the disk.

    Args:
        places: The data set.
        options: The run's options.
        make_task: Builds what is trained.
        processes: The processes of the run.
        quiet: Show no progress.

    Raises:
        InputError: The data set cannot be used.
        UsageError: Options contradict each other, or a step cannot be divided among the processes.
    """
    task = make_task(options, read_data(places, options))
    data = task.data
    workers = options.workers or min(MAX_WORKERS, available_cores())
    parts = _read_images(data, task.network, workers, processes, quiet)
    network = _with_averaging(task.network, len(parts[0]))
    task = replace(task, network=network)
    skipped = (*parts[0].skipped, *parts[1].skipped)
    used = {
        "sha256": data_hash([*parts[0].content(), *parts[1].content()]),
        "classes": len(data.classes),
        "train_images": len(parts[0]),
        "validation_images": len(parts[1]),
        "skipped": sorted(item.name for item in skipped),
    }
    record = training_record(network, used, str(processes.device))
    trainer, more = _trainer(task, *parts, workers=workers, processes=processes, quiet=quiet)
    notes = (*data.notes, *_skipped_lines(skipped), *network.notes, *more, *_summary(network, data, parts, processes))
    return Prepared(task, trainer, record, skipped, notes)


def _trainer(
    task: Task,
    train: ImageStore,
    validation: ImageStore,
    *,
    workers: int,
    processes: Processes,
    quiet: bool,
) -> tuple[Trainer, list[str]]:
    network = task.network
    options, classes = network.options, network.model.num_classes
    size = check_division(options, len(train), processes.count)
    kind, notes = Trainer, list[str]()
    feed: Feed
    evaluate: Evaluate
    if features_suffice(options, len(train) + len(validation), network.model.fc.in_features):
        model = network.model.to(processes.device)
        features = [compute_features(model, part, options, workers, processes, quiet) for part in (train, validation)]
        labels = [torch.tensor(part.labels) for part in (train, validation)]
        feed = FeatureFeed(features[0], labels[0], options.seed, size, processes.rank, processes.count)
        evaluate = FeatureValidator(features[1], labels[1], classes, Processes(0, 1, processes.device))
        kind = HeadTrainer
        notes.append("the trunk is frozen and images are not varied, so features are computed once")
    else:
        feed = ImageFeed(train, options, size, workers, processes.rank, processes.count)
        evaluate = Validator(
            validation,
            classes,
            batch_size=options.batch_size,
            workers=workers,
            processes=processes,
            reference=task.reference,
        )
    trainer = kind(
        network,
        feed,
        evaluate,
        decay=options.averaging or 0.0,
        processes=processes,
        criterion=task.criterion,
        optimizer=task.optimizer,
        quiet=quiet,
    )
    return trainer, notes


def _read_images(
    data: TrainingData, network: Network, workers: int, processes: Processes, quiet: bool
) -> tuple[ImageStore, ImageStore]:
    budget = network.options.cache_megabytes * 1_000_000
    spec = network.preprocessing
    store_of = partial(ImageStore, spec=spec, workers=workers, processes=processes, quiet=quiet)
    # The smaller part first, so that it is in memory as a whole.
    validation = store_of(data.validation, form=centre, budget=budget, label="read validation images")
    rest = budget - validation.memory
    train = store_of(data.train, form=kept_form(network.options), budget=rest, label="read training images")
    for store, part in ((train, "training"), (validation, "validation")) if data.every_class else ():
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
    network: Network, data: TrainingData, parts: tuple[ImageStore, ImageStore], processes: Processes
) -> list[str]:
    options = network.options
    parameters = sum(p.numel() for name, p in network.model.named_parameters() if not name.startswith("aux"))
    size = options.input_size
    shape = f"width {options.width:g}, {parameters:,} parameters, input {size}x{size} of short side {options.resize}"
    rate = f"learning rate {options.learning_rate:g} ({options.schedule}), averaging {options.averaging:g}"
    where = f"{processes.count} processes on {processes.device.type}" if processes.count > 1 else processes.device
    return [
        f"{len(data.classes)} classes, {len(parts[0])} training and {len(parts[1])} validation images",
        f"{options.architecture} GoogLeNet, {shape}, {options.precision} on {where}",
        f"{options.epochs} epochs of batches of {options.batch_size}, {rate}",
        f"augmentation {options.augmentation}, seed {options.seed}",
    ]


def _skipped_lines(skipped: tuple[Skipped, ...]) -> list[str]:
    lines = [f"skipped: {item.name}: {item.reason}" for item in skipped[:SHOWN]]
    if len(skipped) > SHOWN:
        lines.append(f"skipped: ... and {len(skipped) - SHOWN} more")
    return [*lines, f"{len(skipped)} images cannot be used and were left out"] if skipped else []
