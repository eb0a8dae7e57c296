"""Metadata that options state about a model of another tool, stored in the model that is written."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from googlenet_deploy.cli.arguments import (
    add_preprocessing_options,
    class_names,
    resolve_preprocessing,
)
from googlenet_deploy.device.options import flag_of, given_options
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions
from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from onnx import ModelProto


def add_metadata_options(parser: argparse.ArgumentParser) -> None:
    """Preprocessing and class names, for models that do not say so themselves."""
    add_preprocessing_options(parser)
    parser.add_argument(
        "--class-names", metavar="FILE", help="one name per line in the order of the scores, or imagenet"
    )


def metadata_options(arguments: argparse.Namespace) -> list[str]:
    """Those of the options that were given, as they are typed."""
    given = [flag_of(PreprocessingOptions, name) for name in given_options(arguments, PreprocessingOptions)]
    return given if arguments.class_names is None else [*given, "--class-names"]


def state_metadata(arguments: argparse.Namespace, path: str, model: ModelProto) -> bool:
    """Stores in `model`, the content of `path`, what the options say; False where they say nothing.

    Raises:
        UsageError: The options make no sense, or the names are not one for each class.
    """
    if not metadata_options(arguments):
        return False
    from dataclasses import replace

    from googlenet_deploy.device.runner.select import open_runner
    from googlenet_deploy.graph.files import read_metadata, store_metadata

    metadata = read_metadata(path, model)
    with open_runner(path, "onnxruntime", as_is=True) as runner:
        spec = resolve_preprocessing(arguments, runner)
        shape = runner.outputs[0].shape
    names = class_names(arguments, metadata.class_names)
    count = shape[-1] if len(shape) == 2 else None
    if names and count is not None and len(names) != count:
        raise UsageError(f"{path} has {count} classes, {arguments.class_names} names {len(names)}")
    ids = metadata.class_ids if names == metadata.class_names else ()
    store_metadata(model, replace(metadata, preprocessing=spec, class_names=names, class_ids=ids))
    print(f"note: {path}: images are prepared as the options say, which is stored in the model", file=sys.stderr)
    return True
