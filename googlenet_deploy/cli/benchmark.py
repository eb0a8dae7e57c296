"""Measure latency, throughput, memory and energy of a model, or compare two measurements.

Measures latency in every scope that exists here (preprocess, copy in, network, copy out, end to end) after a warm-up
that lasts until it settles, in several rounds, so that every figure has an interval; and power from the board's or
GPU's own meter with its uncertainty, or the reason why there is none. Images are real (--images) or synthetic.

Examples:
  googlenet-deploy benchmark model.onnx
  googlenet-deploy benchmark model.int8.engine --batch 1,8,32 --streams 1,2,4 --json int8.json
  googlenet-deploy benchmark model.engine --images val/ --require p99=5ms,energy=20mJ
  googlenet-deploy benchmark --compare fp16.json int8.json
"""

from __future__ import annotations

import argparse

from googlenet_deploy.cli.arguments import (
    add_gpu_options,
    add_preprocessing_options,
    add_runner_options,
    gpu_options,
    print_note,
    use_tuned,
)
from googlenet_deploy.device.benchmark.options import BenchmarkOptions
from googlenet_deploy.device.options import add_options, read_options, refuse_given
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions
from googlenet_deploy.device.runner.select import RunnerOptions
from googlenet_deploy.device.stream.options import FrameOptions
from googlenet_deploy.device.text import printable_lines
from googlenet_deploy.device.tune.options import TunedOptions
from googlenet_deploy.errors import GateError, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="an ONNX model or a TensorRT engine")
    parser.add_argument("--images", nargs="+", metavar="PATH", help="real images: files, folders, patterns")
    parser.add_argument("--json", metavar="FILE", help="write everything; see docs/benchmark-schema.md")
    parser.add_argument(
        "--require",
        metavar="NAME=LIMIT,...",
        help="exit with status 3 if a limit is not met: p99=5ms, end_to_end.p50=8ms, throughput=200/s, "
        "energy=20mJ, memory=500MB, ... of the first batch and streams",
    )
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="compare two files of --json instead of measuring"
    )
    parser.add_argument("--across-machines", action="store_true", help="let --compare accept two different machines")
    add_options(parser, BenchmarkOptions)
    add_options(parser, TunedOptions)
    add_runner_options(parser, leave_out=("batch_size", "workers", "max_latency"))
    add_gpu_options(parser, leave_out=("streams",))
    add_preprocessing_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures or compares, prints, writes, and checks the gates."""
    if arguments.compare:
        return _compare(arguments)
    if arguments.model is None:
        raise UsageError("a MODEL is needed, or --compare A B")
    from googlenet_deploy.device.benchmark.benchmark import benchmark
    from googlenet_deploy.device.benchmark.gates import broken_gates, parse_gates
    from googlenet_deploy.device.benchmark.table import result_lines
    from googlenet_deploy.device.files import write_json

    gates = parse_gates(arguments.require) if arguments.require else []
    use_tuned(arguments, batch="batches")
    running, frames = read_options(arguments, RunnerOptions), read_options(arguments, FrameOptions)
    options, gpu = read_options(arguments, BenchmarkOptions), gpu_options(arguments)
    result = benchmark(
        arguments.model,
        images=arguments.images,
        options=options,
        running=running,
        gpu=gpu,
        preprocessing=read_options(arguments, PreprocessingOptions),
        image_backend=frames.image_backend,
        quiet=arguments.quiet,
        report=print_note,
    )
    try:
        if arguments.json:
            write_json(arguments.json, result)
    finally:  # a file that cannot be written does not take the figures with it
        print(printable_lines(result_lines(result)), flush=True)
    broken = broken_gates(gates, result)
    if broken:
        raise GateError("; ".join(broken))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from googlenet_deploy.device.benchmark.compare import compare, comparison_lines
    from googlenet_deploy.device.benchmark.result_file import read_result
    from googlenet_deploy.device.files import write_json

    if arguments.model is not None or arguments.require:
        raise UsageError("--compare accepts no MODEL and no --require")
    refuse_given(arguments, TunedOptions, "is for measuring, which --compare does not")
    first, second = arguments.compare
    comparison = compare(
        read_result(first), read_result(second), (first, second), across_machines=arguments.across_machines
    )
    print(printable_lines(comparison_lines(comparison, first, second)))
    if arguments.json:
        write_json(arguments.json, comparison.to_dict())
    return 0
