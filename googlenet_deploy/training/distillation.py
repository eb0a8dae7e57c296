"""Learning from another network: its scores and the outputs of its modules.

A distance is the squared error divided by the squared reference: the inverse of the signal-to-noise ratio used to
compare quantisers. The loss uses its logarithm, so that every module counts by its relative improvement, however close
it already is. Matching logits is distillation (Hinton et al. 2015, section 2.1) at a high temperature; matching
intermediate activations goes back to Romero et al. 2015, "FitNets". A pruned network is compared on the channels it
still has; networks with different channels are compared by their attention maps: the mean square over the channels at
each position, normalised to unit length per image (Zagoruyko and Komodakis 2017, "Paying More Attention to Attention").
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from googlenet_deploy.errors import InputError, UsageError, requires
from googlenet_deploy.evaluation.dataset import ClassIndex
from googlenet_deploy.model.architecture import INCEPTION_WIDTHS
from googlenet_deploy.training.data.dataset import listed

with requires("train"):
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    from googlenet_deploy.model.weights import load_weights
    from googlenet_deploy.training.data.mixup import Targets
    from googlenet_deploy.training.loop import ClassifierLoss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.model.checkpoint import Checkpoint
    from googlenet_deploy.model.googlenet import GoogLeNet, TrainingOutputs
    from googlenet_deploy.training.data.dataset import Sample, TrainingData
    from googlenet_deploy.training.network import TrainedNetwork


POINTS = ("conv3", *INCEPTION_WIDTHS)
SMALLEST = 1e-9  # a distance of 90 dB, where float32 ends
# Floor of a distance, for networks that stay further away than a quantised one: below 20 dB its gradient
# falls with the distance, so that SGD, which does not scale gradients as Adam does, stalls there.
NEAR = 1e-2


def _same(inputs: Tensor) -> Tensor:
    return inputs


def _no_channels() -> Mapping[str, Tensor]:
    return {}


@dataclass(frozen=True)
class Teacher:
    """The network that is imitated.

    Attributes:
        model: The network; it is not trained.
        prepare: Converts the student network's inputs to its own.
        columns: Index of its logit for each class, int64; None if the classes are the same.
        channels: By module, the channels that the student network still has, int64; a module that is not listed has all
            of them, or different ones.
        sha256: Hash of the file it was loaded from.
    """

    model: GoogLeNet
    prepare: Callable[[Tensor], Tensor] = _same
    columns: Tensor | None = None
    channels: Callable[[], Mapping[str, Tensor]] = field(default=_no_channels)
    sha256: str = ""

    def logits(self, inputs: Tensor) -> Tensor:
        """Its scores (N, classes) for the classes of the student network."""
        logits: Tensor = self.model.to(inputs.device)(self.prepare(inputs))
        return logits if self.columns is None else logits[:, self.columns.to(logits.device)]


class ImitationLoss:
    """Cross-entropy with the labels, plus the distance to another network.

    Args:
        model: The student network; the outputs of its modules are recorded during training.
        teacher: The network that is imitated.
        share: Weight of the distance, 0 to 1; the labels get the rest.
        label_smoothing: Share of the target that is spread over all classes.
        auxiliary_weight: Weight of each auxiliary loss, which uses only the labels.
        near: Added to every distance; see `NEAR`.
    """

    def __init__(
        self,
        model: GoogLeNet,
        teacher: Teacher,
        share: float,
        label_smoothing: float,
        auxiliary_weight: float = 0.0,
        *,
        near: float = NEAR,
    ) -> None:
        self.teacher, self.share, self.near = teacher, share, near
        self.labels = ClassifierLoss(label_smoothing, auxiliary_weight)
        self.given: dict[str, Tensor] = {}
        self.wanted: dict[str, Tensor] = {}
        if share > 0.0:
            for name in POINTS:
                _note_output(model, name, self.given, only_in_training=True)
                _note_output(teacher.model, name, self.wanted, only_in_training=False)

    def __call__(self, outputs: Tensor | TrainingOutputs, inputs: Tensor, targets: Targets) -> Tensor:
        """The loss of logits (N, classes), or of the logits of all classifiers."""
        logits = outputs if isinstance(outputs, Tensor) else outputs.logits
        loss = torch.zeros((), device=logits.device)
        if self.share < 1.0:
            loss = loss + (1.0 - self.share) * self.labels(outputs, inputs, targets)
        if self.share > 0.0:
            with torch.no_grad():
                wanted = self.teacher.logits(inputs)
            kept = self.teacher.channels()
            inside = torch.stack([_inside(self.given[name], self.wanted[name], kept.get(name)) for name in POINTS])
            scores = relative_error(logits.float(), wanted.float())
            loss = loss + self.share * ((scores + self.near).log() + (inside + self.near).log().mean())
            self.given.clear()
            self.wanted.clear()
        return loss


def relative_error(values: Tensor, wanted: Tensor) -> Tensor:
    """Squared error over squares: 10 ** (-SQNR / 10)."""
    return (values - wanted).square().sum() / wanted.square().sum().clamp_min(SMALLEST)


def attention(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean square over the channels (N, C, H, W), resized to (height, width), of unit length: (N, H * W)."""
    squares = functional.adaptive_avg_pool2d(x.float().square().mean(dim=1, keepdim=True), size)
    return functional.normalize(squares.flatten(1), dim=1)


