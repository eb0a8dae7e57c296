"""Training the classifier alone: a frozen trunk computes the same features from the same images every time.

Without augmentation the features are computed once, and the classifier learns from them. The result equals that of
recomputing them in every step.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.progress import progress
from googlenet_deploy.errors import requires
from googlenet_deploy.training.data.batches import ORDER, Rows, TrainingBatch, steps_per_epoch, validation_batches
from googlenet_deploy.training.loop import Trainer
from googlenet_deploy.training.validation import measure, network_input

with requires("train"):
    import torch
    from torch import Tensor, nn

    from googlenet_deploy.model.googlenet import GoogLeNet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.training.data.image_cache import ImageStore
    from googlenet_deploy.training.data.pools import Workers
    from googlenet_deploy.training.distributed import Processes
    from googlenet_deploy.training.options import TrainingOptions
    from googlenet_deploy.training.validation import Validation

BYTES_PER_FEATURE = 4


def features_suffice(options: TrainingOptions, images: int, channels: int) -> bool:
    """Whether every image has the same features in every epoch, and all of them fit in memory."""
    fixed = options.freeze == "trunk" and options.augmentation == "none" and not options.mixup
    return fixed and images * channels * BYTES_PER_FEATURE <= options.cache_megabytes * 1_000_000


class HeadTrainer(Trainer):
    """Trains the classifier on features of a frozen trunk."""

    @property
    def trained(self) -> nn.Module:
        """The classifier with its dropout."""
        return head(self.model)

    def prepare(self, batch: TrainingBatch) -> Tensor:
        """Features need no preparation."""
        return batch.pixels.to(self.device, non_blocking=True)


def head(model: GoogLeNet) -> nn.Sequential:
    """Dropout and classifier of a model: features (N, channels) to logits (N, classes)."""
    return nn.Sequential(model.dropout, model.fc)


@torch.no_grad()
def compute_features(
    model: GoogLeNet, store: ImageStore, options: TrainingOptions, workers: Workers, processes: Processes, quiet: bool
) -> Tensor:
    """The trunk's features of all images of a store of centre crops, float32 (N, channels) on the run's device."""
    trunk = copy.copy(model)  # the same parameters, followed by other modules
    trunk._modules = {**model._modules, "dropout": nn.Identity(), "fc": nn.Identity()}
    trunk.eval()
    features = torch.zeros(len(store), model.fc.in_features, device=processes.device)
    done = processes.rank
    with progress("compute features", len(store), quiet=quiet) as advance:
        for images, _ in validation_batches(store, options.batch_size, workers, processes.rank, processes.count):
            inputs = network_input(images, store.spec)
            rows = torch.arange(len(images)) * processes.count + done
            features[rows] = trunk(inputs.to(processes.device, memory_format=torch.channels_last))
            done += len(images) * processes.count
            advance(len(images) * processes.count)
    return processes.sum(features)  # each process has zeros where others have features


@dataclass(frozen=True)
class FeatureFeed:
    """Batches of features in random order, the counterpart of `ImageFeed` for images.

    Attributes:
        features: float32 (N, channels).
        labels: The class index of each.
        seed: Seed of the order.
        size: Images of a step, over all processes.
        rank: This process.
        processes: How many share each step.
        skipped: None: every image was decoded ahead.
    """

    features: Tensor
    labels: Tensor
    seed: int
    size: int
    rank: int = 0
    processes: int = 1
    skipped: tuple[Skipped, ...] = ()

    @property
    def images(self) -> int:
        """Images of an epoch."""
        return len(self.features)

    def batches(self, epoch: int, first: int = 0) -> Iterator[TrainingBatch]:
        """See `Feed`."""
        order = np.random.default_rng((self.seed, ORDER, epoch)).permutation(self.images)
        rows = Rows(0, self.size, self.size).part(self.rank, self.processes)
        unused = torch.empty(rows.stop - rows.start)
        for step in range(first, steps_per_epoch(self)):
            indices = torch.from_numpy(order[step * self.size + rows.start : step * self.size + rows.stop])
            yield TrainingBatch(self.features[indices], self.labels[indices], unused, unused, rows)

    def close(self) -> None:
        """Does nothing: no worker reads images."""


class FeatureValidator:
    """Measures the classifier on the features of validation images.

    Args:
        features: float32 (N, channels).
        labels: The class index of each.
        num_classes: How many classes there are.
        single: This process alone: each process evaluates all features, which takes negligible time.
    """

    def __init__(self, features: Tensor, labels: Tensor, num_classes: int, single: Processes) -> None:
        self.features, self.labels, self.num_classes, self.single = features, labels, num_classes, single

    def __call__(self, model: GoogLeNet, _between: Callable[[], None] | None = None) -> Validation:
        """Runs the classifier, in eval mode, over all features."""
        return measure(head(model), [(self.features, self.labels)], self.num_classes, self.single)
