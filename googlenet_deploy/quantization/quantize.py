"""From a model and a table, or images, to a checked Q/DQ model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from googlenet_deploy.analysis.sparsity import require_pattern
from googlenet_deploy.calibration.calibrate import CalibrationOptions, CalibrationSource, calibrate
from googlenet_deploy.calibration.images import ImageSelection, held_back
from googlenet_deploy.calibration.placement import PlacementOptions
from googlenet_deploy.calibration.table import CalibrationTable, scale_from_amax
from googlenet_deploy.device.images.pipeline import ImageBatches, Skipped
from googlenet_deploy.errors import InputError, UsageError, VerificationError, requires
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.graph.files import read_metadata, store_metadata
from googlenet_deploy.quantization.accuracy_probe import HoldOutEvaluation
from googlenet_deploy.quantization.lint import ERROR, lint_model
from googlenet_deploy.quantization.mixed_precision.choose import PrecisionChoice, choose_precision
from googlenet_deploy.quantization.mixed_precision.search import Budget
from googlenet_deploy.quantization.qdq_insert import QdqOptions
from googlenet_deploy.quantization.quantized_model import QuantizedModel, Refinement, round_to_nearest

with requires("export"):
    import onnx

if TYPE_CHECKING:
    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.quantization.lint import Finding

CHECKED_IMAGES = 64
# A sound INT8 GoogLeNet agrees with FP32 on some 98 of 100 images, at 28 dB and more.
DOUBTFUL_AGREEMENT, DOUBTFUL_DECIBELS = 0.9, 15.0

# Changes the FP32 model ahead of calibration without changing what it computes; also says what it did.
ModelStep = Callable[[onnx.ModelProto], tuple[onnx.ModelProto, Mapping[str, str]]]


@dataclass(frozen=True)
class QuantizationOptions:
    """What is quantised, and how.

    Attributes:
        placement: Which tensors and layers.
        qdq: How pairs are written.
        calibration: How images are turned into a table.
        method: Whose thresholds are used; the table's own where None.
        checked: At most so many images compare the result with the FP32 model; 0 for none.
        budgets: What the result must keep: the fewest multiply-adds are left in float for it.
        ranked: Measure the layers' sensitivity, also without budgets.
    """

    placement: PlacementOptions = field(default_factory=PlacementOptions)
    qdq: QdqOptions = field(default_factory=QdqOptions)
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    method: str | None = None
    checked: int = CHECKED_IMAGES
    budgets: tuple[Budget, ...] = ()
    ranked: bool = False


@dataclass(frozen=True)
class HoldOutImages:
    """Hold-out images, where they are not those that calibration left over.

    Attributes:
        selection: Images to choose from; None for those at hand.
        labels: True class by image name, for a budget on top-1; images without a label are left out.
    """

    selection: ImageSelection | None = None
    labels: Mapping[str, int] | None = None


@dataclass(frozen=True)
class QuantizationResult:
    """A quantised model, and what is known about it.

    Attributes:
        model: The Q/DQ model.
        quantized: What it was made of.
        table: The calibration.
        agreement: With the FP32 model; None where no images were given.
        unseen: Whether the images of `agreement` were not among those of the calibration.
        findings: Remarks of the lint; none of them errors.
        skipped: Images that could not be used.
        warnings: Anything doubtful.
        precision: The layers' sensitivity and what a budget left in float; None where neither was asked for.
    """

    model: onnx.ModelProto
    quantized: QuantizedModel
    table: CalibrationTable
    agreement: Agreement | None
    unseen: bool
    findings: Sequence[Finding]
    skipped: Sequence[Skipped]
    warnings: Sequence[str]
    precision: PrecisionChoice | None = None


def quantize(
    source: CalibrationSource,
    table: CalibrationTable | None,
    selection: ImageSelection | None,
    options: QuantizationOptions | None = None,
    *,
    before: Sequence[ModelStep] = (),
    after: Sequence[Refinement] = (),
    hold_out: HoldOutImages | None = None,
) -> QuantizationResult:
    """Quantises a model and checks the result.

    Args:
        source: The FP32 model.
        table: Its calibration; None calibrates on `selection`.
        selection: Images for calibration, refinements and the check; None where a table is given and nothing else
            needs them.
        options: What is quantised, and how.
        before: Changes of the FP32 model ahead of calibration, in order.
        after: Refinements of the quantised model, in order.
        hold_out: Hold-out images; those that calibration did not see where None.

    Raises:
        BadModelError: The model is quantised already, cannot be run, or nothing in it can be quantised.
        BadTableError: The table lacks a tensor or the method.
        InputError: No image can be used.
        UsageError: Images are needed and none are given, or a table that was made before the model was changed.
        VerificationError: The result breaks a rule of TensorRT, or yields NaN or infinite values.
    """
    chosen = options or QuantizationOptions()
    _check_needs(table, selection, before)
    changed, notes = _apply_steps(source, before)
    skipped: Sequence[Skipped] = ()
    warnings = [] if table is None else list(source.notes)  # a calibration repeats them
    used = table is None or bool(after)
    if table is None:
        assert selection is not None
        calibration = calibrate(changed, selection, chosen.calibration)
        table, skipped = calibration.table, calibration.skipped
        warnings += calibration.warnings
    quantized = round_to_nearest(changed.model, table, chosen.placement, chosen.method, source.path)
    quantized = replace(quantized, notes=notes)
    batches = batches_of(changed, selection.chosen if selection is not None else ())
    for refinement in after:
        quantized = refinement(quantized, batches)
    skipped = skipped or tuple(batches.skipped)  # those of a calibration are these and perhaps more
    evaluation, unseen = _hold_out_evaluation(source, table, selection, chosen, hold_out or HoldOutImages(), used=used)
    if evaluation is not None:
        skipped = [*skipped, *evaluation.skipped]
    precision = None
    if evaluation is not None and (chosen.budgets or chosen.ranked):
        precision = choose_precision(quantized, evaluation, chosen.budgets, quiet=chosen.calibration.quiet)
        quantized = precision.quantized
        warnings += precision.warnings
    model, findings = build_checked(quantized, source, chosen, precision)
    agreement = evaluation.measure(model).agreement if evaluation is not None else None
    warnings += _doubts(agreement)
    return QuantizationResult(model, quantized, table, agreement, unseen, findings, skipped, warnings, precision)


def build_checked(
    quantized: QuantizedModel,
    source: CalibrationSource,
    options: QuantizationOptions,
    precision: PrecisionChoice | None = None,
) -> tuple[onnx.ModelProto, Sequence[Finding]]:
    """Writes the Q/DQ model with its metadata and lints it; returns the model and the lint's findings.

    Raises:
        VerificationError: The result breaks a rule of TensorRT, or lost the zeros that it was trained with.
    """
    model = _build(quantized, source, options, precision)
    findings = lint_model(model)
    _refuse_errors(findings)
    require_pattern(model, read_metadata(source.path, model).extra)
    return model, findings


def table_hash(table: CalibrationTable) -> str:
    """SHA-256 of the table's content."""
    return hashlib.sha256(json.dumps(table.to_dict(), sort_keys=True).encode()).hexdigest()


