"""Training that prunes at the beginning of some epochs."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.registry import load_member
from googlenet_deploy.errors import requires
from googlenet_deploy.training.meter import require_finite
from googlenet_deploy.training.pruning.options import IMPORTANCES

with requires("train"):
    import torch
    from torch import Tensor

    from googlenet_deploy.training.data.mixup import Targets
    from googlenet_deploy.training.loop import ClassifierLoss, Trainer
    from googlenet_deploy.training.pruning.reconstruct import reconstruct
    from googlenet_deploy.training.pruning.remove import remove_channels
    from googlenet_deploy.training.pruning.select import kept_channels, select_widths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from googlenet_deploy.model.widths import Widths
    from googlenet_deploy.training.loop import RunControl
    from googlenet_deploy.training.pruning.options import PruningOptions
    from googlenet_deploy.training.pruning.select import Measure

SCORING_IMAGES, RECONSTRUCTION_IMAGES = 256, 128  # of all processes combined
KEPT = "kept."  # for the names of tensors in a training state


@dataclass
class ChannelPruning:
    """What is pruned, and the progress so far.

    Attributes:
        options: The pruning options.
        rounding: Channels that a layer keeps are a multiple of this.
        measure: The size of a network of some widths.
        unpruned: The widths at the start of the run.
        least: Minimum widths of every layer.
        kept: By layer, the remaining channels of the unpruned network, int64.
    """

    options: PruningOptions
    rounding: int
    measure: Measure
    unpruned: Widths
    least: Widths
    kept: dict[str, Tensor]

    def module_channels(self) -> dict[str, Tensor]:
        """The remaining output channels of conv3 and of the Inception modules, with branches concatenated."""
        found = {"conv3": self.kept["conv3"]}
        for name, widths in self.unpruned.modules.items():
            branches = ("conv1x1", "conv3x3", "conv5x5", "pool_proj")
            starts = itertools.accumulate((getattr(widths, branch) for branch in branches), initial=0)
            parts = [self.kept[f"{name}.{branch}"] + start for branch, start in zip(branches, starts, strict=False)]
            found[name] = torch.cat(parts)
        return found

    def describe(self, widths: Widths) -> str:
        """A description of how much of the unpruned network is left."""
        share = self.measure(widths) / self.measure(self.unpruned)
        left, channels = (sum(each.channels.values()) for each in (widths, self.unpruned))
        return f"{share:.1%} of the {self.options.by} left, {left:,} of {channels:,} channels"

    def to_record(self, widths: Widths) -> dict[str, Any]:
        """For the training record of a checkpoint."""
        before, after = self.measure(self.unpruned), self.measure(widths)
        return {"by": self.options.by, "before": before, "after": after, "removed": 1.0 - after / before}


def all_channels(widths: Widths) -> dict[str, Tensor]:
    """Every channel of every layer, int64."""
    return {name: torch.arange(count) for name, count in widths.channels.items()}


class PruningTrainer(Trainer):
    """A trainer whose network becomes smaller as it learns; see `Trainer` for the other arguments.

    Args:
        pruning: What is pruned and when; changed in place.
    """

    def __init__(self, *arguments: Any, pruning: ChannelPruning, **named: Any) -> None:  # noqa: ANN401 - Trainer's
        super().__init__(*arguments, **named)
        self.pruning = pruning

    def before_epoch(self, control: RunControl) -> None:
        """Prunes if a pruning step begins with this epoch."""
        pruning = self.pruning
        step = pruning.options.step_at(self.epoch)
        if not step:
            return
        if step == 1:
            accuracy = self.evaluate(self.model, control.while_measuring).accuracy
            control.note(f"unpruned: {accuracy.percent:.2f} % in validation")
        kept = self._selected(step)
        self._cut(kept)
        pruning.kept = {name: channels[kept[name]] for name, channels in pruning.kept.items()}
        accuracy = self.evaluate(self.model, control.while_measuring).accuracy
        left = f"{pruning.describe(self.model.widths)}, {accuracy.percent:.2f} % before training"
        control.note(f"pruning step {step} of {pruning.options.steps}: {left}")

    def _selected(self, step: int) -> dict[str, Tensor]:
        """By layer, the channels that a step leaves."""
        pruning, scores = self.pruning, self._scores()
        goal = pruning.options.remaining(step) * pruning.measure(pruning.unpruned)
        widths = select_widths(self.model.widths, scores, pruning.measure, goal, pruning.rounding, pruning.least)
        return {name: kept_channels(scores[name], count) for name, count in widths.channels.items()}

    def _cut(self, kept: Mapping[str, Tensor]) -> None:
        """Removes the other channels, and fits what is left to what the network computed with them."""
        whole = copy.deepcopy(self.model).without_auxiliary()
        self._remove(kept)
        inputs = [inputs for inputs, _ in self._batches(RECONSTRUCTION_IMAGES)]
        reconstruct(self.model, whole, kept, inputs, self.processes.sum)
        self.rebuild()

    def own_tensors(self) -> Mapping[str, Tensor]:
        """The remaining channels, so that a resumed run has the same network."""
        return {f"{KEPT}{name}": channels for name, channels in self.pruning.kept.items()}

    def adapt(self, stored: Mapping[str, Tensor]) -> None:
        """Removes the channels that had been removed when the state was saved.

        Raises:
            ValueError: The state lacks the remaining channels, or they are impossible.
            KeyError: It lacks those of a layer.
        """
        kept = {name: stored[f"{KEPT}{name}"] for name in self.pruning.kept}
        for name, channels in kept.items():
            _check_channels(name, channels, len(self.pruning.kept[name]))
        self._remove(kept)
        self.rebuild()
        self.pruning.kept = kept

    def _remove(self, kept: Mapping[str, Tensor]) -> None:
        assert self.options.input_size is not None
        remove_channels(self.model, kept, self.options.input_size)

    def _scores(self) -> dict[str, Tensor]:
        """The importance of every channel over the first batches of the epoch, the same in every process."""
        self.model.eval()
        scores: dict[str, Tensor] = load_member(IMPORTANCES[self.pruning.options.importance])(
            self.model, self._losses()
        )
        joined = self.processes.sum(torch.cat(list(scores.values())).to(self.device)).cpu()
        require_finite(float(joined.sum()), f"the importance of the channels before epoch {self.epoch}")
        parts = torch.split(joined, [len(part) for part in scores.values()])
        return dict(zip(scores, parts, strict=True))

    def _losses(self) -> Iterator[Tensor]:
        """The loss of the labels alone: at first the distance to an imitated network is only rounding error."""
        loss = ClassifierLoss(self.options.label_smoothing, 0.0)
        for inputs, labels in self._batches(SCORING_IMAGES):
            yield loss(self.model(inputs).float(), inputs, Targets(labels))

    def _batches(self, images: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels of the first images of the epoch; `images` counts those of all processes."""
        batches = max(1, min(self.steps, images // self.feed.size))
        for batch in itertools.islice(self.feed.batches(self.epoch), batches):
            for part in batch.parts(self.options.accumulate):
                yield self.prepare(part), part.labels.to(self.device)


def _check_channels(name: str, channels: Tensor, count: int) -> None:
    values = channels.tolist() if channels.dtype == torch.int64 and channels.dim() == 1 else []
    if not values or values != sorted(set(values)) or values[0] < 0 or values[-1] >= count:
        raise ValueError(f"the channels that are left of {name} are damaged")
