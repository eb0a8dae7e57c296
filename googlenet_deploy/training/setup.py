"""Everything before the first step: finds the data set, builds the network and puts the trainer together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.class_files import read_class_names
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import GoogLeNetDeployError, InputError, UsageError, requires
from googlenet_deploy.evaluation.dataset import ClassIndex
from googlenet_deploy.training.data.batches import Feed, ImageFeed, validation_batches
from googlenet_deploy.training.data.cifar import is_cifar, read_cifar
from googlenet_deploy.training.data.csv_tables import is_table, read_table
from googlenet_deploy.training.data.dataset import TrainingData, data_hash, require_every_class
from googlenet_deploy.training.data.folders import read_folders
from googlenet_deploy.training.data.image_cache import ImageStore, centre
from googlenet_deploy.training.data.pools import Workers, choose_workers
from googlenet_deploy.training.distributed import Processes, check_division
from googlenet_deploy.training.resume_state import training_record

with requires("train"):
    import torch

    from googlenet_deploy.model.checkpoint import Checkpoint, save_checkpoint
    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.model.widths import scaled_widths
    from googlenet_deploy.training.data.augmentation import kept_form
    from googlenet_deploy.training.data.shards import (
        VALIDATION,
        ShardFeed,
        count_images,
        find_shards,
        is_shards,
        shards_hash,
        validation_stream,
    )
    from googlenet_deploy.training.distillation import ImitationLoss, load_teacher
    from googlenet_deploy.training.ema import default_decay
    from googlenet_deploy.training.features import (
        FeatureFeed,
        FeatureValidator,
        HeadTrainer,
        compute_features,
        features_suffice,
    )
    from googlenet_deploy.training.loop import Trainer
    from googlenet_deploy.training.network import TrainedNetwork, build_network
    from googlenet_deploy.training.validation import Validator

if TYPE_CHECKING:
    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.training.loop import Criterion, Evaluate
    from googlenet_deploy.training.options import TrainingOptions
    from googlenet_deploy.training.validation import Validation

    MakeTask = Callable[["TrainingOptions", "TrainingData"], "Task"]

SHOWN = 5
CLASSES = "classes.txt"


@dataclass(frozen=True)
class DataPlaces:
    """The location of a data set.

    Attributes:
        data: A folder of images per class, a table such as a CSV file, or WebDataset shards.
        validation: Validation images, of the same kind; None uses those that `data` contains, or holds out a share of
            it.
        images: The folder that a CSV's file names are relative to; None for the CSV file's own folder.
        class_names: A file with the names of the classes in the shards; None for the classes.txt next to them.
    """

    data: str
    validation: str | None = None
    images: str | None = None
    class_names: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start.

    Attributes:
        task: What is trained, and on which data.
        trainer: The trainer.
        record: The training record.
        skipped: Images that cannot be used.
        notes: Human-readable notes on the choices made.
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
    if is_cifar(places.data):
        if places.validation is not None:
            raise UsageError("--validation: CIFAR's archives contain their own test images")
        return read_cifar(places.data)
    if is_shards(places.data):
        return _shards(places)
    share, seed = options.validation_share, options.seed
    if is_table(places.data):
        # An existing model may have classes without any images.
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
        make_task: Builds the task.
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
    trainer = (task.trainer or (HeadTrainer if supply.are_features else Trainer))(
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
    """Lists which images cannot be used, and how many."""
    lines = [f"skipped: {item.name}: {item.reason}" for item in skipped[:SHOWN]]
    if len(skipped) > SHOWN:
        lines.append(f"skipped: ... and {len(skipped) - SHOWN} more")
    return [*lines, f"left out: {counted(len(skipped), 'image')} that could not be used"] if skipped else []


def _shards(places: DataPlaces) -> TrainingData:
    shards = find_shards(places.data)
    if places.validation is not None:
        validation = find_shards(places.validation, VALIDATION)
    elif Path(places.data).is_dir():
        validation = find_shards(places.data, VALIDATION)
    else:
        raise InputError(places.data, "names shards to learn from alone", "pass --validation with shards to measure")
    folder = Path(places.data) if Path(places.data).is_dir() else Path(places.data).parent
    names = Path(places.class_names) if places.class_names else folder / CLASSES
    if not names.is_file():
        raise InputError(names, "is missing, and shards do not state which classes there are", "pass --class-names")
    return TrainingData(
        root=Path(places.data), classes=read_class_names(names), shards=shards, validation_shards=validation
    )


def _with_averaging(network: TrainedNetwork, images: int) -> TrainedNetwork:
    options = network.options
    if options.averaging is not None:
        return network
    return replace(network, options=replace(options, averaging=round(default_decay(steps_of(options, images)), 6)))


def _summary(network: TrainedNetwork, supply: Supply, processes: Processes) -> list[str]:
    options, used = network.options, supply.used
    parameters = sum(p.numel() for name, p in network.model.named_parameters() if not name.startswith("aux"))
    size = options.input_size
    images = f"of short side {options.resize}" if options.resize_mode != "stretch" else "stretched"
    pruned = ", pruned" if network.model.widths != scaled_widths(network.model.width) else ""
    shape = f"width {options.width:g}{pruned}, {parameters:,} parameters, input {size}x{size} {images}"
    rate = f"{options.optimizer}, learning rate {options.learning_rate:g} ({options.schedule})"
    where = f"{processes.count} processes on {processes.device.type}" if processes.count > 1 else processes.device
    measured = f" and {used['validation_images']} validation" if "validation_images" in used else ""
    return [
        f"{used['classes']} classes, {used['train_images']} training{measured} images",
        f"{options.architecture} GoogLeNet, {shape}, {options.precision} on {where}",
        f"{counted(options.epochs, 'epoch')}, batches of {options.batch_size}, {rate}, averaging {options.averaging:g}",
        f"augmentation {options.augmentation}, seed {options.seed}",
    ]


@dataclass(frozen=True)
class Supply:
    """Training and validation images.

    Attributes:
        feed: Training batches.
        evaluate: Evaluates a network on the validation images.
        used: The training record's entry on the images.
        skipped: Images that cannot be used, as far as known in advance.
        notes: Human-readable notes on the choices made.
        are_features: Whether the feed returns features of a frozen trunk instead of images.
    """

    feed: Feed
    evaluate: Evaluate
    used: dict[str, Any]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    are_features: bool = False


def make_supply(task: Task, processes: Processes, quiet: bool) -> Supply:
    """Opens a task's data set.

    Raises:
        InputError: A class has no usable images, or a shard is damaged.
        UsageError: A step cannot be divided among the processes, or this system cannot fork.
    """
    options = task.network.options
    workers = choose_workers(options, processes)
    if task.data.shards:
        return _from_shards(task, workers, processes)
    train, validation = _read_images(task, workers, processes, quiet)
    size = check_division(options, len(train), processes.count)
    used = {
        "sha256": data_hash([*train.content(), *validation.content()]),
        "classes": len(task.data.classes),
        "train_images": len(train),
        "validation_images": len(validation),
        "skipped": sorted(item.name for item in (*train.skipped, *validation.skipped)),
    }
    skipped = (*train.skipped, *validation.skipped)
    network, rank, count = task.network, processes.rank, processes.count
    if task.criterion is None and features_suffice(options, len(train) + len(validation), network.model.fc.in_features):
        model = network.model.to(processes.device)
        features = [compute_features(model, part, options, workers, processes, quiet) for part in (train, validation)]
        labels = [torch.tensor(part.labels) for part in (train, validation)]
        learn = FeatureFeed(features[0], labels[0], options.seed, size, rank, count)
        alone = Processes(0, 1, processes.device)
        measure = FeatureValidator(features[1], labels[1], network.model.num_classes, alone)
        note = "the trunk is frozen and images are not varied, so features are computed once"
        return Supply(learn, measure, used, skipped, (note,), are_features=True)
    feed = ImageFeed(train, options, size, workers, rank, count)
    images = partial(validation_batches, validation, options.batch_size, workers, rank, count)
    return Supply(feed, _validator(task, images, processes), used, skipped)


def _validator(task: Task, images: Any, processes: Processes) -> Validator:  # noqa: ANN401 - a partial
    network = task.network
    classes = network.model.num_classes
    return Validator(images, network.preprocessing, classes, processes=processes, reference=task.reference)


def _from_shards(task: Task, workers: Workers, processes: Processes) -> Supply:
    data, options, spec = task.data, task.network.options, task.network.preprocessing
    for shards in (data.shards, data.validation_shards):
        if len(shards) < processes.count:
            raise UsageError(f"{processes.count} processes need as many shards, there are {len(shards)}: {shards[0]}")
    images = options.epoch_images or count_images(data.shards, processes)
    size = check_division(options, images, processes.count)
    classes = ClassIndex(data.class_names, data.class_ids)
    rank, count = processes.rank, processes.count
    feed = ShardFeed(data.shards, classes, spec, options, images, size, workers, rank, count)
    measured = partial(
        validation_stream,
        data.validation_shards[rank::count],
        classes,
        spec,
        batch_size=options.batch_size,
        workers=workers,
        skipped=feed.skipped,
    )
    used = {
        "sha256": shards_hash([*data.shards, *data.validation_shards]),
        "classes": len(data.classes),
        "train_images": images,
        "shards": len(data.shards),
        "validation_shards": len(data.validation_shards),
    }
    notes = [f"{counted(len(data.shards), 'shard')} to learn from, {len(data.validation_shards)} to measure with"]
    if processes.count > 1:
        notes.append("each process reads shards of its own; one whose shards contain fewer images sees some twice")
    return Supply(feed, _validator(task, measured, processes), used, notes=tuple(notes))


def _read_images(task: Task, workers: Workers, processes: Processes, quiet: bool) -> tuple[ImageStore, ImageStore]:
    data, options = task.data, task.network.options
    budget = options.cache_megabytes * 1_000_000
    spec = task.network.preprocessing
    store_of = partial(ImageStore, spec=spec, workers=workers, processes=processes, quiet=quiet)
    # The smaller part first, so that all of it is in memory.
    validation = store_of(data.validation, form=centre, budget=budget, label="read validation images")
    rest = budget - validation.memory
    train = store_of(data.train, form=kept_form(options), budget=rest, label="read training images")
    for store, part in ((train, "training"), (validation, "validation")):
        _require_images(task, store, part)
    return train, validation


def _require_images(task: Task, store: ImageStore, part: str) -> None:
    data = task.data
    try:
        if data.every_class:
            require_every_class(data.root, data.classes, store.samples, part)
        elif not store.samples:
            raise InputError(data.root, f"has no usable images in {part}")
    except GoogLeNetDeployError as error:
        if store.skipped:
            error.remedy = f"{counted(len(store.skipped), 'image')} could not be used, such as {store.skipped[0].name}"
        raise


def steps_of(options: TrainingOptions, images: int) -> int:
    """Number of steps of a whole run."""
    return options.epochs * max(1, images // options.batch_size)


# Writes a network with averaged weights, and its record, to a path.
Write = Callable[[Path, GoogLeNet, dict[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """A network, its loss and its output.

    Attributes:
        network: What is trained.
        data: The data set, with the network's classes.
        write: Writes the result.
        criterion: The loss; None for that of a classifier.
        optimizer: Makes the optimiser; None for that of a classifier.
        reference: The network that is imitated and that results are compared with; None without one.
        score: The criterion for the best epoch; None for the number of correct predictions.
        trainer: Makes the trainer, with the arguments of `Trainer`; None for that of a classifier.
        first_epoch: The first epoch that can be the best, its network being as requested.
    """

    network: TrainedNetwork
    data: TrainingData
    write: Write
    criterion: Criterion | None = None
    optimizer: Callable[[GoogLeNet], torch.optim.Optimizer] | None = None
    reference: GoogLeNet | None = None
    score: Callable[[Validation], float] | None = None
    trainer: Callable[..., Trainer] | None = None
    first_epoch: int = 1

    def score_of(self, validation: Validation) -> float:
        """The score of a validation; higher is better."""
        return self.score(validation) if self.score else float(validation.accuracy.successes)


def classifier_task(options: TrainingOptions, data: TrainingData) -> Task:
    """Training a classifier, from scratch or from weights, to a checkpoint.

    Raises:
        UsageError: Options contradict each other; see `build_network` and `load_teacher` for this and what else fails.
    """
    network, criterion = build_network(options, data), None
    if options.distill_from is not None:
        teacher = load_teacher(options.distill_from, network, data)
        network = replace(
            network,
            teacher_sha256=teacher.sha256,
            notes=(*network.notes, f"imitates {options.distill_from} with a share of {options.distillation:g}"),
        )
        criterion = ImitationLoss(
            network.model, teacher, options.distillation, options.label_smoothing, options.auxiliary_weight
        )

    def write(path: Path, model: GoogLeNet, record: dict[str, Any]) -> None:
        write_checkpoint(path, model, record, network, data)

    return Task(network, data, write, criterion)


def write_checkpoint(
    path: Path, model: GoogLeNet, record: dict[str, Any], network: TrainedNetwork, data: TrainingData
) -> None:
    """Writes a model's weights with the metadata of its network and classes, and its training record."""
    checkpoint = Checkpoint(
        model=model,
        architecture=network.architecture,
        preprocessing=network.preprocessing,
        class_names=data.class_names,
        class_ids=data.class_ids,
        training_record=record,
    )
    save_checkpoint(path, checkpoint)
