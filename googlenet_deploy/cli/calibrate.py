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
from typing import TYPE_CHECKING, Optional

from googlenet_deploy.calibration.options import CacheOptions, CalibrationOptions, ImageOptions
from googlenet_deploy.cli.arguments import add_preprocessing_options, print_note, report_skipped
from googlenet_deploy.device.options import add_options, read_options, refuse_given
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions
from googlenet_deploy.device.text import LONGEST_LINE, counted, printable

if TYPE_CHECKING:
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
    from googlenet_deploy.calibration.calibrate_model import calibrate

    result = calibrate(
        arguments.model,
        images.images,
        arguments.output,
        count=images.count,
        seed=images.seed,
        options=options,
        preprocessing=read_options(arguments, PreprocessingOptions),
        cache=cache,
        report=print_note,
    )
    report_skipped(list(result.skipped), [])
    for warning in result.warnings:
        print(f"warning: {printable(warning, LONGEST_LINE)}", file=sys.stderr)
    print_table(result.table, len(result.skipped), arguments.output)
    return 0


def cache_options(arguments: argparse.Namespace) -> CacheOptions:
    """The options of the cache, checked before any work is done."""
    if not hasattr(arguments, "cache"):
        refuse_given(arguments, CacheOptions, "describes what --cache writes: pass --cache FILE too")
    return read_options(arguments, CacheOptions)


def print_table(table: CalibrationTable, skipped: int, path: Optional[str]) -> None:
    """What a calibration found, in a few lines."""
    print(f"calibrated on {counted(table.images.count, 'image')}, {skipped} skipped; method {table.method}")
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
