"""Stores metadata that a user states about a model of another tool in the model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from googlenet_deploy.device.class_files import StatedNames, choose_class_list
from googlenet_deploy.device.preprocessing_options import (
    PreprocessingOptions,
    StatedPreprocessing,
    choose_preprocessing,
)
from googlenet_deploy.device.text import Report, log_note
from googlenet_deploy.errors import UsageError, requires
from googlenet_deploy.graph.files import image_channels, read_metadata, store_metadata
from googlenet_deploy.graph.graph import runtime_inputs, shape_of

with requires("export"):
    from onnx import TensorProto

if TYPE_CHECKING:
    from onnx import ModelProto


def state_metadata(
    path: str,
    model: ModelProto,
    preprocessing: StatedPreprocessing,
    class_names: StatedNames,
    report: Report = log_note,
) -> bool:
    """Stores the stated metadata in `model`, the content of `path`; returns False if nothing is stated.

    Raises:
        UsageError: It makes no sense, or there is not exactly one name for each class.
    """
    if preprocessing in (None, PreprocessingOptions()) and class_names is None:
        return False
    metadata = read_metadata(path, model)
    value = runtime_inputs(model.graph)[0]
    image_channels(path, value)
    shape = tuple(size if isinstance(size, int) and size >= 1 else None for size in shape_of(value))
    kind = "uint8" if value.type.tensor_type.elem_type == TensorProto.UINT8 else "float32"
    spec = choose_preprocessing(preprocessing, path, metadata.preprocessing, shape, report, dtype=kind)
    names = choose_class_list(class_names, metadata.class_names, report=report).names
    scores = shape_of(model.graph.output[0])
    count = scores[-1] if len(scores) == 2 else None
    if names and isinstance(count, int) and len(names) != count:
        raise UsageError(f"{path} has {count} classes, {class_names} names {len(names)}")
    ids = metadata.class_ids if names == metadata.class_names else ()
    store_metadata(model, replace(metadata, preprocessing=spec, class_names=names, class_ids=ids))
    report(f"{path}: images are prepared as the options specify, which is stored in the model")
    return True
