"""INT8 sums do not saturate, whatever ONNX Runtime's optimiser would make of the Q/DQ on this processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from googlenet_deploy.device.runner import exact_sums
from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner
from googlenet_deploy.device.runner.select import open_runner

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the check that onnx is there

CHANNELS, CLASSES, SIZE, SCALE = 16, 4, 6, 0.05


def weights(kernel: int) -> Any:
    """Codes near both ends of INT8, so that two products of full codes exceed 16 bits."""
    signs = np.where(np.arange(CLASSES)[:, None, None, None] % 2, -1, 1)
    rows = np.random.default_rng(kernel).integers(100, 128, (CLASSES, CHANNELS, kernel, kernel))
    return (rows * signs).astype(np.int8)


def model_of_a_convolution(path: Path, kernel: int, kind: Any, zero: int, relu: bool) -> Path:
    """Q, DQ, Conv, perhaps Relu, Q, DQ, average: (1, 16, 6, 6) to 4 scores."""
    top = 127.0 * 127 * SCALE * 0.01 * CHANNELS * kernel * kernel / 100
    constants = {
        "scale": np.float32(SCALE), "zero": np.array(zero, kind), "w": weights(kernel),
        "w_scale": np.full(CLASSES, 0.01, np.float32), "w_zero": np.zeros(CLASSES, np.int8),
        "y_scale": np.float32(top), "y_zero": np.array(0 if kind is np.int8 else 128, kind),
    }  # fmt: skip
    last = "r" if relu else "c"
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["c"], kernel_shape=[kernel, kernel]),
        *([helper.make_node("Relu", ["c"], ["r"])] if relu else []),
        helper.make_node("QuantizeLinear", [last, "y_scale", "y_zero"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "y_scale", "y_zero"], ["yd"]),
        helper.make_node("GlobalAveragePool", ["yd"], ["p"]),
        helper.make_node("Flatten", ["p"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def expected(image: Any, kernel: int, kind: Any, zero: int, relu: bool) -> Any:
    """The scores by the definitions of the operators, in 64 bits."""
    limits = np.iinfo(kind)
    codes = np.clip(np.rint(image / np.float32(SCALE)) + zero, limits.min, limits.max) - zero
    windows = np.lib.stride_tricks.sliding_window_view(codes, (kernel, kernel), (1, 2))
    values = np.einsum("cyxij,ocij->oyx", windows, weights(kernel).astype(np.float64)) * SCALE * 0.01
    values = np.maximum(values, 0) if relu else values
    top = np.float64(np.float32(127.0 * 127 * SCALE * 0.01 * CHANNELS * kernel * kernel / 100))
    offset = 0 if kind is np.int8 else 128
    stored = np.clip(np.rint(values / top) + offset, limits.min, limits.max) - offset
    return (stored * top).mean((1, 2))


@pytest.mark.parametrize("as_is", [False, True])
@pytest.mark.parametrize(
    ("kind", "zero", "relu"),
    [
        (np.int8, 0, True),  # our own INT8: signed in, never negative out
        (np.int8, 0, False),  # signed in and out, as inside the plain network's modules
        (np.uint8, 128, True),  # other tools' models
        (np.uint8, 0, False),
    ],
)
@pytest.mark.parametrize("kernel", [1, 3])
def test_sums_beyond_16_bits_are_exact(
    tmp_path: Path, kernel: int, kind: Any, zero: int, relu: bool, as_is: bool
) -> None:
    path = model_of_a_convolution(tmp_path / "m.onnx", kernel, kind, zero, relu)
    low, high = (-128 * SCALE, 127 * SCALE) if zero or kind is np.int8 else (0.0, 255 * SCALE)
    image = np.random.default_rng(5).uniform(0.6 * high, high, (CHANNELS, SIZE, SIZE)).astype(np.float32)
    image[::4] = low
    with open_runner(path, "onnxruntime", as_is=as_is) as runner:
        scores = runner.run(image[None])["logits"][0]
    wanted = expected(image, kernel, kind, zero, relu)
    assert np.abs(wanted).max() > 0
    # One code of a few of the averaged pixels may round to the other side.
    step = 127.0 * 127 * SCALE * 0.01 * CHANNELS * kernel * kernel / 100
    np.testing.assert_allclose(scores, wanted, atol=0.2 * step)


@pytest.mark.parametrize(("x86", "exact", "off"), [(True, False, True), (True, True, False), (False, False, False)])
def test_fusions_are_switched_off_only_where_sums_saturate(
    monkeypatch: pytest.MonkeyPatch, x86: bool, exact: bool, off: bool
) -> None:
    import onnxruntime

    monkeypatch.setattr(exact_sums, "is_x86", lambda: x86)
    monkeypatch.setattr(exact_sums, "sums_int8_exactly", lambda: exact)
    options = onnxruntime.SessionOptions()
    exact_sums.keep_sums_exact(options)
    if off:
        assert options.get_session_config_entry("session.disable_quant_qdq") == "1"
    else:
        with pytest.raises(RuntimeError):
            options.get_session_config_entry("session.disable_quant_qdq")


def test_the_form_answers_as_the_model_does(tmp_path: Path) -> None:
    path = model_of_a_convolution(tmp_path / "m.onnx", 3, np.int8, 0, True)
    image = np.full((1, CHANNELS, SIZE, SIZE), 127 * SCALE, np.float32)
    with OnnxRuntimeRunner(path) as form, OnnxRuntimeRunner(path, as_is=True) as plain:
        np.testing.assert_allclose(form.run(image)["logits"], plain.run(image)["logits"], rtol=1e-5)
