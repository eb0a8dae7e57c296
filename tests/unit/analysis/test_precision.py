from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from small_models import small_model

from googlenet_deploy.analysis.costs import CostModel
from googlenet_deploy.analysis.inspect import float_layers, layer_type, work_by_type
from googlenet_deploy.cli.main import main
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata


def test_shares_of_the_work_and_what_is_left_in_float() -> None:
    layers = CostModel(small_model("qdq")).nodes()
    assert work_by_type(layers) == {"int8": pytest.approx(27 / 31), "float32": pytest.approx(4 / 31)}
    assert {layer.name: layer_type(layer) for layer in layers if layer.multiply_adds} == {
        "conv1": "int8",
        "conv2": "float32",
    }
    left = float_layers(layers, ModelMetadata())
    assert left == {"conv2": "no Q/DQ pair is before its input, its weights or both"}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ('{"float_nodes": {"conv2": "excluded by name"}}', "excluded by name"),
        ("{}", "no Q/DQ pair"),
        ("[]", "no Q/DQ pair"),
        ("nonsense", "no Q/DQ pair"),
        ('{"float_nodes": 3}', "no Q/DQ pair"),
    ],
)
def test_the_reason_is_what_quantize_wrote_down(record: str, reason: str) -> None:
    layers = CostModel(small_model("qdq")).nodes()
    assert reason in float_layers(layers, ModelMetadata(extra={"quantization": record}))["conv2"]


def test_float_models_leave_nothing_behind() -> None:
    layers = CostModel(small_model()).nodes()
    assert float_layers(layers, ModelMetadata()) == {}
    assert work_by_type(layers) == {"float32": 1.0}
    assert work_by_type([]) == {}


def test_inspect_prints_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, report = tmp_path / "m.onnx", tmp_path / "m.json"
    onnx.save(small_model("qdq"), path)
    assert main(["inspect", str(path), "--totals", "--json", str(report)]) == 0
    printed = capsys.readouterr().out
    assert "by type        int8 87.1%, float32 12.9% of the multiply-adds" in printed
    assert "in float       conv2: no Q/DQ pair" in printed
    values = json.loads(report.read_text())
    assert list(values["float_layers"]) == ["conv2"]
    assert values["totals"]["multiply_adds_by_type"]["int8"] == pytest.approx(27 / 31)
