"""Learning from another network: its scores and what its modules give on the way to them.

A distance is the squared error over the squares of what is imitated, the inverse of the signal to noise ratio that
quantisers are compared by. The loss takes its logarithm, so that every module counts by how much nearer it comes,
however near it is. Matching logits is distillation (Hinton et al. 2015, section 2.1) at a high temperature; matching
what is inside goes back to Romero et al. 2015, "FitNets".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from googlenet_deploy.errors import InputError, requires
from googlenet_deploy.evaluation.dataset import ClassIndex
from googlenet_deploy.model.architecture import INCEPTION_WIDTHS
from googlenet_deploy.training.data.dataset import listed

with requires("train"):
    import torch
    from torch import Tensor, nn

    from googlenet_deploy.training.data.mixup import Targets, cross_entropy

if TYPE_CHECKING:
    from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.training.data.dataset import Sample, TrainingData


POINTS = ("conv3", *INCEPTION_WIDTHS)
SMALLEST = 1e-9  # a distance of 90 dB, where float32 ends


class ImitationLoss:
    """Cross-entropy with the labels, and the distance to another network.

    Args:
        model: The network that learns; what its modules give is noted while it trains.
        teacher: The network that is imitated.
        share: Weight of the distance, 0 to 1; the labels have the rest.
        label_smoothing: Share of the target that is spread over all classes.
    """

    def __init__(self, model: GoogLeNet, teacher: GoogLeNet, share: float, label_smoothing: float) -> None:
        self.teacher, self.share, self.label_smoothing = teacher, share, label_smoothing
        self.given: dict[str, Tensor] = {}
        self.wanted: dict[str, Tensor] = {}
        if share > 0.0:
            for name in POINTS:
                _note_output(model, name, self.given, only_in_training=True)
                _note_output(teacher, name, self.wanted, only_in_training=False)

    def __call__(self, outputs: Tensor, inputs: Tensor, targets: Targets) -> Tensor:
        """The loss of logits (N, classes)."""
        loss = torch.zeros((), device=outputs.device)
        if self.share < 1.0:
            loss = loss + (1.0 - self.share) * cross_entropy(outputs.float(), targets, self.label_smoothing)
        if self.share > 0.0:
            with torch.no_grad():
                wanted = self.teacher.to(inputs.device)(inputs)
            inside = torch.stack([_distance(self.given[name], self.wanted[name]) for name in POINTS])
            loss = loss + self.share * (_distance(outputs, wanted) + inside.mean())
            self.given.clear()
            self.wanted.clear()
        return loss


def relative_error(values: Tensor, wanted: Tensor) -> Tensor:
    """Squared error over squares: 10 ** (-SQNR / 10)."""
    return (values - wanted).square().sum() / wanted.square().sum().clamp_min(SMALLEST)


def _distance(values: Tensor, wanted: Tensor) -> Tensor:
    return relative_error(values.float(), wanted.float()).clamp_min(SMALLEST).log()


def _note_output(model: GoogLeNet, name: str, noted: dict[str, Tensor], *, only_in_training: bool) -> None:
    def note(module: nn.Module, _inputs: Any, output: Tensor) -> None:  # noqa: ANN401 - torch's own
        if module.training or not only_in_training:
            noted[name] = output

    model.get_submodule(name).register_forward_hook(note)


def relabelled(data: TrainingData, metadata: ModelMetadata, model: GoogLeNet) -> TrainingData:
    """Finds a model's classes by the data set's names: class names, WordNet ids, or indices.

    Args:
        data: The data set.
        metadata: Names and ids of the model's classes, where it has any.
        model: The network.

    Raises:
        InputError: A class of the data set is none of the model's.
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
