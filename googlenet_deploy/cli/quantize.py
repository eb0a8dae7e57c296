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
from typing import TYPE_CHECKING, List, Optional, Tuple

from googlenet_deploy.calibration.methods import DEFAULT_PERCENTILE
from googlenet_deploy.cli.arguments import add_preprocessing_options, gate, refuse_unused, report_skipped
from googlenet_deploy.cli.calibrate import (
    add_cache_options,
    add_image_options,
    add_method_options,
    calibration_options,
    check_cache_options,
    choose_images,
    open_model,
    print_table,
    resumable,
    write_cache,
)
from googlenet_deploy.cli.lint import lint_or_repair, print_findings
from googlenet_deploy.cli.mixed_precision import (
    add_budget_options,
    apply_budget,
    budgets_of,
    check_budget_options,
    hold_out_images,
    image_count,
    print_precision,
    write_sensitivity,
)
from googlenet_deploy.device.text import LONGEST_LINE, printable
from googlenet_deploy.errors import GateError, UsageError
from googlenet_deploy.evaluation.gates import OF_A_REFERENCE
from googlenet_deploy.quantization.refine.registry import DEFAULT, EQUALIZE, SETS, need_images, parse_refinements

if TYPE_CHECKING:
    from googlenet_deploy.calibration.calibrate import CalibrationSource
    from googlenet_deploy.calibration.placement import PlacementOptions
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
            if getattr(arguments, option):
                raise UsageError(
                    f"--refine equalize changes the model before calibration, so --{option.replace('_', '-')} would "
                    "belong to another model",
                    "leave one of them out",
                )
    if not arguments.images and need_images(names):
        raise UsageError("--refine bias and rounding need --images", "give the images of the calibration too")
    return names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="an FP32 ONNX model")
    parser.add_argument("--output", metavar="FILE", help="where the INT8 model goes")
    images = parser.add_argument_group("images or table")
    add_image_options(images, required=False)
    images.add_argument("--table", metavar="FILE", help="a table that `calibrate` wrote, instead of images")
    images.add_argument("--save-table", metavar="FILE", help="keep the table that was made from --images")
    placement = parser.add_argument_group("what is quantised")
    placement.add_argument("--target", metavar="T", help="a module, JetPack or TensorRT: refuse what it cannot run")
    add_placement_options(placement)
    _add_weights_option(placement)
    add_method_options(parser.add_argument_group("calibration"))
    add_cache_options(parser.add_argument_group("TensorRT's own cache"))
    add_refinement_options(parser.add_argument_group("better than rounding"))
    add_budget_options(parser.add_argument_group("mixed precision"))
    _add_check_options(parser.add_argument_group("check"))
    add_preprocessing_options(parser)


def add_placement_options(group: argparse._ArgumentGroup) -> None:
    """What is quantised; for `train --qat` too."""
    group.add_argument("--keep-input", action="store_true", help="leave the layer that reads the image in float")
    group.add_argument("--keep-classifier", action="store_true", help="leave the classifier in float")
    group.add_argument(
        "--exclude", action="append", default=[], metavar="NODE", help="leave this layer in float; may be repeated"
    )
    group.add_argument(
        "--dla", action="store_true", help="a pair on every tensor and one scale around each Concat, for a Jetson's DLA"
    )


def _add_weights_option(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--weights",
        choices=("float", "int8"),
        help="store weights as float before Q/DQ, which every TensorRT reads, or as INT8 before DQ, in a quarter of "
        "the space (default int8 where --target reads it, TensorRT 8.5 or later; else float)",
    )


def _add_check_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--check-images",
        type=int,
        metavar="N",
        help="compare with FP32 on N images (default 64, with a budget 256; 0: none)",
    )
    group.add_argument(
        "--check-from",
        metavar="PATH",
        help="where these images are: a folder, a pattern or a list (default: those of --images that calibration did "
        "not draw)",
    )
    group.add_argument(
        "--require",
        action="append",
        type=gate,
        default=[],
        metavar="NAME=VALUE",
        help="exit with status 3 where agreement (percent) or sqnr (dB) is below; may be repeated",
    )
    group.add_argument(
        "--keep-doubtful", action="store_true", help="write the result even where the check finds it ruined"
    )
    mode = group.add_mutually_exclusive_group()
    mode.add_argument("--lint", metavar="MODEL", help="only name what TensorRT would refuse in a quantised model")
    mode.add_argument("--repair", metavar="MODEL", help="repair what can be repaired in a quantised model")


