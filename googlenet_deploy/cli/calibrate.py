"""Measure the range of each activation of an FP32 model: images to a calibration table.

One pass over the images serves every threshold method (max, percentile, entropy, mse, and auto, which picks for each
tensor the method with the smallest error on hold-out images). Memory does not depend on the number of images.

Examples:
  googlenet-deploy calibrate model.onnx --images photos/ --output table.json
  googlenet-deploy calibrate model.onnx --images photos/ --count 1000 --seed 7 --output table.json
  googlenet-deploy calibrate model.onnx --images list.txt --output table.json --resume table.state
  googlenet-deploy calibrate model.onnx --images photos/ --output t.json --cache m.cache --tensorrt-version 8.5.2
"""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator, Optional

from googlenet_deploy.calibration.methods import ALGORITHMS, AUTO, DEFAULT_PERCENTILE, METHODS
from googlenet_deploy.cli.arguments import add_preprocessing_options, positive, refuse_unused, report_skipped
from googlenet_deploy.device.text import LONGEST_LINE, printable
from googlenet_deploy.errors import OutputError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.calibration.calibrate import CalibrationOptions, CalibrationSource
    from googlenet_deploy.calibration.images import ImageSelection
    from googlenet_deploy.calibration.table import CalibrationTable

DEFAULT_COUNT = 256
WORST_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("model", metavar="MODEL", help="an FP32 ONNX model")
    parser.add_argument("--output", required=True, metavar="FILE", help="where the table goes (.json)")
    add_image_options(parser.add_argument_group("images"), required=True)
    add_method_options(parser.add_argument_group("calibration"))
    add_cache_options(parser.add_argument_group("TensorRT's own cache"))
    add_preprocessing_options(parser)


def add_image_options(group: argparse._ArgumentGroup, *, required: bool) -> None:
    """Which images calibrate."""
    group.add_argument(
        "--images",
        required=required,
        metavar="PATH",
        help="a folder, a pattern, or a .txt file that lists one image per line, relative to itself",
    )
    group.add_argument(
        "--count",
        type=positive,
        metavar="N",
        help=f"draw N images at random (default: {DEFAULT_COUNT} of a folder, all of a list)",
    )
    group.add_argument("--seed", type=int, default=0, metavar="S", help="of the draw (default 0)")


def add_method_options(group: argparse._ArgumentGroup) -> None:
    """How thresholds are found, and how the pass over the images is made."""
    group.add_argument(
        "--method", choices=(AUTO, *METHODS), default="auto", help="whose thresholds are used (default auto)"
    )
    group.add_argument(
        "--percentile",
        type=float,
        default=DEFAULT_PERCENTILE,
        metavar="P",
        help="share of values that the percentile method keeps (default %(default)s)",
    )
    group.add_argument(
        "--tensors",
        choices=("all", "quantized"),
        default="all",
        help="observe all activations, as TensorRT's cache and DLAs need it, or only those that a Q/DQ model quantises "
        "(default all)",
    )
    group.add_argument("--resume", metavar="FILE", help="resume from this checkpoint if it exists, and keep it updated")
    group.add_argument("--batch", type=positive, default=2, metavar="N", help="images per batch (default 2)")
    group.add_argument("--threads", type=positive, metavar="N", help="the model's threads (default: one per core)")
    group.add_argument("--quiet", action="store_true", help="show no progress")


