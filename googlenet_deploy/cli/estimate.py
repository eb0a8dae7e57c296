"""Predict latency, energy and memory on a module that is not available, with intervals, and give bounds.

The prediction fits published measurements of TensorRT engines: per kernel the larger of arithmetic and memory at fitted
efficiencies, plus a launch; energy above the idle board's; memory of engine, context and libraries. Nine of ten
measurements that the fit had not seen lay in the range that is printed beside it (docs/prediction.md). The bounds
beneath come from the module's published peak rates alone (the roofline model): no engine in FP16 or INT8 is faster than
the floor. Measure with benchmark on the device.

Examples:
  googlenet-deploy estimate model.int8.onnx --target orin-nano
  googlenet-deploy estimate model.onnx --target nano --precision fp16 --layers
  googlenet-deploy estimate model.onnx --target agx-orin --batch 32 --json bounds.json
"""

from __future__ import annotations

import argparse

from googlenet_deploy.cli.arguments import positive
from googlenet_deploy.device.text import printable_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX model")
    parser.add_argument("--target", required=True, metavar="T", help="a module, such as orin-nano, xavier-nx, nano")
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="for a dynamic model (default: 1)")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        help="type of layers that are FP32 in the model; int8: as with a calibration cache (default: fp16 in a "
        "quantised model, else fp32)",
    )
    parser.add_argument("--layers", action="store_true", help="list every layer, in the last power mode")
    parser.add_argument("--json", metavar="FILE", help="write everything to a file")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    from googlenet_deploy.analysis.roofline import estimate, estimate_lines
    from googlenet_deploy.device.files import write_json

    result = estimate(arguments.model, arguments.target, arguments.batch, arguments.precision)
    print(printable_lines(estimate_lines(result, layers=arguments.layers)))
    if arguments.json:
        write_json(arguments.json, result.to_dict())
    return 0
