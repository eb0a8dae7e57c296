"""Measure a model's accuracy on labelled images, and its agreement with a reference.

Labels come from a CSV file of filename,label (class index, class name or WordNet id), or from a folder per class.
Every figure has its 95 % interval. With a reference the two are compared image by image, and tensor by tensor where
both are ONNX models with the same names, and the likely cause of a large error is explained. Without labels only the
comparison is made. --preprocessing-of measures what the fixed preprocessing of a host costs.

Examples:
  googlenet-deploy evaluate model.onnx --images val/ --labels labels.csv
  googlenet-deploy evaluate model.onnx --images val/ --json figures.json
  googlenet-deploy evaluate model.int8.onnx --reference model.onnx --images val/ --labels labels.csv
  googlenet-deploy evaluate model.int8.onnx --reference model.onnx --images photos/
  googlenet-deploy evaluate model.onnx --images val/ --labels labels.csv --require top1=74
  googlenet-deploy evaluate model.onnx --images val/ --labels labels.csv --preprocessing-of deepstream
"""

from __future__ import annotations

import argparse

from googlenet_deploy.cli.arguments import (
    add_preprocessing_options,
    add_runner_options,
    positive,
    print_note,
    report_skipped,
)
from googlenet_deploy.device.hosts import host_names
from googlenet_deploy.device.options import named_number, read_options
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions
from googlenet_deploy.device.runner.select import RunnerOptions
from googlenet_deploy.device.stream.options import FrameOptions
from googlenet_deploy.errors import UsageError
from googlenet_deploy.evaluation.gates import FIGURES, OF_A_REFERENCE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX model")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of images")
    parser.add_argument("--labels", metavar="FILE", help="CSV of filename,label (default: a folder per class)")
    parser.add_argument("--reference", metavar="MODEL", help="a model to compare with, such as the FP32 one")
    parser.add_argument("--class-names", metavar="FILE", help="one per line, or imagenet (default: the model's own)")
    parser.add_argument(
        "--layers",
        type=int,
        default=32,
        metavar="N",
        help="compare inner tensors with the reference's on N images (default 32; 0: not)",
    )
    parser.add_argument(
        "--preprocessing-of",
        choices=host_names(),
        metavar="HOST",
        help=f"also evaluate with images resized as a host does it: {', '.join(host_names())}",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    parser.add_argument("--json", metavar="FILE", help="write the figures to a file")
    parser.add_argument(
        "--require",
        action="append",
        type=named_number,
        default=[],
        metavar="NAME=VALUE",
        help=f"exit with status 3 where a figure is below: {', '.join(FIGURES)} (percent, sqnr in dB); may be repeated",
    )
    add_runner_options(parser, leave_out=("max_latency", "as_is"))
    add_preprocessing_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluates, prints the figures, writes them, and checks the gates."""
    for name, _ in arguments.require:
        if name not in FIGURES:
            raise UsageError(f"--require {name}: choose one of {', '.join(FIGURES)}")
        if name in OF_A_REFERENCE and not arguments.reference:
            raise UsageError(f"--require {name} needs --reference")
    running, frames = read_options(arguments, RunnerOptions), read_options(arguments, FrameOptions)
    preprocessing = read_options(arguments, PreprocessingOptions)
    from googlenet_deploy.device.files import write_json
    from googlenet_deploy.quantization.evaluate_model import evaluate

    found = evaluate(
        arguments.model,
        arguments.images,
        labels=arguments.labels,
        reference=arguments.reference,
        class_names=arguments.class_names,
        layers=arguments.layers,
        host=arguments.preprocessing_of,
        limit=arguments.limit,
        running=running,
        frames=frames,
        preprocessing=preprocessing,
        quiet=arguments.quiet,
        report=print_note,
    )
    report_skipped(found.result.skipped, [])
    for line in found.lines():
        print(line)
    if arguments.json:
        write_json(arguments.json, found.to_dict())
    for name, least in arguments.require:
        found.check({name: least})
    return 0
