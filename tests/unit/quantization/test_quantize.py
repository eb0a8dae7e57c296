"""From a model and a table, or images, to a checked Q/DQ model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest

from googlenet_deploy.calibration.calibrate import CalibrationSource, open_source
from googlenet_deploy.calibration.images import ArrayBatches, Batches, ImageSelection, select_images
from googlenet_deploy.calibration.options import CalibrationOptions, PlacementOptions
from googlenet_deploy.calibration.table import CalibrationTable
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.errors import BadModelError, BadTableError, InputError, UsageError, VerificationError
from googlenet_deploy.graph.files import read_metadata
from googlenet_deploy.quantization import quantize as module
from googlenet_deploy.quantization.accuracy_probe import compare
from googlenet_deploy.quantization.findings import ERROR, Finding
from googlenet_deploy.quantization.mixed_precision.search import Budget
from googlenet_deploy.quantization.quantize import (
    HoldOutImages,
    QuantizationOptions,
    QuantizationResult,
    quantize,
    table_hash,
)
from googlenet_deploy.quantization.quantized_model import QuantizedModel, round_to_nearest
from googlenet_deploy.quantization.refine.bias_correction import correct_biases
from googlenet_deploy.quantization.refine.weight_mse import choose_weight_scales

QUIET = CalibrationOptions(quiet=True)


@pytest.fixture
def source(tiny: Callable, model_file: Callable) -> CalibrationSource:
    """Two convolutions and a classifier, in a file."""
    return open_source(model_file(tiny()))


@pytest.fixture
def selection(picture_folder: Path) -> ImageSelection:
    """Twenty of forty pictures."""
    return select_images(picture_folder, 20)


def run(
    source: CalibrationSource, table: CalibrationTable | None, selection: Any, **options: Any
) -> QuantizationResult:
    steps = {key: options.pop(key) for key in ("before", "after", "hold_out") if key in options}
    return quantize(source, table, selection, QuantizationOptions(calibration=QUIET, **options), **steps)


def test_from_images(source: CalibrationSource, selection: ImageSelection) -> None:
    result = run(source, None, selection)
    assert result.unseen
    assert result.agreement is not None
    assert result.agreement.images == 20
    assert result.table.images.count == 20
    assert result.findings == []
    assert result.precision is None
    assert [node.op_type for node in result.model.graph.node].count("QuantizeLinear") == 8


def test_from_a_table_alone_says_that_nothing_was_compared(
    source: CalibrationSource, selection: ImageSelection
) -> None:
    table = run(source, None, selection).table
    result = run(source, table, None)
    assert result.agreement is None
    assert not result.unseen
    assert result.warnings == ["the result was not compared with the FP32 model: pass --images"]
    assert run(source, table, selection, checked=0).agreement is None


def test_the_methods_threshold_is_used(source: CalibrationSource, selection: ImageSelection) -> None:
    table = run(source, None, selection).table
    result = run(source, table, None, method="max")
    assert result.quantized.scales["conv2"] == pytest.approx(table.amax("conv2", "max") / 127, rel=1e-6)
    properties = read_metadata("m", result.model).extra
    assert json.loads(properties["quantization"])["method"] == "max"
    with pytest.raises(BadTableError, match="no threshold by method 'median'"):
        run(source, table, None, method="median")


def test_the_record_of_what_was_done(source: CalibrationSource, selection: ImageSelection) -> None:
    result = run(source, None, selection, placement=PlacementOptions(quantize_classifier=False))
    record = json.loads(read_metadata("m", result.model).extra["quantization"])
    assert record["fp32_sha256"] == source.sha256
    assert record["table_sha256"] == table_hash(result.table)
    assert record["float_nodes"] == {"logits": "the classifier is not quantised"}
    assert record["calibration_images"] == 20
    assert set(record["saturated"]) == set(result.quantized.plan.tensors)
    assert "budget" not in record


def test_shares_of_scales_that_a_refinement_changed_are_not_claimed(
    source: CalibrationSource, selection: ImageSelection
) -> None:
    def wider(quantized: QuantizedModel, _batches: Batches) -> QuantizedModel:
        return replace(
            quantized, scales={**quantized.scales, "input": 2 * quantized.scales["input"]}, notes={"wider": "yes"}
        )

    result = run(source, None, selection, after=[wider], checked=0)
    record = json.loads(read_metadata("m", result.model).extra["quantization"])
    assert "input" not in record["saturated"]
    assert record["steps"] == {"wider": "yes"}


def test_steps_ahead_change_what_is_calibrated(source: CalibrationSource, selection: ImageSelection) -> None:
    def doubled(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Mapping[str, str]]:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        for tensor in changed.graph.initializer:
            if tensor.name.startswith("conv1."):
                value = onnx.numpy_helper.to_array(tensor) * np.float32(2)
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
        return changed, {"doubled": "conv1"}

    plain, changed = run(source, None, selection), run(source, None, selection, before=[doubled], checked=0)
    assert changed.table.amax("conv1", "max") == pytest.approx(2 * plain.table.amax("conv1", "max"), rel=1e-5)
    assert changed.quantized.notes == {"doubled": "conv1"}
    with pytest.raises(UsageError, match="its table does not fit"):
        run(source, plain.table, selection, before=[doubled])


def test_what_is_needed_is_asked_for(source: CalibrationSource, selection: ImageSelection) -> None:
    with pytest.raises(UsageError, match="images or a calibration table are needed"):
        run(source, None, None)
    table = run(source, None, selection).table
    assert run(source, table, None, after=[choose_weight_scales]).quantized.notes["weight scales"]
    with pytest.raises(InputError, match="refinements"):
        run(source, table, None, after=[correct_biases])


def test_images_that_a_refinement_could_not_use_are_told(
    source: CalibrationSource, selection: ImageSelection, tmp_path: Path
) -> None:
    table = run(source, None, selection).table
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no picture")
    some = ImageSelection((ImageSource(str(damaged)), *selection.chosen), ())
    result = run(source, table, some, after=[partial(correct_biases, quiet=True)], checked=0)
    assert str(damaged) in [image.name for image in result.skipped]


def test_a_result_that_breaks_a_rule_is_not_given(source: CalibrationSource, selection: ImageSelection) -> None:
    finding = Finding(ERROR, "made-up", "conv1", "is wrong")
    with (
        mock.patch.object(module, "lint_model", return_value=[finding]),
        pytest.raises(VerificationError, match="breaks a rule of TensorRT: conv1: is wrong"),
    ):
        run(source, None, selection)


def widened(table: CalibrationTable, factor: float) -> CalibrationTable:
    """A table whose ranges are all too wide."""
    records = [
        replace(record, amax={name: factor * value for name, value in record.amax.items()}) for record in table.records
    ]
    return replace(table, records=tuple(records))


def test_a_result_far_from_fp32_is_doubted(source: CalibrationSource, selection: ImageSelection) -> None:
    table = run(source, None, selection).table
    result = run(source, widened(table, 40.0), selection)
    assert result.measure is not None
    assert 0 < result.measure.sqnr < 15
    assert any("`evaluate INT8 --reference FP32` shows where" in warning for warning in result.warnings)


@pytest.mark.parametrize("factor", [1e4, 1e6])
def test_a_ruined_result_is_refused_unless_it_is_to_be_kept(
    source: CalibrationSource, selection: ImageSelection, factor: float
) -> None:
    table = widened(run(source, None, selection).table, factor)
    with pytest.raises(VerificationError, match=r"the INT8 model is ruined: .* nothing was written"):
        run(source, table, selection)
    kept = run(source, table, selection, keep_doubtful=True)
    assert kept.warnings[0].startswith("the INT8 model is ruined")


def test_a_refinement_that_harms_is_undone_and_the_next_one_still_tried(
    source: CalibrationSource, selection: ImageSelection
) -> None:
    def coarser(quantized: QuantizedModel, _batches: Batches) -> QuantizedModel:
        scales = {name: 9 * scale for name, scale in quantized.scales.items()}
        return replace(quantized, scales=scales, notes={**quantized.notes, "coarser": "done"})

    def noted(quantized: QuantizedModel, _batches: Batches) -> QuantizedModel:
        return replace(quantized, notes={**quantized.notes, "noted": "done"})

    plain, result = run(source, None, selection), run(source, None, selection, after=[coarser, noted])
    assert result.quantized.notes["coarser"].startswith("undone: it changed the SQNR on 20 hold-out images from")
    assert result.quantized.notes["noted"] == "done"
    assert result.quantized.scales == plain.quantized.scales
    assert result.measure is not None
    assert plain.measure is not None
    assert result.measure.sqnr == pytest.approx(plain.measure.sqnr, abs=1e-9)


def test_a_change_of_the_model_that_harms_is_undone(source: CalibrationSource, selection: ImageSelection) -> None:
    def smaller(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Mapping[str, str]]:
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        for tensor in changed.graph.initializer:
            if tensor.name == "conv1.weight":
                value = onnx.numpy_helper.to_array(tensor) * np.float32(0.5)
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
        return changed, {"smaller": "conv1"}

    plain, result = run(source, None, selection), run(source, None, selection, before=[smaller])
    assert result.quantized.notes["smaller"].startswith("undone")
    assert result.table == plain.table


class TestHoldOutImages:
    """Images that the result is compared on."""

    def test_other_images_than_those_at_hand(
        self, source: CalibrationSource, selection: ImageSelection, picture_folder: Path, tmp_path: Path
    ) -> None:
        for path in sorted(picture_folder.iterdir())[:7]:
            (tmp_path / f"copy of {path.name}").write_bytes(path.read_bytes())
        others = select_images(tmp_path, None)
        used = {Path(image.name).name for image in selection.chosen}
        result = run(source, None, selection, hold_out=HoldOutImages(others))
        assert result.agreement is not None
        unseen = [image for image in others.chosen if Path(image.name).name.removeprefix("copy of ") not in used]
        assert result.agreement.images == len(unseen) < 7
        assert result.unseen

    def test_with_a_table_alone(self, source: CalibrationSource, selection: ImageSelection) -> None:
        table = run(source, None, selection).table
        result = run(source, table, None, hold_out=HoldOutImages(ImageSelection((), selection.others)))
        assert result.agreement is not None
        assert result.unseen

    def test_unreadable_ones_leave_the_result_uncompared(
        self, source: CalibrationSource, selection: ImageSelection
    ) -> None:
        gone = HoldOutImages(ImageSelection((ImageSource("gone.png"),), ()))
        result = run(source, None, selection, hold_out=gone)
        assert result.agreement is None
        with pytest.raises(InputError, match="none of the hold-out images can be used"):
            run(source, None, selection, hold_out=gone, ranked=True)

    @pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax"])
    def test_a_model_without_class_scores_is_refused_rather_than_left_uncompared(
        self, tiny: Callable, model_file: Callable, selection: ImageSelection, operator: str
    ) -> None:
        model = tiny()
        model.graph.node.append(onnx.helper.make_node(operator, ["logits"], ["single"], "single", axes=[1]))
        model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("single", onnx.TensorProto.FLOAT, [None, 1]))
        source = open_source(model_file(model))
        with pytest.raises(BadModelError, match="none of its outputs has one score per class") as caught:
            run(source, None, selection)
        assert "--check-images 0" in (caught.value.remedy or "")
        assert run(source, None, selection, checked=0).agreement is None

    def test_skipped_ones_are_reported(self, source: CalibrationSource, selection: ImageSelection) -> None:
        some = ImageSelection((), (ImageSource("gone.png"), *selection.others))
        assert [image.name for image in run(source, None, selection, hold_out=HoldOutImages(some)).skipped] == [
            "gone.png"
        ]

    def test_a_budget_on_top1_takes_labelled_ones_alone(
        self, source: CalibrationSource, selection: ImageSelection
    ) -> None:
        labels = {image.name: 0 for image in selection.others[:6]}
        result = run(source, None, selection, hold_out=HoldOutImages(None, labels), budgets=(Budget("top1", 50.0),))
        assert result.agreement is not None
        assert result.agreement.images == 6
        assert result.precision is not None
        assert result.precision.trial is not None
        assert result.precision.trial.measure.paired is not None

    def test_a_budget_is_recorded(self, source: CalibrationSource, selection: ImageSelection) -> None:
        plain = run(source, None, selection)
        assert plain.agreement is not None
        result = run(source, plain.table, selection, budgets=(Budget("sqnr", plain.agreement.sqnr + 1),), checked=20)
        record = json.loads(read_metadata("m", result.model).extra["quantization"])
        assert record["budget"]["wanted"] == {"sqnr": plain.agreement.sqnr + 1}
        assert set(record["float_nodes"]) == set(result.precision.kept if result.precision else ())
        assert len(record["float_nodes"]) >= 1


class TestCompare:
    """Two models on the same batches."""

    def test_itself(self, tiny: Callable, pictures: Callable) -> None:
        agreement = compare(tiny(), tiny(), ArrayBatches(pictures(5), 2)).agreement
        assert (agreement.images, agreement.equal, agreement.noise) == (5, 5, 0.0)

    def test_no_images(self, tiny: Callable, pictures: Callable) -> None:
        with pytest.raises(InputError, match="there are none to compare"):
            compare(tiny(), tiny(), ArrayBatches(pictures(5)[:0], 2))

    def test_nan(self, tiny: Callable, pictures: Callable) -> None:
        broken = tiny()
        for tensor in broken.graph.initializer:
            if tensor.name == "fc.bias":
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(6, np.inf, np.float32), tensor.name))
        with pytest.raises(VerificationError, match="NaN or infinite"):
            compare(tiny(), broken, ArrayBatches(pictures(2), 2))


def test_a_draft_takes_the_tables_scales(mini: Callable, mini_table: CalibrationTable) -> None:
    quantized = round_to_nearest(mini(), mini_table, method="max")
    assert quantized.scales["maxpool2"] == quantized.scales["inception3a/branch4/0"]
    assert quantized.scales["input"] == pytest.approx(mini_table.amax("input", "max") / 127, rel=1e-6)
    assert set(quantized.weights) == {node.name for node in quantized.plan.nodes}
    short = replace(mini_table, records=mini_table.records[1:])
    with pytest.raises(BadTableError, match="contains nothing about tensor 'input'"):
        round_to_nearest(mini(), short)
