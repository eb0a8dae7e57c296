"""Metadata that options state about a model of another tool, stored in the model that is written."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from googlenet_deploy.cli.arguments import add_preprocessing_options, print_note
from googlenet_deploy.device.options import flag_of, given_options, read_options
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions

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
    from googlenet_deploy.graph import stated_metadata

    stated = read_options(arguments, PreprocessingOptions)
    return stated_metadata.state_metadata(path, model, stated, arguments.class_names, print_note)
