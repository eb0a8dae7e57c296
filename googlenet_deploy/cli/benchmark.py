"""Measure latency, throughput, memory and energy of a model, or compare two measurements.

Latency in every scope that exists here (preprocess, copy in, network, copy out, end to end), after a warm-up that lasts
until it settles, in several rounds that give every figure an interval; power from the board's or GPU's own meter, with
its uncertainty, or the reason why there is none. Images are real ones (--images) or synthetic.

Examples:
  googlenet-deploy benchmark model.onnx
  googlenet-deploy benchmark model.int8.engine --batch 1,8,32 --streams 1,2,4 --json int8.json
  googlenet-deploy benchmark model.engine --images val/ --require p99=5ms,energy=20mJ
  googlenet-deploy benchmark --compare fp16.json int8.json
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, List, Optional, Tuple

from googlenet_deploy.cli.arguments import (
    add_backend_options,
    add_gpu_options,
    add_preprocessing_options,
    gpu_options,
    positive,
    resolve_preprocessing,
)
from googlenet_deploy.errors import GateError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.benchmark.options import BenchmarkOptions
    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.runner.protocol import Runner

RUNNER_OPTIONS = ("backend", "as_is", "cuda_backend", "cuda_graph", "zero_copy")
METERS = ("auto", "ina", "tegrastats", "nvml", "rapl", "none")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="an ONNX model or a TensorRT engine")
    parser.add_argument("--images", nargs="+", metavar="PATH", help="real images: files, folders, patterns")
    parser.add_argument("--json", metavar="FILE", help="write everything; docs/benchmark-schema.md tells what")
    parser.add_argument(
        "--require",
        metavar="NAME=LIMIT,...",
        help="exit with status 3 where a limit does not hold: p99=5ms, end_to_end.p50=8ms, throughput=200/s, "
        "energy=20mJ, memory=500MB, ... of the first batch and streams",
    )
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="compare two files of --json instead of measuring"
    )
    parser.add_argument("--across-machines", action="store_true", help="let --compare take two different machines")
    _add_measuring(parser)
    _add_power(parser)
    running = parser.add_argument_group("running")
    running.add_argument(
        "--as-is", action="store_true", help="run an ONNX graph as it stands, not in the equal form for CPUs"
    )
    add_backend_options(running)
    add_gpu_options(parser)
    add_preprocessing_options(parser)


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("measuring")
    group.add_argument(
        "--batch", type=_sizes, default=(), metavar="N,N", help="batch sizes (default: the model's, or 1)"
    )
    group.add_argument("--streams", type=_sizes, default=(1,), metavar="N,N", help="concurrent streams (default 1)")
    group.add_argument("--rounds", type=positive, default=5, metavar="N", help="repetitions (default 5)")
    group.add_argument("--seconds", type=float, default=2.0, metavar="S", help="least length of a round (default 2)")
    group.add_argument("--min-runs", type=positive, default=10, metavar="N", help="least runs of a round (default 10)")
    group.add_argument("--warm-up", type=float, default=20.0, metavar="S", help="longest warm-up (default 20)")
    group.add_argument("--image-count", type=positive, default=32, metavar="N", help="most real images (default 32)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the synthetic images (default 0)")
    group.add_argument("--no-trtexec", action="store_true", help="do not run trtexec beside")


def _add_power(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("power")
    group.add_argument("--power", choices=METERS, default="auto", help="the meter (default: what this machine has)")
    group.add_argument("--power-rails", type=_names, default=(), metavar="NAME,NAME", help="rails that make the total")
    group.add_argument("--idle", type=float, default=3.0, metavar="S", help="least time for the idle power (default 3)")


def run(arguments: argparse.Namespace) -> int:
    """Measures or compares, prints, writes, and checks the gates."""
    if arguments.compare:
        return _compare(arguments)
    if arguments.model is None:
        raise UsageError("a MODEL is needed, or --compare A B")
    from googlenet_deploy.device.benchmark.gates import broken_gates, parse_gates
    from googlenet_deploy.device.benchmark.run import Benchmark
    from googlenet_deploy.device.benchmark.table import result_lines
    from googlenet_deploy.device.files import write_json
    from googlenet_deploy.device.runner.select import open_runner

    gates = parse_gates(arguments.require) if arguments.require else []
    options = _options(arguments)

    def open_model(slots: int, threads: Optional[int], batch: int) -> Runner:
        return open_runner(
            arguments.model,
            arguments.backend,
            threads=threads,
            batch=batch,
            as_is=arguments.as_is,
            gpu=gpu_options(arguments, slots),
        )

    result = Benchmark(
        open_model,
        lambda runner: resolve_preprocessing(arguments, runner),
        options,
        _sources(arguments),
        image_backend=arguments.image_backend,
        runner_options={name: getattr(arguments, name) for name in RUNNER_OPTIONS},
        quiet=arguments.quiet,
    ).run()
    try:
        if arguments.json:
            write_json(arguments.json, result)
    finally:  # a file that cannot be written does not take the figures with it
        print("\n".join(result_lines(result)), flush=True)
    broken = broken_gates(gates, result)
    if broken:
        raise GateError("; ".join(broken))
    return 0


def _options(arguments: argparse.Namespace) -> BenchmarkOptions:
    from googlenet_deploy.device.benchmark.options import BenchmarkOptions

    return BenchmarkOptions(
        batches=arguments.batch,
        streams=arguments.streams,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        min_runs=arguments.min_runs,
        warm_up_seconds=arguments.warm_up,
        idle_seconds=arguments.idle,
        image_count=arguments.image_count,
        seed=arguments.seed,
        threads=arguments.threads,
        power=arguments.power,
        power_rails=arguments.power_rails,
        trtexec=not arguments.no_trtexec,
    )


def _sources(arguments: argparse.Namespace) -> Optional[List[ImageSource]]:
    if arguments.images is None:
        return None
    from googlenet_deploy.device.images.sources import find_images

    return find_images(arguments.images).images


def _compare(arguments: argparse.Namespace) -> int:
    from googlenet_deploy.device.benchmark.compare import compare, comparison_lines
    from googlenet_deploy.device.benchmark.result_file import read_result
    from googlenet_deploy.device.files import write_json

    if arguments.model is not None or arguments.require:
        raise UsageError("--compare takes no MODEL and no --require")
    first, second = arguments.compare
    comparison = compare(
        read_result(first), read_result(second), (first, second), across_machines=arguments.across_machines
    )
    print("\n".join(comparison_lines(comparison, first, second)))
    if arguments.json:
        write_json(arguments.json, comparison.to_dict())
    return 0


def _sizes(text: str) -> Tuple[int, ...]:
    return tuple(positive(part) for part in text.split(","))


def _names(text: str) -> Tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name")
    return names
