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

from googlenet_deploy.cli.arguments import (
    add_preprocessing_options,
    print_note,
    refuse_unused,
)
from googlenet_deploy.device.options import add_options, option_group, read_options, refuse_given
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions
from googlenet_deploy.device.text import printable_lines
from googlenet_deploy.errors import UsageError
from googlenet_deploy.export.options import FORMAT, GRAPH, ExportOptions

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
        help="which weights of a checkpoint that contains several, such as model (default: the moving average, if any)",
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
    from googlenet_deploy.device.files import check_writable, write_json

    check_writable(arguments.output, arguments.json)
    from googlenet_deploy.export.export_model import export
    from googlenet_deploy.export.summary import summary_json, summary_lines

    result = export(
        arguments.weights,
        arguments.output,
        module=arguments.module,
        module_args=arguments.module_args or "",
        onnx=arguments.onnx,
        weights_key=arguments.weights_key,
        num_classes=arguments.num_classes,
        class_names=arguments.class_names,
        preprocessing=read_options(arguments, PreprocessingOptions),
        options=read_options(arguments, ExportOptions),
        target=arguments.target,
        half="fp16" if arguments.fp16 else "bf16" if arguments.bf16 else None,
        keep_fp32=arguments.keep_fp32,
        host=arguments.input_of,
        images=arguments.images,
        image_count=arguments.image_count,
        report=print_note,
        say=None if arguments.quiet else _say,
    )
    source = _source_text(arguments)
    if arguments.json:
        write_json(arguments.json, summary_json(result, source, arguments.output))
    if not arguments.quiet:
        print(printable_lines(summary_lines(result, source, arguments.output)))
    return 0


def _source_text(arguments: argparse.Namespace) -> str:
    if arguments.module and arguments.weights:
        return f"{arguments.module} with {arguments.weights}"
    return str(arguments.onnx or arguments.module or arguments.weights)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _check_source(arguments: argparse.Namespace) -> None:
    """Holds the options to the kind of source."""
    if bool(arguments.onnx) == bool(arguments.weights or arguments.module):
        raise UsageError("pass one source: --weights, --module (with or without --weights), or --onnx")
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