def add_cache_options(group: argparse._ArgumentGroup) -> None:
    """TensorRT's text form of the table."""
    group.add_argument("--cache", metavar="FILE", help="also write a calibration cache for implicit INT8")
    group.add_argument(
        "--tensorrt-version", metavar="V", help="the TensorRT that will read the cache, such as 8.5.2 (JetPack 5.1)"
    )
    group.add_argument(
        "--algorithm",
        choices=ALGORITHMS,
        default=ALGORITHMS[0],
        help="what the cache says it comes from; must be the builder's calibrator (default %(default)s, trtexec's)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Calibrates, writes the table and the cache, and prints what was found."""
    check_cache_options(arguments)
    from googlenet_deploy.calibration.calibrate import calibrate
    from googlenet_deploy.device.files import check_writable

    check_writable(arguments.output, arguments.cache, arguments.resume)
    source = open_model(arguments)
    selection = choose_images(arguments)
    options = calibration_options(arguments)
    with resumable(options):
        result = calibrate(source, selection, options)
        result.table.save(arguments.output)
    report_skipped(list(result.skipped), [])
    for warning in result.warnings:
        print(f"warning: {printable(warning, LONGEST_LINE)}", file=sys.stderr)
    print_table(result.table, len(result.skipped), arguments.output)
    write_cache(arguments, source, result.table)
    return 0


@contextmanager
def resumable(options: CalibrationOptions) -> Iterator[None]:
    """Removes a calibration's state when the block that writes its result has ended, and says where it is if not."""
    from pathlib import Path

    from googlenet_deploy.calibration.calibrate import discard_state

    try:
        yield
    except (KeyboardInterrupt, OutputError):
        if options.state and Path(options.state).exists():
            print(f"\nnote: what was counted is in {options.state}; the same command resumes from it", file=sys.stderr)
        raise
    discard_state(options)


def check_cache_options(arguments: argparse.Namespace) -> None:
    """Refuses a cache for an unknown version before any work is done."""
    if arguments.cache is None:
        unset = {"tensorrt_version": None, "algorithm": ALGORITHMS[0]}
        refuse_unused(arguments, unset, "describes what --cache writes: give --cache FILE too")
        return
    if arguments.tensorrt_version is None:
        raise UsageError("--cache needs --tensorrt-version, such as 8.5.2 for JetPack 5.1")
    from googlenet_deploy.calibration.tensorrt_cache import header_number

    header_number(arguments.tensorrt_version)


def open_model(arguments: argparse.Namespace) -> CalibrationSource:
    """The model with its preprocessing, its own or that of the options."""
    from googlenet_deploy.calibration.calibrate import open_source
    from googlenet_deploy.cli.arguments import stated_preprocessing

    return open_source(arguments.model, stated_preprocessing(arguments, arguments.model))


def choose_images(arguments: argparse.Namespace) -> ImageSelection:
    """The images of --images, --count and --seed."""
    from googlenet_deploy.calibration.images import is_list, select_images

    count: Optional[int] = arguments.count
    if count is not None or is_list(arguments.images):
        return select_images(arguments.images, count, arguments.seed)
    return select_images(arguments.images, DEFAULT_COUNT, arguments.seed)


def calibration_options(arguments: argparse.Namespace) -> CalibrationOptions:
    """The options that `calibrate` and `quantize` share."""
    from googlenet_deploy.calibration.calibrate import CalibrationOptions

    return CalibrationOptions(
        method=arguments.method,
        percentile=arguments.percentile,
        every_tensor=arguments.tensors == "all",
        batch_size=arguments.batch,
        threads=arguments.threads,
        state=arguments.resume,
        quiet=arguments.quiet,
    )


def print_table(table: CalibrationTable, skipped: int, path: Optional[str]) -> None:
    """What a calibration found, in a few lines."""
    print(f"calibrated on {table.images.count} images, {skipped} skipped; method {table.method}")
    worst = sorted((record for record in table.records if record.errors), key=lambda record: record.errors["auto"])
    print(f"tensors that INT8 represents worst, of {len(table.records)}:")
    print(f"  {'tensor':28} {'largest':>9} {'clipped at':>10} {'of values':>9} {'SQNR':>7}  by")
    for record in worst[:WORST_SHOWN]:
        method = table.method
        largest = max(abs(record.minimum), abs(record.maximum))
        rule = record.chosen if method == "auto" else method
        print(
            f"  {record.members[0]:28} {largest:9.4g} {record.amax[method]:10.4g} "
            f"{100 * record.saturated[method]:8.4f}% {record.errors[method]:4.1f} dB  {rule}"
        )
    if path:
        print(f"table: {path}")


def write_cache(arguments: argparse.Namespace, source: CalibrationSource, table: CalibrationTable) -> None:
    """Writes TensorRT's cache where one is asked for."""
    if arguments.cache is None:
        return
    from googlenet_deploy.calibration.tensorrt_cache import cache_from_table

    cache, notes = cache_from_table(table, source.model, arguments.tensorrt_version, arguments.algorithm)
    cache.save(arguments.cache)
    for note in notes:
        print(f"note: {printable(note, LONGEST_LINE)}", file=sys.stderr)
    print(f"cache: {arguments.cache} ({len(cache.scales)} tensors, TensorRT {arguments.tensorrt_version})")
