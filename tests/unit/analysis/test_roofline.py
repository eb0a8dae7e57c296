from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.analysis.roofline import Estimate, estimate, estimate_lines
from googlenet_deploy.cli.main import main
from googlenet_deploy.device.targets.target import load_target, target_names
from googlenet_deploy.errors import DeviceError, UsageError

# Caffe's Inception v1, with weights that are generated when it runs: the published net's shapes in a small file.
INCEPTION = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_inception_v1.onnx"
# The reference's published speeds: target, power mode, precision, milliseconds per image, batch.
PUBLISHED = [
    ("tx1", "MAXN", "fp16", 5.22, 64),
    ("tx1", "MAXN", "fp32", 10.87, 64),
    ("tx2", "MAXN", "fp16", 7.98, 1),
    ("tx2", "MAXN", "fp32", 12.8, 1),
    ("tx2", "MAXN", "fp16", 1e3 / 268, 16),
    ("tx2", "MAXP_CORE_ALL", "fp16", 1e3 / 233, 16),
    ("tx2", "MAXQ", "fp16", 1e3 / 182, 16),
    ("nano", "MAXN", "fp16", 16.0, 1),
    ("nano", "MAXN", "fp32", 43.4, 1),
    ("orin-nano", "MAXN_SUPER", "fp16", 8.2, 1),
    ("agx-orin", "MAXN", "fp16", 6.4, 1),
]


def bound_of(result: Estimate, mode: str) -> Any:
    return next(bound for bound in result.modes if bound.mode.name == mode)