def _check_needs(
    table: CalibrationTable | None,
    selection: ImageSelection | None,
    before: Sequence[ModelStep],
) -> None:
    if table is None and selection is None:
        raise UsageError("images or a calibration table are needed")
    if before and table is not None:
        raise UsageError(
            "the model is changed ahead of calibration, so its table does not fit", "give --images, not --table"
        )


def _apply_steps(source: CalibrationSource, steps: Sequence[ModelStep]) -> tuple[CalibrationSource, dict[str, str]]:
    model, notes = source.model, dict[str, str]()
    for step in steps:
        model, said = step(model)
        notes.update(said)
    return replace(source, model=model), notes


def batches_of(source: CalibrationSource, images: Sequence[ImageSource]) -> ImageBatches:
    """Images prepared for a model, in batches of its size."""
    return ImageBatches(images, source.preprocessing, _batch_size(source))


def _batch_size(source: CalibrationSource) -> int:
    size = source.model.graph.input[0].type.tensor_type.shape.dim[0]
    return int(size.dim_value) or CalibrationOptions().batch_size


def _hold_out_evaluation(
    source: CalibrationSource,
    table: CalibrationTable,
    selection: ImageSelection | None,
    options: QuantizationOptions,
    hold_out: HoldOutImages,
    *,
    used: bool,
) -> tuple[HoldOutEvaluation | None, bool]:
    """The hold-out evaluation, and whether its images were not used before; None without images that can be read."""
    at_hand = hold_out.selection or selection
    if at_hand is None or options.checked == 0:
        return None, False
    if hold_out.labels is not None:
        at_hand = at_hand.only(hold_out.labels)
    chosen = held_back(at_hand, table, options.checked, used=used and hold_out.selection is None)
    try:
        return HoldOutEvaluation(source.model, source.preprocessing, chosen.images, hold_out.labels), chosen.unseen
    except InputError:
        if options.budgets or options.ranked:
            raise
        return None, False  # a doubt says that nothing was compared


def _build(
    quantized: QuantizedModel,
    source: CalibrationSource,
    options: QuantizationOptions,
    precision: PrecisionChoice | None,
) -> onnx.ModelProto:
    model = quantized.build(options.qdq)
    metadata = read_metadata(source.path, model)
    record = {
        "fp32_sha256": source.sha256,
        "table_sha256": table_hash(quantized.table),
        "method": options.method or quantized.table.method,
        "calibration_images": quantized.table.images.count,
        "saturated": _saturated(quantized, options.method),
        "quantized_nodes": len(quantized.plan.nodes),
        "float_nodes": dict(sorted(quantized.plan.skipped.items())),
        "steps": dict(quantized.notes),
        **({"budget": precision.summary()} if precision is not None and precision.budgets else {}),
    }
    extra = {**metadata.extra, "quantization": json.dumps(record, separators=(",", ":"), ensure_ascii=False)}
    store_metadata(model, replace(metadata, extra=extra, preprocessing=source.preprocessing))
    return model


def _saturated(quantized: QuantizedModel, method: str | None) -> dict[str, float]:
    """Share of each tensor's values that was clipped on the calibration images, where its scale is the table's."""
    shares = {}
    for name in quantized.plan.tensors:
        record = quantized.table.record_of(name)
        chosen = method or quantized.table.method
        if record is not None and quantized.scales[name] == scale_from_amax(record.amax[chosen]):
            shares[name] = float(f"{record.saturated[chosen]:.2g}")
    return shares


def _refuse_errors(findings: Sequence[Finding]) -> None:
    errors = [finding for finding in findings if finding.severity == ERROR]
    if errors:
        raise VerificationError(f"the quantised model breaks a rule of TensorRT: {errors[0].text()}")


def _doubts(agreement: Agreement | None) -> list[str]:
    if agreement is None:
        return ["the result was not compared with the FP32 model: give --images"]
    share = agreement.equal / agreement.images
    if share < DOUBTFUL_AGREEMENT or agreement.sqnr < DOUBTFUL_DECIBELS:
        distance = f"{100 * share:.1f} % agreement, {agreement.sqnr:.1f} dB"
        return [f"the result is far from the FP32 model ({distance}): `evaluate INT8 --reference FP32` says where"]
    return []
