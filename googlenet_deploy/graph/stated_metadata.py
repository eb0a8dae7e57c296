"""Stores metadata that a user states about a model of another tool in the model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from googlenet_deploy.device.class_files import StatedNames, choose_class_list
from googlenet_deploy.device.preprocessing_options import (
    PreprocessingOptions,
    StatedPreprocessing,
    runner_preprocessing,
)
from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.device.text import Report, log_note
from googlenet_deploy.errors import UsageError
from googlenet_deploy.graph.files import read_metadata, store_metadata

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
    with open_runner(path, "onnxruntime", as_is=True) as runner:
        spec = runner_preprocessing(preprocessing, runner, report)
        shape = runner.outputs[0].shape
    names = choose_class_list(class_names, metadata.class_names, report=report).names
    count = shape[-1] if len(shape) == 2 else None
    if names and count is not None and len(names) != count:
        raise UsageError(f"{path} has {count} classes, {class_names} names {len(names)}")
    ids = metadata.class_ids if names == metadata.class_names else ()
    store_metadata(model, replace(metadata, preprocessing=spec, class_names=names, class_ids=ids))
    report(f"{path}: images are prepared as the options specify, which is stored in the model")
    return True
