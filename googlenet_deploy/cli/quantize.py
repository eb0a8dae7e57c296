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
from typing import TYPE_CHECKING, List, Mapping, Optional

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
from googlenet_deploy.cli.mixed_precision import (
    apply_budget,
    budgets_of,
    hold_out_images,
    print_precision,
    write_sensitivity,
)
from googlenet_deploy.device.options import add_options, option_group, read_options, refuse_given
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions
from googlenet_deploy.device.text import LONGEST_LINE, printable
from googlenet_deploy.errors import GateError, UsageError
from googlenet_deploy.quantization.options import (
    CHECK,
    MIXED,
    PLACEMENT,
    BudgetOptions,
    CheckOptions,
    QuantizeRequest,
    WeightOptions,
)
from googlenet_deploy.quantization.refine.registry import DEFAULT, EQUALIZE, SETS, need_images, parse_refinements

if TYPE_CHECKING:
    from googlenet_deploy.calibration.calibrate import CalibrationSource
    from googlenet_deploy.calibration.table import CalibrationTable
    from googlenet_deploy.quantization.quantize import QuantizationOptions, QuantizationResult


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


def chosen_refinements(arguments: argparse.Namespace) -> List[str]:
    """What is applied, checked against what else was given.

    Raises:
        UsageError: A name is unknown, or a refinement cannot be applied to what is at hand.
    """
    if arguments.refine is None:
        return [] if arguments.table else list(SETS[DEFAULT])
    names = parse_refinements(arguments.refine)
    if EQUALIZE in names:
        for option in ("table", "save_table", "cache"):
            if getattr(arguments, option, None):
                raise UsageError(
                    f"--refine equalize changes the model before calibration, so --{option.replace('_', '-')} would "
                    "belong to another model",
                    "leave one of them out",
                )
    if not getattr(arguments, "images", None) and need_images(names):
        raise UsageError("--refine bias and rounding need --images", "give the images of the calibration too")
    return names


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
    add_refinement_options(parser.add_argument_group("better than rounding"))
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
    request = _request(arguments)
    from googlenet_deploy.calibration.calibrate_model import resumable, stated_source, write_cache
    from googlenet_deploy.calibration.images import choose_images
    from googlenet_deploy.device.files import check_writable
    from googlenet_deploy.graph.files import write_model
    from googlenet_deploy.quantization.quantize import quantize
    from googlenet_deploy.quantization.refine.registry import refinement_steps

    check_writable(
        arguments.output,
        arguments.save_table,
        request.cache.cache,
        request.budget.sensitivity,
        request.calibration.state,
    )
    names = chosen_refinements(arguments)
    source = stated_source(arguments.model, read_options(arguments, PreprocessingOptions), print_note)
    placement = read_options(arguments, PlacementOptions)
    _check_target(arguments, source, placement)
    before, after = refinement_steps(names, threads=request.calibration.threads, quiet=request.calibration.quiet)
    table = _table(arguments, source)
    selection = choose_images(request.images) if request.images.images else None
    hold_out = hold_out_images(arguments, request, source)
    with resumable(request.calibration, print_note):
        options = _options(arguments, request, placement)
        result = quantize(source, table, selection, options, before=before, after=after, hold_out=hold_out)
        write_model(arguments.output, result.model)
    _report(arguments, result)
    write_sensitivity(request.budget.sensitivity, arguments.model, result)
    if arguments.save_table:
        result.table.save(arguments.save_table)
    write_cache(request.cache, source, result.table, print_note)
    apply_budget(result.precision)
    _apply_gates(request.check.require, result)
    return 0