def _inside(given: Tensor, wanted: Tensor, kept: Tensor | None) -> Tensor:
    if kept is not None:
        wanted = wanted[:, kept.to(wanted.device)]
    if given.shape == wanted.shape:
        return relative_error(given.float(), wanted.float())
    height, width = (min(sides) for sides in zip(given.shape[2:], wanted.shape[2:], strict=True))
    return relative_error(attention(given, (height, width)), attention(wanted, (height, width)))


def _note_output(model: GoogLeNet, name: str, noted: dict[str, Tensor], *, only_in_training: bool) -> None:
    def note(module: nn.Module, _inputs: Any, output: Tensor) -> None:  # noqa: ANN401 - torch's own
        if module.training or not only_in_training:
            noted[name] = output

    model.get_submodule(name).register_forward_hook(note)


def load_teacher(source: str, network: TrainedNetwork, data: TrainingData) -> Teacher:
    """The teacher network of `--distill-from`, for a student network.

    Args:
        source: A checkpoint of any kind that `load_weights` reads, or "bvlc" or "torchvision".
        network: The student network.
        data: The data set, for its classes.

    Raises:
        UsageError: The teacher does not know these classes.
        BadWeightsError: The weights do not load.
        DownloadError: Published weights could not be fetched.
    """
    checkpoint = load_weights(source)
    model = checkpoint.model.requires_grad_(False).eval()
    columns = _columns(checkpoint, data)
    return Teacher(
        model,
        _conversion(network.preprocessing, checkpoint.preprocessing),
        None if columns == list(range(model.num_classes)) else torch.tensor(columns),
        sha256=checkpoint.source_sha256,
    )


def _columns(checkpoint: Checkpoint, data: TrainingData) -> list[int]:
    """The index of the teacher's logit for each class of the data set."""
    if not checkpoint.class_names and checkpoint.num_classes != len(data.classes):
        raise UsageError(
            f"--distill-from {checkpoint.source}: it has {checkpoint.num_classes} classes without names, the data has "
            f"{len(data.classes)}",
            "fine-tune it to these classes first",
        )
    if not checkpoint.class_names:
        return list(range(len(data.classes)))
    index = ClassIndex(checkpoint.class_names, checkpoint.class_ids)
    found = {name: index.find(name) for name in data.classes}
    columns = list(found.values())
    unknown = [name for name, column in found.items() if column is None or columns.count(column) > 1]
    if unknown:
        raise UsageError(
            f"--distill-from {checkpoint.source}: it does not know these classes: {listed(unknown)}",
            "fine-tune it to these classes first",
        )
    return [column for column in columns if column is not None]


def _conversion(ours: Preprocessing, theirs: Preprocessing) -> Callable[[Tensor], Tensor]:
    """Converts inputs prepared by one specification to another's, as far as a batch still allows it."""
    if ours == theirs:
        return _same
    if {"L"} & {ours.channels, theirs.channels} and ours.channels != theirs.channels:
        raise UsageError("--distill-from: one network takes images in colour, the other in grey")
    flip = ours.channels != theirs.channels
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (ours.mean, ours.std))
    their_mean, their_std = (torch.tensor(values).view(1, -1, 1, 1) for values in (theirs.mean, theirs.std))

    def convert(inputs: Tensor) -> Tensor:
        move = inputs.device
        pixels = (inputs * std.to(move) + mean.to(move)) / ours.scale
        if tuple(inputs.shape[2:]) != theirs.crop:
            pixels = functional.interpolate(pixels, theirs.crop, mode="bilinear", antialias=True)
        pixels = pixels.flip(1) if flip else pixels
        return (pixels * theirs.scale - their_mean.to(move)) / their_std.to(move)

    return convert


def relabelled(data: TrainingData, metadata: ModelMetadata, model: GoogLeNet) -> TrainingData:
    """Finds a model's classes by the data set's names: class names, WordNet ids, or indices.

    Args:
        data: The data set.
        metadata: Names and ids of the model's classes, if it has any.
        model: The network.

    Raises:
        InputError: A class of the data set is not one of the model's.
    """
    names = metadata.class_names or tuple(str(index) for index in range(model.num_classes))
    index = ClassIndex(names, metadata.class_ids)
    found = [index.find(name) for name in data.classes]
    unknown = [name for name, label in zip(data.classes, found, strict=True) if label is None]
    if unknown:
        raise InputError(data.root, f"has classes that the model does not have: {listed(unknown)}")

    def moved(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        return tuple(sample._replace(label=label) for sample in samples if (label := found[sample.label]) is not None)

    absent = len(names) - len(set(found))
    notes = (*data.notes, f"{absent} of the model's {len(names)} classes have no images") if absent else data.notes
    return replace(
        data,
        classes=names,
        train=moved(data.train),
        validation=moved(data.validation),
        notes=notes,
        every_class=False,
    )
