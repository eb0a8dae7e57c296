"""From a model and a table, or images, to a checked Q/DQ model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from googlenet_deploy.analysis.sparsity import require_pattern
from googlenet_deploy.calibration.calibrate import CalibrationSource, calibrate
from googlenet_deploy.calibration.images import ImageSelection, held_back
from googlenet_deploy.calibration.options import CalibrationOptions, PlacementOptions
from googlenet_deploy.calibration.table import CalibrationTable, scale_from_amax
from googlenet_deploy.device.images.pipeline import ImageBatches, Skipped
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import BadModelError, InputError, UsageError, VerificationError, requires
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.graph.files import read_metadata, store_metadata
from googlenet_deploy.quantization.accuracy_probe import RUINED_REMEDY, HoldOutEvaluation, Measure
from googlenet_deploy.quantization.findings import ERROR
from googlenet_deploy.quantization.lint import lint_model
from googlenet_deploy.quantization.mixed_precision.choose import PrecisionChoice, choose_precision
from googlenet_deploy.quantization.mixed_precision.search import Budget
from googlenet_deploy.quantization.options import CHECK_IMAGES
from googlenet_deploy.quantization.qdq_insert import QdqOptions
from googlenet_deploy.quantization.quantized_model import QuantizedModel, Refinement, round_to_nearest

with requires("export"):
    import onnx

if TYPE_CHECKING:
    from googlenet_deploy.calibration.images import Batches
    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.quantization.findings import Finding


# Changes the FP32 model before calibration without changing what it computes; also returns notes of what it did.
ModelStep = Callable[[onnx.ModelProto], tuple[onnx.ModelProto, Mapping[str, str]]]


@dataclass(frozen=True)
class QuantizationOptions:
    """What is quantised, and how.

    Attributes:
        placement: Which tensors and layers.
        qdq: How pairs are written.
        calibration: How images are turned into a table.
        method: Threshold method; None uses the table's own.
        checked: The largest number of hold-out images for the comparison with the FP32 model; 0 for none.
        budgets: What the result must keep, with as few multiply-adds in float as possible.
        ranked: Measure the layers' sensitivity even without budgets.
        keep_doubtful: Return a ruined result too, with a warning.
    """

    placement: PlacementOptions = field(default_factory=PlacementOptions)
    qdq: QdqOptions = field(default_factory=QdqOptions)
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    method: str | None = None
    checked: int = CHECK_IMAGES
    budgets: tuple[Budget, ...] = ()
    ranked: bool = False
    keep_doubtful: bool = False


@dataclass(frozen=True)
class HoldOutImages:
    """Hold-out images other than those that calibration left over.

    Attributes:
        selection: Images to choose from; None chooses from the calibration's selection.
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
        measure: The comparison with the FP32 model; None if no images were given.
        unseen: Whether none of the hold-out images was used for calibration.
        findings: Findings of the lint; none of them errors.
        skipped: Images that could not be used.
        warnings: Anything doubtful.
        precision: The layers' sensitivity and what a budget left in float; None if neither was requested.
    """

    model: onnx.ModelProto
    quantized: QuantizedModel
    table: CalibrationTable
    measure: Measure | None
    unseen: bool
    findings: Sequence[Finding]
    skipped: Sequence[Skipped]
    warnings: Sequence[str]
    precision: PrecisionChoice | None = None

    @property
    def agreement(self) -> Agreement | None:
        """Agreement on the scores that `infer` shows; None if no images were given."""
        return self.measure.agreement if self.measure is not None else None


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

    A step is kept only if the hold-out images come out no worse with it than without it.

    Args:
        source: The FP32 model.
        table: Its calibration; None calibrates on `selection`.
        selection: Images for calibration, refinements and the check; None if a table is given and nothing else
            needs them.
        options: What is quantised, and how.
        before: Changes to the FP32 model before calibration, in order.
        after: Refinements of the quantised model, in order.
        hold_out: Hold-out images; None uses those that calibration did not see.

    Raises:
        BadModelError: The model is quantised already, cannot be run, has no class scores to compare, or nothing in it
            can be quantised.
        BadTableError: The table lacks a tensor or the method.
        InputError: No image can be used.
        UsageError: Images are needed and none are given, or the table was made before the model was changed.
        VerificationError: The result is ruined, breaks a rule of TensorRT, or yields NaN or infinite values.
    """
    chosen = options or QuantizationOptions()
    _check_needs(table, selection, before)
    start = _calibrated(source, table, selection, chosen)
    held_back_from = table is None or bool(after)
    evaluation, unseen = _hold_out_evaluation(
        source, start.table, selection, chosen, hold_out or HoldOutImages(), used=held_back_from
    )
    trials = _Trials(start.quantized, evaluation)
    skipped, warnings = list(start.skipped), list(start.warnings)
    for step in before:
        assert selection is not None
        trials.change_model(step, source, selection, chosen)
    batches = batches_of(source, selection.chosen if selection is not None else ())
    for refinement in after:
        trials.refine(refinement, batches)
    skipped = skipped or list(batches.skipped)  # a calibration's skipped images include these and perhaps more
    if evaluation is not None:
        skipped += evaluation.skipped
    precision = None
    quantized, measure = trials.quantized, trials.measure
    if evaluation is not None and (chosen.budgets or chosen.ranked):
        precision = choose_precision(quantized, evaluation, chosen.budgets, quiet=chosen.calibration.quiet)
        measure = measure if precision.quantized is quantized else None
        quantized = precision.quantized
        warnings += precision.warnings
    model, findings = build_checked(quantized, source, chosen, precision)
    if evaluation is not None and measure is None:
        measure = evaluation.measure(model)
    warnings = [*_doubts(measure, selection, keep=chosen.keep_doubtful), *warnings]
    return QuantizationResult(
        model, quantized, quantized.table, measure, unseen, findings, skipped, warnings, precision
    )