def _request(arguments: argparse.Namespace) -> QuantizeRequest:
    """What was asked for, where it fits together."""
    if not arguments.model or not arguments.output:
        raise UsageError("give the FP32 model, and --output for the INT8 one")
    request = QuantizeRequest(
        read_options(arguments, ImageOptions),
        read_options(arguments, CalibrationOptions),
        cache_options(arguments),
        read_options(arguments, BudgetOptions),
        read_options(arguments, CheckOptions),
    )
    if not request.images.images and not arguments.table:
        raise UsageError("give --images to calibrate on, or --table with a calibration")
    if arguments.save_table and arguments.table:
        raise UsageError("--save-table keeps the table of --images; there is a --table already")
    if arguments.table:
        why = "is for calibrating, but --table has a calibration"
        refuse_given(arguments, CalibrationOptions, why, only=("percentile", "every_tensor", "state"))
    for name in request.check.require:
        if not request.has_hold_out:
            raise UsageError(f"--require {name} needs --images, to compare with FP32")
    if request.budget.wanted and not request.has_hold_out:
        none = "--check-images 0 leaves none" if request.check.check_images == 0 else "give --images or --check-from"
        raise UsageError(f"--budget and --sensitivity need images: {none}")
    budgets_of(request.budget)
    return request


def _weights(arguments: argparse.Namespace) -> str:
    from googlenet_deploy.device.targets.target import load_target
    from googlenet_deploy.quantization.qdq_insert import weights_for

    chosen = read_options(arguments, WeightOptions).weights
    return chosen or weights_for(load_target(arguments.target) if arguments.target else None)


def _check_target(arguments: argparse.Namespace, source: CalibrationSource, placement: PlacementOptions) -> None:
    if not arguments.target:
        return
    from googlenet_deploy.calibration.placement import check_target
    from googlenet_deploy.device.targets.target import load_target
    from googlenet_deploy.graph.graph import opset_of

    for note in check_target(load_target(arguments.target), opset_of(source.model), dla=placement.dla):
        print(f"note: {printable(note, LONGEST_LINE)}", file=sys.stderr)


def _options(
    arguments: argparse.Namespace, request: QuantizeRequest, placement: PlacementOptions
) -> QuantizationOptions:
    from googlenet_deploy.quantization.qdq_insert import QdqOptions
    from googlenet_deploy.quantization.quantize import QuantizationOptions

    return QuantizationOptions(
        placement=placement,
        qdq=QdqOptions(weights=_weights(arguments)),
        calibration=request.calibration,
        method=request.calibration.method,
        checked=request.hold_out_count,
        budgets=budgets_of(request.budget),
        ranked=bool(request.budget.sensitivity),
        keep_doubtful=request.check.keep_doubtful,
    )


def _table(arguments: argparse.Namespace, source: CalibrationSource) -> Optional[CalibrationTable]:
    if not arguments.table:
        return None
    from googlenet_deploy.calibration.table import check_matches, load_table

    table = load_table(arguments.table)
    check_matches(table, arguments.table, source.sha256, source.preprocessing)
    return table


def _report(arguments: argparse.Namespace, result: QuantizationResult) -> None:
    from googlenet_deploy.quantization.quantized_model import float_layers

    for warning in result.warnings:  # a ruined result's is the first line of all
        print(f"warning: {printable(warning, LONGEST_LINE)}", file=sys.stderr)
    report_skipped(list(result.skipped), [])
    if not arguments.table:
        print_table(result.table, len(result.skipped), arguments.save_table)
    plan = result.quantized.plan
    print(f"INT8: {len(plan.nodes)} layers, {len(plan.tensors)} activation tensors with {len(plan.groups)} scales")
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
            f"against FP32 on {agreement.images} images {seen}{output}: agreement "
            f"{agreement.proportion.percent:.1f} %, {quantity} SQNR {agreement.sqnr:.2f} dB, "
            f"KL {agreement.mean_divergence:.4f}"
        )


def _apply_gates(gates: Mapping[str, float], result: QuantizationResult) -> None:
    assert result.measure is not None or not gates
    for name, wanted in gates.items():
        assert result.measure is not None
        value = result.measure.percent if name == "agreement" else result.measure.sqnr
        if value < wanted:
            raise GateError(f"{name} is {value:.2f}, required was {wanted}")
