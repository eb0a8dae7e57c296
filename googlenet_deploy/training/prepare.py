"""Everything that stands before the first step: the data set is found, the network built, the trainer put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.labels import read_class_names
from googlenet_deploy.errors import InputError, requires
from googlenet_deploy.training.data import TrainingData
from googlenet_deploy.training.distributed import Processes
from googlenet_deploy.training.folders import read_folders
from googlenet_deploy.training.record import training_record
from googlenet_deploy.training.tables import read_table

with requires("train"):
    from googlenet_deploy.training.averaging import default_decay
    from googlenet_deploy.training.features import HeadTrainer
    from googlenet_deploy.training.loop import Trainer
    from googlenet_deploy.training.network import Network
    from googlenet_deploy.training.shards import VALIDATION, find_shards, is_shards
    from googlenet_deploy.training.supply import Supply, make_supply, steps_of
    from googlenet_deploy.training.task import Task

if TYPE_CHECKING:
    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.training.options import TrainingOptions

    MakeTask = Callable[[TrainingOptions, TrainingData], Task]

SHOWN = 5
CLASSES = "classes.txt"


@dataclass(frozen=True)
class DataPlaces:
    """Where a data set lies.

    Attributes:
        data: A folder of images per class, a CSV file, or WebDataset shards.
        validation: Images to measure with, of the same kind; None takes what `data` holds for that, or a share of it.
        images: The folder that a CSV's file names are relative to; None for the CSV's own.
        class_names: A file with the names of the classes in the shards; None for classes.txt beside them.
    """

    data: str
    validation: str | None = None
    images: str | None = None
    class_names: str | None = None


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
    if is_shards(places.data):
        return _shards(places)
    share, seed = options.validation_share, options.seed
    if places.data.lower().endswith(".csv"):
        # A model that is there already may know classes that no image shows.
        every_class = options.qat is None
        return read_table(
            places.data,
            places.validation,
            places.images,
            validation_share=share,
            seed=seed,
            every_class=every_class,
        )
    return read_folders(places.data, places.validation, validation_share=share, seed=seed)


def prepare(
    places: DataPlaces, options: TrainingOptions, make_task: MakeTask, *, processes: Processes, quiet: bool
) -> Prepared:
    """Prepares a run.

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
    supply = make_supply(task, processes, quiet)
    network = _with_averaging(task.network, supply.feed.images)
    record = training_record(network, supply.used, str(processes.device))
    trainer = (HeadTrainer if supply.are_features else Trainer)(
        network,
        supply.feed,
        supply.evaluate,
        decay=network.options.averaging or 0.0,
        processes=processes,
        criterion=task.criterion,
        optimizer=task.optimizer,
        quiet=quiet,
    )
    skipped = skipped_lines(supply.skipped)
    notes = (*task.data.notes, *skipped, *network.notes, *supply.notes, *_summary(network, supply, processes))
    return Prepared(replace(task, network=network), trainer, record, supply.skipped, notes)


def skipped_lines(skipped: tuple[Skipped, ...]) -> list[str]:
    """Which images cannot be used, and how many."""
    lines = [f"skipped: {item.name}: {item.reason}" for item in skipped[:SHOWN]]
    if len(skipped) > SHOWN:
        lines.append(f"skipped: ... and {len(skipped) - SHOWN} more")
    return [*lines, f"{len(skipped)} images cannot be used and were left out"] if skipped else []


def _shards(places: DataPlaces) -> TrainingData:
    shards = find_shards(places.data)
    if places.validation is not None:
        validation = find_shards(places.validation, VALIDATION)
    elif Path(places.data).is_dir():
        validation = find_shards(places.data, VALIDATION)
    else:
        raise InputError(places.data, "names shards to learn from alone", "give --validation with shards to measure")
    folder = Path(places.data) if Path(places.data).is_dir() else Path(places.data).parent
    names = Path(places.class_names) if places.class_names else folder / CLASSES
    if not names.is_file():
        raise InputError(names, "is missing, and shards do not say which classes there are", "give --class-names")
    return TrainingData(
        root=Path(places.data), classes=read_class_names(names), shards=shards, validation_shards=validation
    )


def _with_averaging(network: Network, images: int) -> Network:
    options = network.options
    if options.averaging is not None:
        return network
    return replace(network, options=replace(options, averaging=round(default_decay(steps_of(options, images)), 6)))


def _summary(network: Network, supply: Supply, processes: Processes) -> list[str]:
    options, used = network.options, supply.used
    parameters = sum(p.numel() for name, p in network.model.named_parameters() if not name.startswith("aux"))
    size = options.input_size
    shape = f"width {options.width:g}, {parameters:,} parameters, input {size}x{size} of short side {options.resize}"
    rate = f"learning rate {options.learning_rate:g} ({options.schedule}), averaging {options.averaging:g}"
    where = f"{processes.count} processes on {processes.device.type}" if processes.count > 1 else processes.device
    measured = f" and {used['validation_images']} validation" if "validation_images" in used else ""
    return [
        f"{used['classes']} classes, {used['train_images']} training{measured} images",
        f"{options.architecture} GoogLeNet, {shape}, {options.precision} on {where}",
        f"{options.epochs} epochs of batches of {options.batch_size}, {rate}",
        f"augmentation {options.augmentation}, seed {options.seed}",
    ]
