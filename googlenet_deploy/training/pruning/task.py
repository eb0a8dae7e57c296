"""Pruning a trained network: from its checkpoint to that of a smaller one, trained to imitate it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.registry import load_member
from googlenet_deploy.device.targets.target import Target, load_target
from googlenet_deploy.errors import UsageError, requires
from googlenet_deploy.training.pruning.options import DEFAULT_ROUNDING, INT8_ROUNDING, MEASURES

with requires("train"):
    from googlenet_deploy.training.distillation import ImitationLoss, Teacher, load_teacher
    from googlenet_deploy.training.network import LEARNING_RATES, TrainedNetwork, build_network
    from googlenet_deploy.training.pruning.select import check_reachable, smallest_widths
    from googlenet_deploy.training.pruning.trainer import ChannelPruning, PruningTrainer, all_channels
    from googlenet_deploy.training.setup import Task, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.model.widths import Widths
    from googlenet_deploy.training.data.dataset import TrainingData
    from googlenet_deploy.training.options import TrainingOptions
    from googlenet_deploy.training.pruning.options import PruningOptions
    from googlenet_deploy.training.pruning.select import Measure


# Share of the rate from scratch: more than for fine-tuning, since the rest has to learn what was removed (Renda et al.
# 2020, "Comparing Rewinding and Fine-tuning in Neural Network Pruning").
LEARNING_RATE_SHARE = 0.4


def pruning_task(options: TrainingOptions, data: TrainingData) -> Task:
    """What `train --prune` trains and writes.

    Raises:
        UsageError: Options contradict pruning, or the requested share cannot be removed.
        BadWeightsError: The weights do not load.
    """
    assert options.pruning is not None
    _check_options(options)
    network = build_network(replace(options, sparsity="none"), data)
    if network.fresh_classifier:
        raise UsageError(
            f"--prune: {options.weights} was trained on other classes, so it is unknown which channels these need",
            "fine-tune it to them first (`train --weights`), then prune the result",
        )
    if options.learning_rate is None:
        rate = LEARNING_RATE_SHARE * LEARNING_RATES[options.optimizer][network.architecture.name]
        network = replace(network, options=replace(network.options, learning_rate=rate))
    pruning = open_pruning(options.pruning, network)
    teacher = _teacher(network, data, pruning)
    network = replace(
        network,
        teacher_sha256=teacher.sha256,
        notes=(*network.notes, *_notes(pruning, options)),
    )

    def write(path: Path, model: GoogLeNet, record: dict[str, Any]) -> None:
        write_checkpoint(path, model, {**record, "pruning": pruning.to_record(model.widths)}, network, data)

    criterion = ImitationLoss(
        network.model, teacher, options.distillation, options.label_smoothing, options.auxiliary_weight
    )
    return Task(
        network,
        data,
        write,
        criterion,
        trainer=partial(PruningTrainer, pruning=pruning),
        first_epoch=options.pruning.last_epoch,
    )


def open_pruning(options: PruningOptions, network: TrainedNetwork) -> ChannelPruning:
    """Opens the measure, and checks that the requested share can be removed.

    Raises:
        UsageError: It cannot be removed, or the target is unknown.
    """
    target = load_target(options.target) if options.target else None
    size = network.options.input_size
    assert size is not None
    rounding = options.rounding or _rounding(target)
    widths = network.model.widths
    measure = load_member(MEASURES[options.by])(network.model, size, target)
    check_reachable(widths, measure, options.share, options.by, rounding)
    least = _least(options, measure, widths, rounding)
    return ChannelPruning(options, rounding, measure, widths, least, all_channels(widths))


def _least(options: PruningOptions, measure: Measure, widths: Widths, rounding: int) -> Widths:
    """Keeps every layer above half of what an even cut would leave, if the share can be removed that way.

    Neither importance measure accounts for a layer of few channels becoming a bottleneck for all later layers.
    """
    least = smallest_widths(widths, rounding, 0.5 * math.sqrt(1.0 - options.share))
    reaches = measure(least) <= (1.0 - options.share) * measure(widths)
    return least if reaches else smallest_widths(widths, rounding)


def _rounding(target: Target | None) -> int:
    """INT8 kernels take channels in vectors of 32 (TensorRT's kCHW32), FP16 ones in 8 or 16."""
    return INT8_ROUNDING if target is not None and target.has_int8 else DEFAULT_ROUNDING


def _teacher(network: TrainedNetwork, data: TrainingData, pruning: ChannelPruning) -> Teacher:
    """The network of --distill-from, or the unpruned one, compared on the remaining channels."""
    if network.options.distill_from:
        return load_teacher(network.options.distill_from, network, data)
    unpruned = copy.deepcopy(network.model).without_auxiliary().requires_grad_(False).eval()
    return Teacher(unpruned, channels=pruning.module_channels)


def _check_options(options: TrainingOptions) -> None:
    if options.weights is None:
        raise UsageError("--prune prunes a trained network: pass its --weights")
    if options.freeze != "none":
        raise UsageError("--prune and --freeze exclude each other: every layer must adapt to what is left")
    if options.sparsity not in (None, "none"):
        raise UsageError(
            f"--prune and --sparsity {options.sparsity} exclude each other", "prune first, then train with --sparsity"
        )


def _notes(pruning: ChannelPruning, options: TrainingOptions) -> list[str]:
    chosen = pruning.options
    whom = options.distill_from or "the unpruned network"
    learns = "labels" if options.distillation == 0 else whom if options.distillation == 1 else f"labels and {whom}"
    what = f"pruning {chosen.share:.0%} of the {chosen.by} in {chosen.steps} steps by {chosen.importance}"
    return [f"{what}, channels in multiples of {pruning.rounding}; learns from {learns}"]
