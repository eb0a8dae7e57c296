"""Where a run's images come from: decoded images on the disk, features of a frozen trunk, or a stream of shards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from googlenet_deploy.errors import GoogLeNetDeployError, InputError, UsageError, requires
from googlenet_deploy.evaluation.dataset import ClassIndex
from googlenet_deploy.training.batches import Feed, ImageFeed, validation_batches
from googlenet_deploy.training.data import data_hash, require_every_class
from googlenet_deploy.training.distributed import Processes, check_division
from googlenet_deploy.training.images import ImageStore, centre
from googlenet_deploy.training.workers import Workers, choose_workers

with requires("train"):
    import torch

    from googlenet_deploy.training.augmentation import kept_form
    from googlenet_deploy.training.features import FeatureFeed, FeatureValidator, compute_features, features_suffice
    from googlenet_deploy.training.shards import ShardFeed, count_images, shards_hash, validation_stream
    from googlenet_deploy.training.validation import Validator

if TYPE_CHECKING:
    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.training.loop import Evaluate
    from googlenet_deploy.training.options import TrainingOptions
    from googlenet_deploy.training.task import Task


@dataclass(frozen=True)
class Supply:
    """Images to learn from and to measure with.

    Attributes:
        feed: Training batches.
        evaluate: Measures a network on the validation images.
        used: What the training record says of the images.
        skipped: Images that cannot be used, as far as that is known ahead.
        notes: What was decided, for people.
        are_features: The feed gives what a frozen trunk makes of images.
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
    if features_suffice(options, len(train) + len(validation), network.model.fc.in_features):
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
    notes = [f"{len(data.shards)} shards to learn from, {len(data.validation_shards)} to measure with"]
    if processes.count > 1:
        notes.append("each process reads shards of its own; one whose shards hold fewer images sees some twice")
    return Supply(feed, _validator(task, measured, processes), used, notes=tuple(notes))


def _read_images(task: Task, workers: Workers, processes: Processes, quiet: bool) -> tuple[ImageStore, ImageStore]:
    data, options = task.data, task.network.options
    budget = options.cache_megabytes * 1_000_000
    spec = task.network.preprocessing
    store_of = partial(ImageStore, spec=spec, workers=workers, processes=processes, quiet=quiet)
    # The smaller part first, so that it is in memory as a whole.
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
            error.remedy = f"{len(store.skipped)} images cannot be used, such as {store.skipped[0].name}"
        raise


def steps_of(options: TrainingOptions, images: int) -> int:
    """Steps of a whole run."""
    return options.epochs * max(1, images // options.batch_size)