@pytest.fixture
def two_layers(tmp_path: Path) -> Callable[..., Path]:
    """A convolution of 3x8x8 to 4x8x8 by 3x3 with bias and ReLU, then a concatenation with itself."""

    def write(dtype: Any = np.float32, batch: object = "batch", *, quantized: bool = False) -> Path:
        code = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16}[dtype]
        constants = {"w": np.ones((4, 3, 3, 3), dtype), "b": np.ones(4, dtype)}
        nodes = [
            helper.make_node("Conv", ["x", "w", "b"], ["a"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["r"], "relu"),
            helper.make_node("Concat", ["r", "r"], ["y"], "concat", axis=1),
        ]
        if quantized:
            constants.update(s=np.float32(0.1), z=np.int8(0), w=np.ones((4, 3, 3, 3), np.int8))
            nodes[0].input[:2] = ["d", "wd"]
            nodes[:0] = [
                helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dq"),
                helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"], "wdq"),
            ]
        graph = helper.make_graph(
            nodes,
            "two",
            [helper.make_tensor_value_info("x", code, [batch, 3, 8, 8])],
            [helper.make_tensor_value_info("y", code, [batch, 8, 8, 8])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        )
        path = tmp_path / "two.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), path)
        return path

    return write


def test_work_and_bytes_by_hand(two_layers: Callable[..., Path]) -> None:
    result = estimate(two_layers(), load_target("nano"), batch=2)
    conv, concat = result.layers
    assert (conv.kind, conv.multiply_adds) == ("fp32", 2 * 4 * 64 * 27)
    assert conv.weight_bytes == 4 * (108 + 4)
    # Reads the image, writes the ReLU's output, which is fused.
    assert conv.activation_bytes == 4 * 2 * 64 * (3 + 4)
    # Branches write straight into the concatenation.
    assert concat.activation_bytes == 0
    module = load_target("nano").module
    assert module is not None
    mode = module.power_modes[0]
    bound = bound_of(result, "MAXN")
    arithmetic = 2 * conv.multiply_adds / (256 * 921.6e6)
    memory = (conv.weight_bytes + conv.activation_bytes) / 25.6e9
    assert bound.roofline_ms == pytest.approx(1e3 * max(arithmetic, memory))
    through_memory_once = (conv.weight_bytes + 4 * 2 * 64 * (3 + 8)) / 25.6e9
    assert bound.floor_ms == pytest.approx(1e3 * max(arithmetic, through_memory_once))
    assert bound.joules == pytest.approx(mode.watts * bound.roofline_ms / 1e3 / 2)
    assert bound.limits[0][1] == ("arithmetic" if arithmetic > memory else "memory")


def test_types_of_the_model_its_gpu_and_the_user(two_layers: Callable[..., Path]) -> None:
    orin, nano = load_target("orin-nano"), load_target("nano")
    assert estimate(two_layers(np.float16), orin).layers[0].kind == "fp16"
    assert estimate(two_layers(), orin, precision="fp16").layers[0].kind == "fp16"
    quantized = two_layers(quantized=True)
    result = estimate(quantized, orin)
    assert result.layers[0].kind == "int8"
    assert result.layers[0].weight_bytes == 108 + 4 * 4
    assert "layers without Q/DQ count as FP16" in result.notes
    without = estimate(quantized, nano)
    assert without.layers[0].kind == "fp16"
    assert any("has no INT8" in note for note in without.notes)


def test_a_fixed_batch_is_the_models(two_layers: Callable[..., Path]) -> None:
    assert estimate(two_layers(batch=3), load_target("nano"), batch=8).batch == 3


def test_memory_is_what_lives_at_once(two_layers: Callable[..., Path]) -> None:
    result = estimate(two_layers(), load_target("nano"))
    # The concatenation holds its inputs in place.
    assert result.activation_bytes == 4 * 64 * 8
    assert result.memory_bytes == result.weight_bytes + result.activation_bytes


@pytest.mark.parametrize(("target", "mode", "precision", "published", "batch"), PUBLISHED)
def test_no_published_speed_is_below_its_bound(
    target: str, mode: str, precision: str, published: float, batch: int
) -> None:
    result = estimate(INCEPTION, load_target(target), precision=precision)
    bound = bound_of(result, mode)
    # The floor of one image holds for every batch: weights are read at least once per batch, and this counts arithmetic
    # as the limit on all of these GPUs but Orin's, whose published figures are far above.
    assert bound.floor_ms < published
    assert batch > 1 or bound.roofline_ms < published


def test_faster_modes_have_lower_bounds() -> None:
    for name in target_names():
        module = load_target(name).module
        assert module is not None
        if not module.power_modes:
            continue
        result = estimate(INCEPTION, load_target(name), precision="fp16")
        fastest = max(module.power_modes, key=lambda mode: module.peak("fp16", mode) or 0)
        assert min(bound.floor_ms for bound in result.modes) == pytest.approx(bound_of(result, fastest.name).floor_ms)
        assert all(bound.floor_ms <= bound.roofline_ms for bound in result.modes)


def test_a_larger_batch_costs_less_per_image(two_layers: Callable[..., Path]) -> None:
    path = two_layers(quantized=True)
    one, many = (estimate(path, load_target("orin-nano"), batch) for batch in (1, 16))
    assert many.modes[0].roofline_ms / 16 < one.modes[0].roofline_ms


def test_what_has_no_speed() -> None:
    with pytest.raises(UsageError, match="is software"):
        estimate(INCEPTION, load_target("jetpack-6.2"))


def test_a_type_without_a_published_rate(two_layers: Callable[..., Path]) -> None:
    with pytest.raises(DeviceError, match="thor has no published int8 rate"):
        estimate(two_layers(quantized=True), load_target("thor"))


def test_lines_are_labelled_as_bounds_with_their_assumptions(two_layers: Callable[..., Path]) -> None:
    text = "\n".join(estimate_lines(estimate(two_layers(), load_target("orin-nano")), layers=True))
    for part in ("bounds from published rates, no measurement", "FP32 100.0%", "no engine is faster than the floor"):
        assert part in text
    assert "mJ is that cap for the roofline's time, no bound in either direction" in text
    assert "layer, in MAXN_SUPER" in text
    assert "conv " in text


def test_command(two_layers: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "bounds.json"
    command = ["estimate", str(two_layers()), "--target", "agx-orin", "--batch", "4", "--json", str(report)]
    assert main(command) == 0
    values = json.loads(report.read_text())
    assert (values["batch"], values["target"]) == (4, "agx-orin")
    assert [mode["name"] for mode in values["modes"]] == ["MODE_15W", "MODE_30W", "MODE_50W", "MAXN"]
    assert values["sources"]
    assert "not in the profile, for lack of a source: " in capsys.readouterr().out
    assert main(["estimate", "nothing.onnx", "--target", "nano"]) == 1
    assert "cannot be read" in capsys.readouterr().err
