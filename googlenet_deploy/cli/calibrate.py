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

from googlenet_deploy.calibration.options import CacheOptions, CalibrationOptions, ImageOptions
from googlenet_deploy.cli.arguments import add_preprocessing_options, print_note, report_skipped
from googlenet_deploy.device.options import add_options, read_options, refuse_given
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions
from googlenet_deploy.device.text import LONGEST_LINE, printable
from googlenet_deploy.errors import OutputError

if TYPE_CHECKING:
    from googlenet_deploy.calibration.calibrate import CalibrationSource
    from googlenet_deploy.calibration.table import CalibrationTable

WORST_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("model", metavar="MODEL", help="an FP32 ONNX model")
    parser.add_argument("--output", required=True, metavar="FILE", help="where the table goes (.json)")
    for options in (ImageOptions, CalibrationOptions, CacheOptions):
        add_options(parser, options)
    add_preprocessing_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Calibrates, writes the table and the cache, and prints what was found."""
    images, cache = read_options(arguments, ImageOptions), cache_options(arguments)
    options = read_options(arguments, CalibrationOptions)
    from googlenet_deploy.calibration.calibrate import calibrate
    from googlenet_deploy.calibration.images import choose_images
    from googlenet_deploy.device.files import check_writable

    check_writable(arguments.output, cache.cache, options.state)
    source = open_model(arguments)
    selection = choose_images(images)
    with resumable(options):
        result = calibrate(source, selection, options)
        result.table.save(arguments.output)
    report_skipped(list(result.skipped), [])
    for warning in result.warnings:
        print(f"warning: {printable(warning, LONGEST_LINE)}", file=sys.stderr)
    print_table(result.table, len(result.skipped), arguments.output)
    write_cache(cache, source, result.table)
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


def cache_options(arguments: argparse.Namespace) -> CacheOptions:
    """The options of the cache, checked before any work is done."""
    if not hasattr(arguments, "cache"):
        refuse_given(arguments, CacheOptions, "describes what --cache writes: give --cache FILE too")
    options = read_options(arguments, CacheOptions)
    if options.tensorrt_version is not None:
        from googlenet_deploy.calibration.tensorrt_cache import header_number

        header_number(options.tensorrt_version)
    return options


def open_model(arguments: argparse.Namespace) -> CalibrationSource:
    """The model with its preprocessing, its own or that of the options."""
    from googlenet_deploy.calibration.calibrate import open_source
    from googlenet_deploy.device.preprocessing_options import file_preprocessing

    stated = read_options(arguments, PreprocessingOptions)
    return open_source(arguments.model, file_preprocessing(stated, arguments.model, print_note))


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


def write_cache(options: CacheOptions, source: CalibrationSource, table: CalibrationTable) -> None:
    """Writes TensorRT's cache where one is asked for."""
    if options.cache is None or options.tensorrt_version is None:
        return
    from googlenet_deploy.calibration.tensorrt_cache import cache_from_table

    cache, notes = cache_from_table(table, source.model, options.tensorrt_version, options.algorithm)
    cache.save(options.cache)
    for note in notes:
        print(f"note: {printable(note, LONGEST_LINE)}", file=sys.stderr)
    print(f"cache: {options.cache} ({len(cache.scales)} tensors, TensorRT {options.tensorrt_version})")
