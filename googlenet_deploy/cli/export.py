"""Export weights to a verified, simplified ONNX model.

The model has native LRN, folded BatchNorm and readable layer names, and carries its class names and preprocessing in
its metadata. Before it is written it is compared in ONNX Runtime with PyTorch and with the unsimplified graph. The same
inputs produce the same bytes.

Examples:
  googlenet-deploy export --weights bvlc --output bvlc.onnx
  googlenet-deploy export --weights run/best.safetensors --output model.onnx --target jetpack-4.6 --batch 1
  googlenet-deploy export --weights torchvision --output camera.onnx --uint8-input --top-k 5
  googlenet-deploy export --weights bvlc --output camera.onnx --frame-input 1080x1920
  googlenet-deploy export --weights bvlc --output bvlc.fp16.onnx --fp16 --images photos/
  googlenet-deploy export --onnx model.int8.onnx --output model.int8.fp16.onnx --fp16
  googlenet-deploy export --weights bvlc --output jetson-inference.onnx --input-of jetson-inference
  googlenet-deploy export --module net.py:make --module-args num_classes=10 --weights net.pth --output net.onnx
  googlenet-deploy export --module timm:create_model --module-args resnet18 --weights r18.safetensors --output r18.onnx
  googlenet-deploy export --onnx resnet.onnx --preprocessing imagenet --class-names imagenet --output known.onnx
  googlenet-deploy export --onnx somebodys.onnx --output simplified.onnx --images photos/
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Callable, Optional, Tuple

from googlenet_deploy.cli.arguments import (
    add_preprocessing_options,
    refuse_unused,
)
from googlenet_deploy.cli.stated_metadata import state_metadata
from googlenet_deploy.device.options import add_options, option_group, read_options, refuse_given
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions
from googlenet_deploy.device.text import printable_lines
from googlenet_deploy.errors import UsageError
from googlenet_deploy.export.options import FORMAT, GRAPH, ExportOptions, HalfOptions

if TYPE_CHECKING:
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.export.pipeline import ExportResult
    from googlenet_deploy.export.samples import Samples

DEFAULT_IMAGE_COUNT = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    source = parser.add_argument_group("source", "One of --weights, --module and --onnx; --module may have --weights.")
    source.add_argument(
        "--weights",
        metavar="W",
        help="a checkpoint (.safetensors, its index of shards, .pth, .caffemodel), or bvlc or torchvision for the "
        "published weights",
    )
    source.add_argument(
        "--weights-key",
        metavar="KEY",
        help="which weights of a checkpoint that holds several, such as model (default: the moving average, if any)",
    )
    source.add_argument(
        "--module",
        metavar="PLACE",
        help="any PyTorch classifier: FILE.py:CALLABLE or package.module:CALLABLE, which is imported and called",
    )
    source.add_argument("--module-args", metavar="A,NAME=B", help="what it is called with, such as num_classes=10")
    source.add_argument("--class-names", metavar="FILE", help="of --module or --onnx: a name per line, or imagenet")
    source.add_argument("--onnx", metavar="FILE", help="simplify and convert this ONNX image classifier instead")
    parser.add_argument("--output", required=True, metavar="FILE", help="where the ONNX model goes")
    parser.add_argument("--num-classes", type=int, metavar="N", help="number of classes that the weights must have")
    _add_format_arguments(option_group(parser, FORMAT))
    add_options(parser, ExportOptions)
    option_group(parser, GRAPH).add_argument(
        "--input-of",
        metavar="HOST",
        help="undo a host's fixed preprocessing in the graph, with the batch and output that it needs: "
        "jetson-inference (its imagenet program)",
    )
    add_preprocessing_options(parser)
    report = parser.add_argument_group("verification and report")
    report.add_argument("--images", metavar="DIR", help="verify on images of this folder (default: seeded pictures)")
    report.add_argument(
        "--image-count",
        type=int,
        default=DEFAULT_IMAGE_COUNT,
        metavar="N",
        help="how many of them, spread over the folder (default: %(default)s)",
    )
    report.add_argument("--json", metavar="FILE", help="write the summary as JSON too")
    report.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _add_format_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--target",
        metavar="T",
        help="choose opset and IR version for orin-nano (or another module), jetpack-X.Y, tensorrt-X.Y or tensorrt-rtx",
    )
    types = group.add_mutually_exclusive_group()
    types.add_argument(
        "--fp16",
        action="store_true",
        help="weights and types in FP16, for strongly typed builds; with a Q/DQ model as --onnx, INT8 over FP16",
    )
    types.add_argument("--bf16", action="store_true", help="in BF16, which needs opset 22: TensorRT 10.15 or later")
    group.add_argument(
        "--keep-fp32",
        action="append",
        default=[],
        metavar="LAYER",
        help="with --fp16 or --bf16: a layer or operator to keep in FP32; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    _check_source(arguments)
    if arguments.image_count < 1:
        raise UsageError("--image-count must be at least 1")
    if arguments.input_of:
        from googlenet_deploy.device.hosts import find_host

        find_host(arguments.input_of)
        if hasattr(arguments, "frame_input"):
            raise UsageError(f"--frame-input: {arguments.input_of} resizes the frame itself", "leave one of them out")
    note: Callable[[str], None] = _ignore if arguments.quiet else _note
    options = _options(arguments)
    from googlenet_deploy.device.files import check_writable, write_json

    check_writable(arguments.output, arguments.json)
    load = _from_onnx if arguments.onnx else _from_module if arguments.module else _from_weights
    source, result = load(arguments, options, note)
    if arguments.input_of:
        result = _for_host(arguments, result)
    from googlenet_deploy.export.summary import summary_json, summary_lines
    from googlenet_deploy.graph.files import write_model

    write_model(arguments.output, result.model)
    if arguments.json:
        write_json(arguments.json, summary_json(result, source, arguments.output))
    if not arguments.quiet:
        print(printable_lines(summary_lines(result, source, arguments.output)))
    return 0


def _check_source(arguments: argparse.Namespace) -> None:
    """Holds the options to the kind of source."""
    if bool(arguments.onnx) == bool(arguments.weights or arguments.module):
        raise UsageError("give one source: --weights, --module (with or without --weights), or --onnx")
    if arguments.onnx:
        refuse_unused(arguments, {"num_classes": None, "weights_key": None}, "belongs to --weights")
    if arguments.weights_key and not arguments.weights:
        raise UsageError("--weights-key belongs to --weights")
    if not arguments.module:
        refuse_unused(arguments, {"module_args": None}, "belongs to --module")
    if not arguments.module and not arguments.onnx:
        why = "belongs to --module or --onnx: checkpoints carry it"
        refuse_unused(arguments, {"class_names": None}, why)
        refuse_given(arguments, PreprocessingOptions, why)
    read_options(arguments, PreprocessingOptions)  # refuses what is out of range before a model is opened


def _options(arguments: argparse.Namespace) -> ExportOptions:
    from googlenet_deploy.device.targets.target import load_target

    target = load_target(arguments.target) if arguments.target else None
    return read_options(arguments, ExportOptions, target=target, half=_half(arguments))


def _half(arguments: argparse.Namespace) -> Optional[HalfOptions]:
    if not arguments.fp16 and not arguments.bf16:
        if arguments.keep_fp32:
            raise UsageError("--keep-fp32 belongs to --fp16 or --bf16")
        return None
    from googlenet_deploy.export.half_precision.types import BF16, FP16

    return HalfOptions(FP16 if arguments.fp16 else BF16, tuple(arguments.keep_fp32))


def _from_weights(
    arguments: argparse.Namespace, options: ExportOptions, note: Callable[[str], None]
) -> Tuple[str, ExportResult]:
    from googlenet_deploy.export.pipeline import export_checkpoint
    from googlenet_deploy.model.weights import load_weights

    note(f"reading {arguments.weights}")
    checkpoint = load_weights(arguments.weights, num_classes=arguments.num_classes, key=arguments.weights_key)
    samples = _samples(arguments, checkpoint.preprocessing)
    note("recording the graph and verifying it; this takes some seconds")
    frames = _frames(arguments, options, checkpoint.preprocessing)
    return str(arguments.weights), export_checkpoint(checkpoint, options, samples, frames)


def _from_module(
    arguments: argparse.Namespace, options: ExportOptions, note: Callable[[str], None]
) -> Tuple[str, ExportResult]:
    from googlenet_deploy.device.preprocessing_options import module_preprocessing
    from googlenet_deploy.export.pipeline import export_checkpoint
    from googlenet_deploy.model.module import ModuleRequest, load_module

    note(f"importing {arguments.module}, whose code runs as you named it")
    request = ModuleRequest(
        arguments.module, arguments.module_args or "", arguments.weights, arguments.weights_key, arguments.class_names
    )
    stated = read_options(arguments, PreprocessingOptions)
    classifier = load_module(request, lambda declared: module_preprocessing(stated, declared, arguments.module))
    if arguments.num_classes not in (None, classifier.num_classes):
        raise UsageError(f"{arguments.module} has {classifier.num_classes} classes, not {arguments.num_classes}")
    samples = _samples(arguments, classifier.preprocessing)
    note("recording the graph and verifying it; this takes some seconds")
    source = f"{arguments.module} with {arguments.weights}" if arguments.weights else str(arguments.module)
    frames = _frames(arguments, options, classifier.preprocessing)
    return source, export_checkpoint(classifier, options, samples, frames)


def _from_onnx(
    arguments: argparse.Namespace, options: ExportOptions, note: Callable[[str], None]
) -> Tuple[str, ExportResult]:
    from googlenet_deploy.export.pipeline import export_onnx
    from googlenet_deploy.graph.files import input_specification, load_classifier, load_model

    note(f"reading {arguments.onnx}")
    model = load_classifier(arguments.onnx)
    state_metadata(arguments, arguments.onnx, model)
    preprocessing = input_specification(arguments.onnx, model)
    samples, frames = _samples(arguments, preprocessing), _frames(arguments, options, preprocessing)
    stored = load_model(arguments.onnx)
    return str(arguments.onnx), export_onnx(arguments.onnx, model, options, samples, stored, frames)


def _for_host(arguments: argparse.Namespace, result: ExportResult) -> ExportResult:
    from dataclasses import replace

    from googlenet_deploy.device.hosts import find_host
    from googlenet_deploy.export.host import model_for_host
    from googlenet_deploy.graph.files import read_metadata

    model, comparison = model_for_host(arguments.output, result.model, find_host(arguments.input_of))
    metadata = read_metadata(arguments.output, model)
    return replace(result, model=model, metadata=metadata, comparisons=(*result.comparisons, comparison))


def _samples(arguments: argparse.Namespace, preprocessing: Preprocessing) -> Samples:
    """The images to verify with: the user's, else seeded pictures."""
    if arguments.images:
        from googlenet_deploy.export.samples import folder_samples

        return folder_samples(arguments.images, preprocessing, arguments.image_count)
    from googlenet_deploy.export.samples import seeded_samples

    return seeded_samples(preprocessing)


def _frames(arguments: argparse.Namespace, options: ExportOptions, preprocessing: Preprocessing) -> Optional[Samples]:
    """The user's images as frames, where the model is to take frames and there are images."""
    if options.frame_input is None or not arguments.images:
        return None
    from googlenet_deploy.export.frames import frame_count, frame_specification
    from googlenet_deploy.export.samples import folder_samples

    specification = frame_specification(preprocessing, options.frame_input, options.frame_format)
    return folder_samples(arguments.images, specification, min(arguments.image_count, frame_count(specification)))


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _ignore(text: str) -> None:
    del text