def run(arguments: argparse.Namespace) -> int:
    """Quantises, lints or repairs."""
    if arguments.lint or arguments.repair:
        return lint_or_repair(arguments)
    _check_options(arguments)
    from googlenet_deploy.device.files import check_writable
    from googlenet_deploy.graph.files import write_model
    from googlenet_deploy.quantization.quantize import quantize
    from googlenet_deploy.quantization.refine.registry import refinement_steps

    check_writable(arguments.output, arguments.save_table, arguments.cache, arguments.sensitivity, arguments.resume)
    names = chosen_refinements(arguments)
    source = open_model(arguments)
    _check_target(arguments, source)
    before, after = refinement_steps(names, threads=arguments.threads, quiet=arguments.quiet)
    table = _table(arguments, source)
    selection = choose_images(arguments) if arguments.images else None
    options = _options(arguments)
    with resumable(options.calibration):
        result = quantize(
            source, table, selection, options, before=before, after=after, hold_out=hold_out_images(arguments, source)
        )
        write_model(arguments.output, result.model)
    _report(arguments, result)
    write_sensitivity(arguments, result)
    if arguments.save_table:
        result.table.save(arguments.save_table)
    write_cache(arguments, source, result.table)
    apply_budget(result.precision)
    _apply_gates(arguments.require, result)
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    if not arguments.model or not arguments.output:
        raise UsageError("give the FP32 model, and --output for the INT8 one")
    if not arguments.images and not arguments.table:
        raise UsageError("give --images to calibrate on, or --table with a calibration")
    if arguments.save_table and arguments.table:
        raise UsageError("--save-table keeps the table of --images; there is a --table already")
    if arguments.table:
        unset = {"percentile": DEFAULT_PERCENTILE, "tensors": "all", "resume": None}
        refuse_unused(arguments, unset, "is for calibrating, but --table has a calibration")
    if arguments.check_images is not None and arguments.check_images < 0:
        raise UsageError("--check-images cannot be below 0")
    for name, _ in arguments.require:
        if name not in OF_A_REFERENCE:
            raise UsageError(f"--require {name}: choose {' or '.join(OF_A_REFERENCE)}")
        if not (arguments.images or arguments.check_from) or arguments.check_images == 0:
            raise UsageError(f"--require {name} needs --images, to compare with FP32")
    check_budget_options(arguments)
    check_cache_options(arguments)


def _weights_for(arguments: argparse.Namespace) -> str:
    from googlenet_deploy.device.targets.target import load_target
    from googlenet_deploy.quantization.qdq_insert import weights_for

    return weights_for(load_target(arguments.target) if arguments.target else None)


def _check_target(arguments: argparse.Namespace, source: CalibrationSource) -> None:
    if not arguments.target:
        return
    from googlenet_deploy.calibration.placement import check_target
    from googlenet_deploy.device.targets.target import load_target
    from googlenet_deploy.graph.graph import opset_of

    for note in check_target(load_target(arguments.target), opset_of(source.model), dla=arguments.dla):
        print(f"note: {printable(note, LONGEST_LINE)}", file=sys.stderr)


def placement_options(arguments: argparse.Namespace) -> PlacementOptions:
    """What `add_placement_options` asked for."""
    from googlenet_deploy.calibration.placement import PlacementOptions

    return PlacementOptions(
        quantize_input=not arguments.keep_input,
        quantize_classifier=not arguments.keep_classifier,
        excluded=frozenset(arguments.exclude),
        dla=arguments.dla,
    )


def _options(arguments: argparse.Namespace) -> QuantizationOptions:
    from googlenet_deploy.quantization.qdq_insert import QdqOptions
    from googlenet_deploy.quantization.quantize import QuantizationOptions

    return QuantizationOptions(
        placement=placement_options(arguments),
        qdq=QdqOptions(weights=arguments.weights or _weights_for(arguments)),
        calibration=calibration_options(arguments),
        method=arguments.method,
        checked=image_count(arguments),
        budgets=budgets_of(arguments),
        ranked=bool(arguments.sensitivity),
        keep_doubtful=arguments.keep_doubtful,
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


def _apply_gates(gates: List[Tuple[str, float]], result: QuantizationResult) -> None:
    assert result.measure is not None or not gates
    for name, wanted in gates:
        assert result.measure is not None
        value = result.measure.percent if name == "agreement" else result.measure.sqnr
        if value < wanted:
            raise GateError(f"{name} is {value:.2f}, required was {wanted}")
