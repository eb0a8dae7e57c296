"""Quantise an FP32 model to INT8 with Q/DQ pairs where TensorRT expects them, and check the result.

Calibrates on images, or reads a calibration table. The result is linted by TensorRT's rules and compared with the FP32
model on images that calibration did not see. --lint and --repair take a quantised model of any tool, and report or
repair its errors.

Examples:
  googlenet-deploy quantize model.onnx --images photos/ --output model.int8.onnx
  googlenet-deploy quantize model.onnx --table table.json --output model.int8.onnx
  googlenet-deploy quantize model.onnx --images photos/ --output model.int8.onnx --require agreement=98
  googlenet-deploy quantize model.onnx --images photos/ --output model.int8.onnx --budget agreement=99
  googlenet-deploy quantize model.onnx --table t.json --output q.onnx --check-from val/ --labels l.csv --budget top1=0.1
  googlenet-deploy quantize model.onnx --images photos/ --output model.int8.onnx --refine best,offset
  googlenet-deploy quantize --lint somebodys.int8.onnx
  googlenet-deploy quantize --repair somebodys.int8.onnx --output repaired.onnx
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from googlenet_deploy.calibration.options import (
    IMAGES,
    CacheOptions,
    CalibrationOptions,
    ImageOptions,
    PlacementOptions,
)
from googlenet_deploy.cli.arguments import add_preprocessing_options, print_note, report_skipped
from googlenet_deploy.cli.calibrate import cache_options, print_table
from googlenet_deploy.cli.lint import lint_or_repair, print_findings
from googlenet_deploy.cli.mixed_precision import print_precision
from googlenet_deploy.device.options import add_options, option_group, read_options, refuse_given
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions
from googlenet_deploy.device.text import LONGEST_LINE, counted, printable
from googlenet_deploy.errors import UsageError
from googlenet_deploy.quantization.options import (
    CHECK,
    MIXED,
    PLACEMENT,
    BudgetOptions,
    CheckOptions,
    WeightOptions,
)

if TYPE_CHECKING:
    from googlenet_deploy.quantization.quantize import QuantizationResult


HELP = (
    "a comma-separated list of refinements: equalize (like ranges for channels of one tensor, by scaling neighbouring "
    "layers), weight-scales (smallest squared error instead of the largest weight), offset (use the codes below zero "
    "after ReLUs, where nothing pads), bias (compensate the shift of each layer's mean), rounding (learned rounding "
    "of the weights, with bias); or none, fast (bias), best (weight-scales, rounding). All are free on the device, but "
    "offset, which turns some ReLUs into clips. Default: fast, with a --table none"
)


def add_refinement_options(group: argparse._ArgumentGroup) -> None:
    """The option --refine."""
    group.add_argument("--refine", metavar="LIST", help=HELP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="an FP32 ONNX model")
    parser.add_argument("--output", metavar="FILE", help="where the INT8 model goes")
    add_options(parser, ImageOptions)
    images = option_group(parser, IMAGES)
    images.add_argument("--table", metavar="FILE", help="a table that `calibrate` wrote, instead of images")
    images.add_argument("--save-table", metavar="FILE", help="keep the table that was made from --images")
    placement = option_group(parser, PLACEMENT)
    placement.add_argument("--target", metavar="T", help="a module, JetPack or TensorRT: refuse what it cannot run")
    for options in (PlacementOptions, WeightOptions, CalibrationOptions, CacheOptions):
        add_options(parser, options)
    add_refinement_options(parser.add_argument_group("refinement"))
    add_options(parser, BudgetOptions)
    add_options(parser, CheckOptions)
    option_group(parser, MIXED).add_argument(
        "--class-names", metavar="FILE", help="one per line, or imagenet (default: the model's own)"
    )
    mode = option_group(parser, CHECK).add_mutually_exclusive_group()
    mode.add_argument("--lint", metavar="MODEL", help="only name what TensorRT would refuse in a quantised model")
    mode.add_argument("--repair", metavar="MODEL", help="repair what can be repaired in a quantised model")
    add_preprocessing_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Quantises, lints or repairs."""
    if arguments.lint or arguments.repair:
        return lint_or_repair(arguments)
    if not arguments.model or not arguments.output:
        raise UsageError("pass the FP32 model, and --output for the INT8 one")
    if arguments.table:
        why = "is for calibrating, but --table has a calibration"
        refuse_given(arguments, CalibrationOptions, why, only=("percentile", "every_tensor", "state"))
    images, budget = read_options(arguments, ImageOptions), read_options(arguments, BudgetOptions)
    check, cache = read_options(arguments, CheckOptions), cache_options(arguments)
    calibration = read_options(arguments, CalibrationOptions)
    from googlenet_deploy.quantization.quantize_model import check_result, quantize

    result = quantize(
        arguments.model,
        arguments.output,
        images=images.images,
        table=arguments.table,
        count=images.count,
        seed=images.seed,
        refine=arguments.refine,
        target=arguments.target,
        placement=read_options(arguments, PlacementOptions),
        weights=read_options(arguments, WeightOptions).weights,
        calibration=calibration,
        budget=budget,
        check=check,
        class_names=arguments.class_names,
        preprocessing=read_options(arguments, PreprocessingOptions),
        save_table=arguments.save_table,
        cache=cache,
        enforce=False,
        report=print_note,
    )
    _report(arguments, result)
    if budget.sensitivity:
        print(f"sensitivity: {budget.sensitivity}")
    check_result(result, check.require)
    return 0


def _report(arguments: argparse.Namespace, result: QuantizationResult) -> None:
    from googlenet_deploy.quantization.quantized_model import float_layers

    for warning in result.warnings:  # a ruined result's is the first line of all
        print(f"warning: {printable(warning, LONGEST_LINE)}", file=sys.stderr)
    report_skipped(list(result.skipped), [])
    if not arguments.table:
        print_table(result.table, len(result.skipped), arguments.save_table)
    plan = result.quantized.plan
    tensors = f"{counted(len(plan.tensors), 'activation tensor')} with {counted(len(plan.groups), 'scale')}"
    print(f"INT8: {counted(len(plan.nodes), 'layer')}, {tensors}")
    for layer in float_layers(result.quantized):
        print(f"  in float: {printable(layer.name)} ({layer.operator}): {layer.why()}")
    for name, note in result.quantized.notes.items():
        print(f"  {printable(name)}: {note}")
    if result.precision is not None:
        print_precision(result.precision)
    print_findings(result.findings, "lint: nothing that TensorRT would refuse")
    _print_measure(result)
    print(f"model: {arguments.output}")


def _print_measure(result: QuantizationResult) -> None:
    if result.measure is None:
        return
    first, others = result.measure.agreement, result.measure.others
    seen = "not used for calibration" if result.unseen else "OF THE CALIBRATION, so optimistic"
    listed = {"": (first, result.measure.quantity)}
    listed.update({f", output {name}": (each, each.measured) for name, each in others.items()})
    for output, (agreement, quantity) in listed.items():
        print(
            f"against FP32 on {counted(agreement.images, 'image')} {seen}{output}: agreement "
            f"{agreement.proportion.percent:.1f} %, {quantity} SQNR {agreement.sqnr:.2f} dB, "
            f"KL {agreement.mean_divergence:.4f}"
        )
