"""A data set seen with the classes of a given model: its images may show some of them only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from googlenet_deploy.errors import InputError
from googlenet_deploy.evaluation.dataset import ClassIndex
from googlenet_deploy.training.data.dataset.dataset import listed

if TYPE_CHECKING:
    from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.training.data.dataset.dataset import Sample, TrainingData


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