@dataclass(frozen=True)
class _Calibrated:
    """The model with its scales from the table and weights rounded to the nearest."""

    quantized: QuantizedModel
    table: CalibrationTable
    skipped: Sequence[Skipped] = ()
    warnings: Sequence[str] = ()


def _calibrated(
    source: CalibrationSource,
    table: CalibrationTable | None,
    selection: ImageSelection | None,
    options: QuantizationOptions,
) -> _Calibrated:
    skipped: Sequence[Skipped] = ()
    warnings: Sequence[str] = source.notes  # a calibration's warnings include them
    if table is None:
        assert selection is not None
        calibration = calibrate(source, selection, options.calibration)
        table, skipped, warnings = calibration.table, calibration.skipped, calibration.warnings
    quantized = round_to_nearest(source.model, table, options.placement, options.method, source.path)
    return _Calibrated(quantized, table, skipped, warnings)


class _Trials:
    """Applies steps one after another and undoes those that make the hold-out images come out worse.

    Args:
        quantized: The starting point.
        evaluation: The hold-out images; None keeps every step.

    Attributes:
        quantized: The model with the steps that were kept.
        measure: Its comparison with the FP32 model; None if it was not made.
    """

    def __init__(self, quantized: QuantizedModel, evaluation: HoldOutEvaluation | None) -> None:
        self.quantized, self._evaluation = quantized, evaluation
        self.measure: Measure | None = None

    def refine(self, refinement: Refinement, batches: Batches) -> None:
        """Tries a refinement of the quantised model."""
        self._measure_start()
        self._try(refinement(self.quantized, batches))

    def change_model(
        self, step: ModelStep, source: CalibrationSource, selection: ImageSelection, options: QuantizationOptions
    ) -> None:
        """Tries a change to the FP32 model, which is then recalibrated."""
        self._measure_start()
        model, notes = step(self.quantized.model)
        # The state that can be resumed belongs to the unchanged model.
        again = replace(options, calibration=replace(options.calibration, state=None))
        changed = _calibrated(replace(source, model=model), None, selection, again)
        self._try(replace(changed.quantized, notes={**self.quantized.notes, **notes}))

    def _measure_start(self) -> None:
        if self._evaluation is not None and self.measure is None:
            self.measure = self._evaluation.measure(self.quantized.build())

    def _try(self, candidate: QuantizedModel) -> None:
        if self._evaluation is None or self.measure is None:
            self.quantized = candidate
            return
        try:
            measure = self._evaluation.measure(candidate.build())
        except VerificationError as error:
            self._undo(candidate, f"undone: {error.message}")
            return
        if measure.sqnr < self.measure.sqnr:
            change = f"from {self.measure.sqnr:.2f} to {measure.sqnr:.2f} dB"
            self._undo(candidate, f"undone: it changed the SQNR on {len(self._evaluation)} hold-out images {change}")
        else:
            self.quantized, self.measure = candidate, measure

    def _undo(self, candidate: QuantizedModel, note: str) -> None:
        names = [name for name in candidate.notes if name not in self.quantized.notes] or ["refinement"]
        self.quantized = replace(self.quantized, notes={**self.quantized.notes, **dict.fromkeys(names, note)})


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
            "the model is changed before calibration, so its table does not fit", "pass --images, not --table"
        )


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
    available = hold_out.selection or selection
    if available is None or options.checked == 0:
        return None, False
    if hold_out.labels is not None:
        available = available.only(hold_out.labels)
    chosen = held_back(available, table, options.checked, used=used and hold_out.selection is None)
    try:
        evaluation = HoldOutEvaluation(
            source.model,
            source.preprocessing,
            chosen.images,
            hold_out.labels,
            source.path,
            options.calibration.threads,
        )
    except BadModelError:  # it has no class scores to compare
        raise
    except InputError:
        if options.budgets or options.ranked:
            raise
        return None, False  # a warning reports that nothing was compared
    return evaluation, chosen.unseen


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
    """Share of values clipped on the calibration images, for each tensor whose scale is the table's."""
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


def _doubts(measure: Measure | None, selection: ImageSelection | None, *, keep: bool) -> list[str]:
    """What the user should know about the result's quality.

    Raises:
        VerificationError: The result is ruined and is not to be kept.
    """
    if measure is None:
        remedy = ": pass --images" if selection is None else ""
        return [f"the result was not compared with the FP32 model{remedy}"]
    if measure.is_ruined:
        images = counted(measure.agreement.images, "image")
        what = f"the INT8 model is ruined: {measure.distance()} against FP32 on {images}"
        if not keep:
            raise VerificationError(f"{what}; nothing was written", RUINED_REMEDY)
        return [what]
    if measure.is_doubtful:
        where = "`evaluate INT8 --reference FP32` shows where"
        return [f"the result is far from the FP32 model ({measure.distance()}): {where}"]
    return []
