"""Choose precision, batch, streams, threads, CUDA graph and power mode by measurement.

PLACE is a model, an engine, or a folder with such, as an unpacked bundle is after ./build.sh --candidates. tune finds
what keeps the limits and takes the least energy per image, or is the fastest or the smallest (--objective): short
rounds of everything first, then longer ones of the better third, at last the best in turn until they can be told apart.
INT8 is kept only where it is faster or cheaper than FP16. On a Jetson, sudo and --power-modes try the modes of
nvpmodel as well, and the present mode is put back at the end, whatever ends it. Exit status 3 where nothing keeps the
limits; the nearest is named.

Examples:
  googlenet-deploy tune model.onnx model.int8.onnx --images photos/ --min-agreement 98
  python3 googlenet-device.pyz tune . --max-latency 5 --min-agreement 98 --images photos/
  googlenet-deploy tune build/engines/ --objective rate --max-latency 20 --batch 1,4,8
  googlenet-infer model.int8.onnx photos/ --tuned tuned.json
"""

from __future__ import annotations

import argparse
import sys
import threading
from typing import TYPE_CHECKING, Callable

from googlenet_deploy.cli.arguments import (
    add_gpu_options,
    add_preprocessing_options,
    add_runner_options,
    engine_options,
    print_note,
)
from googlenet_deploy.device.benchmark.options import BenchmarkOptions
from googlenet_deploy.device.options import add_options, declared, given_options, read_options
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions
from googlenet_deploy.device.stream.options import FrameOptions
from googlenet_deploy.device.text import LONGEST_LINE, printable, printable_lines
from googlenet_deploy.device.tune.options import TuneOptions
from googlenet_deploy.errors import GateError

if TYPE_CHECKING:
    from googlenet_deploy.device.tune.runnable import TuneRequest

SIGNALLED = 128  # a shell's exit status of a program that a signal ended
# Of the benchmark's options, those that mean the same here.
_SHARED = ("seed", "power", "power_rails")
_OTHERS = tuple(item.name for item, _ in declared(BenchmarkOptions) if item.name not in _SHARED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("places", nargs="+", metavar="PLACE", help="models, engines, folders with models")
    parser.add_argument(
        "--images", nargs="+", metavar="PATH", help="photographs, for timing and agreement (default: a bundle's own)"
    )
    parser.add_argument(
        "--reference", metavar="MODEL", help="the model whose classes count as FP32's (default: the FP32 one of them)"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="what was measured and chosen (default tuned.json; of an unpacked bundle in its on-device/)",
    )
    add_options(parser, TuneOptions)
    add_options(parser, BenchmarkOptions, leave_out=_OTHERS)
    add_runner_options(parser, leave_out=("batch_size", "workers", "max_latency", "backend", "threads", "as_is"))
    add_gpu_options(parser, leave_out=("streams", "cuda_graph"))
    add_preprocessing_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Searches, prints, writes."""
    from googlenet_deploy.device.files import check_writable
    from googlenet_deploy.device.signals import SIGNALS, StopSignals
    from googlenet_deploy.device.tune.models import default_output
    from googlenet_deploy.device.tune.run import Tuner
    from googlenet_deploy.device.tune.table import nearest_text, tuned_lines
    from googlenet_deploy.device.tune.tuned_file import save_tuned

    request = _request(arguments)
    output = arguments.output or default_output(arguments.places)
    check_writable(output)
    stop = threading.Event()
    with StopSignals(stop, insistent=SIGNALS) as signals:
        tuner = Tuner(request, stop=stop, report=_report(quiet=arguments.quiet))
        try:
            tuned = tuner.run()
        except KeyboardInterrupt:
            what = "nothing was written" if tuner.tuned is None else "the result is complete"
            print(f"note: interrupted; {what}", file=sys.stderr)
            return SIGNALLED + (signals.received or SIGNALS[1])
        finally:
            if tuner.tuned is not None:  # also where the power mode could not be put back
                print(printable_lines(tuned_lines(tuner.tuned)), flush=True)
                save_tuned(output, tuner.tuned)
                print(f"written: {printable(str(output))}", file=sys.stderr)
    if tuned.choice is None:
        raise GateError(nearest_text(tuned), "relax a limit, or try more settings (--batch, --streams, --threads)")
    return 0


def _request(arguments: argparse.Namespace) -> TuneRequest:
    from googlenet_deploy.device.tune.tune import tune_request

    others = given_options(arguments, BenchmarkOptions)
    measuring = BenchmarkOptions(**{name: value for name, value in others.items() if name in _SHARED})
    return tune_request(
        arguments.places,
        images=arguments.images,
        reference=arguments.reference,
        options=read_options(arguments, TuneOptions),
        gpu=engine_options(arguments),
        preprocessing=read_options(arguments, PreprocessingOptions),
        image_backend=read_options(arguments, FrameOptions).image_backend,
        seed=measuring.seed,
        power=measuring.power,
        power_rails=measuring.power_rails,
        report=print_note,
    )


def _report(*, quiet: bool) -> Callable[[str], None]:
    def line(text: str) -> None:
        if not quiet:
            print(f"tune: {printable(text, LONGEST_LINE)}", file=sys.stderr, flush=True)

    return line
