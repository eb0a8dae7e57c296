"""From an FP32 ONNX file to a checked INT8 model in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from googlenet_deploy import __version__
from googlenet_deploy.calibration.calibrate_model import resumable, stated_source, write_cache
from googlenet_deploy.calibration.images import choose_images, select_images
from googlenet_deploy.calibration.options import CacheOptions, CalibrationOptions, ImageOptions, PlacementOptions
from googlenet_deploy.calibration.placement import check_target
from googlenet_deploy.calibration.table import CalibrationTable, check_matches, load_table
from googlenet_deploy.calibration.tensorrt_cache import header_number
from googlenet_deploy.device.class_files import StatedNames, choose_class_list
from googlenet_deploy.device.files import check_writable, write_json
from googlenet_deploy.device.preprocessing_options import StatedPreprocessing
from googlenet_deploy.device.targets.target import Target, load_target
from googlenet_deploy.device.text import Report, log_note
from googlenet_deploy.errors import GateError, UsageError
from googlenet_deploy.evaluation.dataset import ClassIndex, read_labelled_images
from googlenet_deploy.graph.files import read_metadata, write_model
from googlenet_deploy.graph.graph import opset_of
from googlenet_deploy.quantization import quantize as steps
from googlenet_deploy.quantization.mixed_precision.search import Budget
from googlenet_deploy.quantization.options import BudgetOptions, CheckOptions, QuantizeRequest
from googlenet_deploy.quantization.qdq_insert import QdqOptions, weights_for
from googlenet_deploy.quantization.quantize import HoldOutImages, QuantizationOptions, QuantizationResult
from googlenet_deploy.quantization.refine.registry import (
    DEFAULT,
    EQUALIZE,
    SETS,
    need_images,
    parse_refinements,
    refinement_steps,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from googlenet_deploy.calibration.calibrate import CalibrationSource
    from googlenet_deploy.device.files import PathLike


def quantize(
    model: PathLike,
    output: PathLike | None = None,
    *,
    images: PathLike | None = None,
    table: PathLike | None = None,
    count: int | None = None,
    seed: int = 0,
    refine: str | None = None,
    target: Target | str | None = None,
    placement: PlacementOptions | None = None,
    weights: str | None = None,
    calibration: CalibrationOptions | None = None,
    budget: BudgetOptions | None = None,
    check: CheckOptions | None = None,
    class_names: StatedNames = None,
    preprocessing: StatedPreprocessing = None,
    save_table: PathLike | None = None,
    cache: CacheOptions | None = None,
    enforce: bool = True,
    report: Report = log_note,
) -> QuantizationResult:
    """Quantises a model to INT8 with Q/DQ pairs where TensorRT expects them, and compares it with FP32.

    Args:
        model: An FP32 ONNX classifier.
        output: Where the INT8 model goes; None writes no file.
        images: A folder, a pattern or a list of images to calibrate on.
        table: A table from `calibrate`, instead of or in addition to images.
        count: Number of images drawn at random; None uses 256 of a folder and all of a list.
        seed: Seed of the random draw.
        refine: Refinements separated by commas, or "none", "fast" or "best"; None uses "fast", or "none" with a table.
        target: A module, JetPack or TensorRT version; what it cannot run is refused.
        placement: What is quantised.
        weights: "float" or "int8"; None chooses by the target.
        calibration: Threshold method, batch size, ...
        budget: The accuracy that mixed precision must keep by leaving layers in float.
        check: Hold-out images, and what the result must reach.
        class_names: For a budget on top-1: a file, "imagenet" or names; None uses the model's own.
        preprocessing: How images are prepared; None uses the model's metadata.
        save_table: Where to write the table made from images.
        cache: TensorRT's own cache, written as well.
        enforce: Raise if a budget or a requirement does not hold; otherwise see `check_result`.
        report: Receives notes.

    Returns:
        The INT8 model, its table, the comparison with FP32, the lint's findings, and warnings.

    Raises:
        UsageError: The options contradict each other, or images are missing.
        BadModelError: The model is damaged, quantised already, or has nothing to quantise.
        BadTableError: The table is damaged or of another model.
        InputError: No image can be used.
        VerificationError: The result is ruined; nothing is written.
        OutputError: A file cannot be written.
        GateError: A budget or a requirement does not hold; the result is written.
    """
    place = None if images is None else str(images)
    request = QuantizeRequest(
        ImageOptions(place, count, seed),
        calibration or CalibrationOptions(),
        cache or CacheOptions(),
        budget or BudgetOptions(),
        check or CheckOptions(),
    )
    check_request(request, table=table, save_table=save_table)
    names = chosen_refinements(refine, request, table=table, save_table=save_table)
    check_writable(output, save_table, request.cache.cache, request.budget.sensitivity, request.calibration.state)
    source = stated_source(model, preprocessing, report)
    found = load_target(target) if isinstance(target, str) else target
    placement = placement or PlacementOptions()
    if found is not None:
        for note in check_target(found, opset_of(source.model), dla=placement.dla):
            report(note)
    before, after = refinement_steps(names, threads=request.calibration.threads, quiet=request.calibration.quiet)
    loaded = None if table is None else _matching_table(table, source)
    selection = choose_images(request.images) if place else None
    hold_out = _hold_out_images(request, source, class_names, report)
    options = QuantizationOptions(
        placement=placement,
        qdq=QdqOptions(weights=weights or weights_for(found)),
        calibration=request.calibration,
        method=request.calibration.method,
        checked=request.hold_out_count,
        budgets=_budgets(request.budget),
        ranked=bool(request.budget.sensitivity),
        keep_doubtful=request.check.keep_doubtful,
    )
    with resumable(request.calibration, report):
        result = steps.quantize(source, loaded, selection, options, before=before, after=after, hold_out=hold_out)
        if output is not None:
            write_model(output, result.model)
    _write_sensitivity(request.budget.sensitivity, str(model), result)
    if save_table is not None:
        result.table.save(save_table)
    write_cache(request.cache, source, result.table, report)
    if enforce:
        check_result(result, request.check.require)
    return result


def check_request(request: QuantizeRequest, *, table: PathLike | None, save_table: PathLike | None) -> None:
    """Refuses contradictory options before any work is done.

    Raises:
        UsageError: Options contradict each other.
    """
    if not request.images.images and not table:
        raise UsageError("pass --images to calibrate on, or --table with a calibration")
    if save_table and table:
        raise UsageError("--save-table keeps the table of --images; there is a --table already")
    for name in request.check.require:
        if not request.has_hold_out:
            raise UsageError(f"--require {name} needs --images, to compare with FP32")
    if request.budget.wanted and not request.has_hold_out:
        none = "--check-images 0 leaves none" if request.check.check_images == 0 else "pass --images or --check-from"
        raise UsageError(f"--budget and --sensitivity need images: {none}")
    if request.cache.tensorrt_version is not None:
        header_number(request.cache.tensorrt_version)
    _budgets(request.budget)


def chosen_refinements(
    refine: str | None, request: QuantizeRequest, *, table: PathLike | None, save_table: PathLike | None
) -> list[str]:
    """The refinements that are applied, checked against the other options.

    Raises:
        UsageError: A name is unknown, or a refinement cannot be applied here.
    """
    if refine is None:
        return [] if table else list(SETS[DEFAULT])
    names = parse_refinements(refine)
    if EQUALIZE in names:
        for option, given in (("table", table), ("save-table", save_table), ("cache", request.cache.cache)):
            if given:
                raise UsageError(
                    f"--refine equalize changes the model before calibration, so --{option} would belong to another "
                    "model",
                    "leave one of them out",
                )
    if not request.images.images and need_images(names):
        raise UsageError("--refine bias and rounding need --images", "pass the images of the calibration too")
    return names


def check_result(result: QuantizationResult, require: Mapping[str, float]) -> None:
    """Checks a result against its budgets and requirements.

    Args:
        result: The result of `quantize`.
        require: Smallest agreement in percent, or SQNR in dB, by name.

    Raises:
        GateError: A budget or a requirement does not hold.
    """
    precision = result.precision
    if precision is not None and precision.trial is not None and not precision.trial.holds:
        missed = [budget for budget in precision.budgets if budget.margin(precision.trial.measure) < 0]
        reached = "; ".join(
            f"{budget.name}={budget.value:g}, best {budget.reached(precision.trial.measure)}" for budget in missed
        )
        raise GateError(f"the budget cannot be kept with any layer in INT8: {reached}", "relax the budget or use FP16")
    for name, wanted in require.items():
        if result.measure is None:
            raise GateError(f"{name} was not measured, required was {wanted}")
        value = result.measure.percent if name == "agreement" else result.measure.sqnr
        if value < wanted:
            raise GateError(f"{name} is {value:.2f}, required was {wanted}")


def _budgets(options: BudgetOptions) -> tuple[Budget, ...]:
    return tuple(Budget(name, value) for name, value in options.budget.items())


def _matching_table(path: PathLike, source: CalibrationSource) -> CalibrationTable:
    table = load_table(path)
    check_matches(table, path, source.sha256, source.preprocessing)
    return table


def _hold_out_images(
    request: QuantizeRequest, source: CalibrationSource, class_names: StatedNames, report: Report
) -> HoldOutImages:
    """The hold-out images that were named, and the labels that a budget on top1 needs."""
    place = request.check.check_from
    selection = select_images(place, None) if place else None
    if "top1" not in request.budget.budget or request.hold_out_place is None:
        return HoldOutImages(selection)
    metadata = read_metadata(source.path, source.model)
    listed = choose_class_list(class_names, metadata.class_names, metadata.class_ids, report)
    labelled = read_labelled_images(request.hold_out_place, request.budget.labels, ClassIndex(listed.names, listed.ids))
    for remark in labelled.remarks:
        report(remark)
    labels = {image.name: label for image, label in zip(labelled.sources, labelled.labels, strict=True)}
    return HoldOutImages(selection, labels)


def _write_sensitivity(path: str | None, model: str, result: QuantizationResult) -> None:
    if not path or result.precision is None:
        return
    values = {"model": model, "unseen": result.unseen, **result.precision.to_dict()}
    write_json(path, {**values, "tool": f"googlenet-deploy {__version__}"})
