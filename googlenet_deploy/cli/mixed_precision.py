"""Options and output of `quantize` for layers that stay in float: mixed precision."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Dict, Optional, Sequence, Tuple

from googlenet_deploy.device.text import LONGEST_LINE, printable
from googlenet_deploy.errors import GateError

if TYPE_CHECKING:
    from googlenet_deploy.calibration.calibrate import CalibrationSource
    from googlenet_deploy.quantization.mixed_precision.choose import PrecisionChoice
    from googlenet_deploy.quantization.mixed_precision.search import Budget
    from googlenet_deploy.quantization.mixed_precision.sensitivity import LayerSensitivity
    from googlenet_deploy.quantization.options import BudgetOptions, QuantizeRequest
    from googlenet_deploy.quantization.quantize import HoldOutImages, QuantizationResult

SHOWN = 10


def budgets_of(options: BudgetOptions) -> Tuple[Budget, ...]:
    """The budgets of --budget."""
    if not options.budget:
        return ()
    from googlenet_deploy.quantization.mixed_precision.search import Budget

    return tuple(Budget(name, value) for name, value in options.budget.items())


def hold_out_images(
    arguments: argparse.Namespace, request: QuantizeRequest, source: CalibrationSource
) -> HoldOutImages:
    """The images of --check-from, and the labels that a budget on top1 needs."""
    from googlenet_deploy.calibration.images import select_images
    from googlenet_deploy.quantization.quantize import HoldOutImages

    place = request.check.check_from
    selection = select_images(place, None) if place else None
    if "top1" not in request.budget.budget or request.hold_out_place is None:
        return HoldOutImages(selection)
    return HoldOutImages(selection, _labels(arguments, request.hold_out_place, request.budget.labels, source))


def _labels(
    arguments: argparse.Namespace, folder: str, table: Optional[str], source: CalibrationSource
) -> Dict[str, int]:
    """The true class by image name, as the images are named when they are searched for."""
    from googlenet_deploy.cli.evaluate import class_index
    from googlenet_deploy.evaluation.dataset import read_labelled_images
    from googlenet_deploy.graph.files import read_metadata

    metadata = read_metadata(source.path, source.model)
    classes = class_index(arguments, metadata)
    labelled = read_labelled_images(folder, table, classes)
    for remark in labelled.remarks:
        print(f"note: {printable(remark, LONGEST_LINE)}", file=sys.stderr)
    return {image.name: label for image, label in zip(labelled.sources, labelled.labels)}


def print_precision(precision: PrecisionChoice) -> None:
    """The layers that stay in float and why, or the most sensitive ones where nothing was asked to stay."""
    layers = {layer.name: layer for layer in precision.layers}
    if precision.trial is None:
        ranked = sorted(precision.layers, key=lambda layer: layer.noise, reverse=True)
        _print_table(f"most sensitive of {len(layers)} layers, each quantised alone", ranked[:SHOWN], precision)
        return
    share = f"{100 * precision.float_share:.1f} % of the multiply-adds"
    title = f"kept in float: {len(precision.kept)} of {len(layers)} layers, {share} ({precision.runs} models run)"
    _print_table(title, [layers[name] for name in precision.kept], precision)
    for budget in precision.budgets:
        mark = "held" if budget.margin(precision.trial.measure) >= 0 else "NOT HELD"
        print(f"budget {budget.name}={budget.value:g}: {mark}: {budget.reached(precision.trial.measure)}")


def _print_table(title: str, layers: Sequence[LayerSensitivity], precision: PrecisionChoice) -> None:
    print(title)
    if not layers:
        return
    total = sum(layer.multiply_adds for layer in precision.layers)
    noise = sum(layer.noise for layer in precision.layers) or 1.0
    print(f"  {'layer':34} {'mult.-adds':>10} {'saves kB':>8} {'SQNR alone':>10} {'KL alone':>9} {'of all noise':>12}")
    for layer in layers:
        print(
            f"  {layer.name:34} {100 * layer.multiply_adds / total:8.2f} % {layer.bytes / 1000:8.0f} "
            f"{layer.sqnr:7.1f} dB {layer.divergence:9.6f} {100 * layer.noise / noise:10.1f} %"
        )


def write_sensitivity(path: Optional[str], model: str, result: QuantizationResult) -> None:
    """Writes the JSON file of --sensitivity, where one was asked for."""
    if not path or result.precision is None:
        return
    from googlenet_deploy import __version__
    from googlenet_deploy.device.files import write_json

    values = {"model": model, "unseen": result.unseen, **result.precision.to_dict()}
    write_json(path, {**values, "tool": f"googlenet-deploy {__version__}"})
    print(f"sensitivity: {path}")


def apply_budget(precision: Optional[PrecisionChoice]) -> None:
    """Raises where a budget does not hold; the nearest result has been written.

    Raises:
        GateError: A budget does not hold.
    """
    if precision is None or precision.trial is None or precision.trial.holds:
        return
    missed = [budget for budget in precision.budgets if budget.margin(precision.trial.measure) < 0]
    reached = "; ".join(
        f"{budget.name}={budget.value:g}, best {budget.reached(precision.trial.measure)}" for budget in missed
    )
    raise GateError(f"the budget cannot be kept with any layer in INT8: {reached}", "relax the budget or use FP16")
