"""Options and output of `quantize` for layers that stay in float: mixed precision."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Dict, Optional, Sequence, Tuple

from googlenet_deploy.cli.arguments import gate
from googlenet_deploy.device.text import LONGEST_LINE, printable
from googlenet_deploy.errors import GateError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.calibration.calibrate import CalibrationSource
    from googlenet_deploy.quantization.mixed_precision.choose import PrecisionChoice
    from googlenet_deploy.quantization.mixed_precision.search import Budget
    from googlenet_deploy.quantization.mixed_precision.sensitivity import LayerSensitivity
    from googlenet_deploy.quantization.quantize import HoldOutImages, QuantizationResult

CHECK_IMAGES, BUDGET_IMAGES = 64, 256
SHOWN = 10


def add_budget_options(group: argparse._ArgumentGroup) -> None:
    """The options."""
    group.add_argument(
        "--budget",
        action="append",
        type=gate,
        default=[],
        metavar="NAME=VALUE",
        help="leave the fewest multiply-adds in float that keep it: top1 (percentage points that may be lost), "
        "agreement (percent of the best classes that stay) or sqnr (dB of the scores); exit with status 3 where that "
        "cannot be done; may be repeated",
    )
    group.add_argument(
        "--sensitivity", metavar="FILE", help="what each layer's quantisation costs and saves, as JSON; takes minutes"
    )
    group.add_argument("--labels", metavar="FILE", help="CSV of filename,label, for a budget on top1")
    group.add_argument("--class-names", metavar="FILE", help="one per line, or imagenet (default: the model's own)")


def check_budget_options(arguments: argparse.Namespace) -> None:
    """Refuses what does not fit together before any work is done."""
    wanted = arguments.budget or arguments.sensitivity
    if wanted and not (arguments.images or arguments.check_from):
        raise UsageError("--budget and --sensitivity need images: give --images or --check-from")
    if wanted and arguments.check_images == 0:
        raise UsageError("--budget and --sensitivity need images: --check-images 0 leaves none")
    names = [name for name, _ in arguments.budget]
    if len(set(names)) < len(names):
        raise UsageError("--budget: each name may be given once")
    if arguments.labels and "top1" not in names:
        raise UsageError("--labels is for a budget on top1: give --budget top1=VALUE")
    budgets_of(arguments)


def budgets_of(arguments: argparse.Namespace) -> Tuple[Budget, ...]:
    """The budgets of --budget."""
    if not arguments.budget:
        return ()
    from googlenet_deploy.quantization.mixed_precision.search import Budget

    return tuple(Budget(name, value) for name, value in arguments.budget)


def image_count(arguments: argparse.Namespace) -> int:
    """How many hold-out images: what --check-images says, else more for a budget than for a check."""
    if arguments.check_images is not None:
        return int(arguments.check_images)
    return BUDGET_IMAGES if arguments.budget else CHECK_IMAGES


def hold_out_images(arguments: argparse.Namespace, source: CalibrationSource) -> HoldOutImages:
    """The images of --check-from, and the labels that a budget on top1 needs."""
    from googlenet_deploy.calibration.images import select_images
    from googlenet_deploy.quantization.quantize import HoldOutImages

    selection = select_images(arguments.check_from, None) if arguments.check_from else None
    if not any(name == "top1" for name, _ in arguments.budget):
        return HoldOutImages(selection)
    return HoldOutImages(selection, _labels(arguments, source))


def _labels(arguments: argparse.Namespace, source: CalibrationSource) -> Dict[str, int]:
    """The true class by image name, as the images are named when they are searched for."""
    from googlenet_deploy.cli.evaluate import class_index
    from googlenet_deploy.evaluation.dataset import read_labelled_images
    from googlenet_deploy.graph.files import read_metadata

    folder = arguments.check_from or arguments.images
    metadata = read_metadata(source.path, source.model)
    classes = class_index(arguments, metadata)
    labelled = read_labelled_images(folder, arguments.labels, classes)
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


def write_sensitivity(arguments: argparse.Namespace, result: QuantizationResult) -> None:
    """Writes the JSON file of --sensitivity."""
    if not arguments.sensitivity or result.precision is None:
        return
    from googlenet_deploy import __version__
    from googlenet_deploy.device.files import write_json

    values = {"model": arguments.model, "unseen": result.unseen, **result.precision.to_dict()}
    write_json(arguments.sensitivity, {**values, "tool": f"googlenet-deploy {__version__}"})
    print(f"sensitivity: {arguments.sensitivity}")


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
