"""Quantised models answer the same on every processor: sums of integers do not saturate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner
from googlenet_deploy.graph.session import TensorSession

CHANNELS, CLASSES = 3, 5
Run = Callable[[ModelProto, np.ndarray], np.ndarray]


def in_session(model: ModelProto, images: np.ndarray) -> np.ndarray:
    return np.asarray(TensorSession(model).run(images)["scores"])


def in_runner(folder: Path) -> Run:
    def run(model: ModelProto, images: np.ndarray) -> np.ndarray:
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        with OnnxRuntimeRunner(path) as runner:
            return np.asarray(runner.run(images)["scores"])

    return run


@pytest.fixture(params=["session", "runner"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    return in_session if request.param == "session" else in_runner(tmp_path)


def quantised(kind: str, signed: bool) -> tuple[ModelProto, np.ndarray]:
    """A pointwise layer with the largest int8 weights, as `kind` of operator; and its weights."""
    weights = np.random.default_rng(1).choice(np.array([-127, 126, 127], np.int8), (CLASSES, CHANNELS, 1, 1))
    zero = np.int8(0) if signed else np.uint8(0)
    constants = {"s": np.float32(1), "z": zero, "ws": np.float32(1), "wz": np.int8(0), "ys": np.float32(1000)}
    constants["yz"] = np.int8(0) if signed else np.uint8(128)
    nodes = [helper.make_node("QuantizeLinear", ["input", "s", "z"], ["q"])]
    if kind == "QDQ":
        constants["w"] = weights
        nodes += [
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["dw"]),
            helper.make_node("Conv", ["d", "dw"], ["conv"]),
            helper.make_node("QuantizeLinear", ["conv", "ys", "yz"], ["made"]),
        ]
    elif kind == "QLinearConv":
        constants["w"] = weights
        inputs = ["q", "s", "z", "w", "ws", "wz", "ys", "yz"]
        nodes.append(helper.make_node("QLinearConv", inputs, ["made"]))
    else:
        constants["w"] = weights.reshape(CLASSES, CHANNELS)
        nodes.append(helper.make_node("Flatten", ["q"], ["flat"], axis=1))
        inputs = ["flat", "s", "z", "w", "ws", "wz", "", "ys", "yz"]
        nodes.append(helper.make_node("QGemm", inputs, ["made"], domain="com.microsoft", transB=1))
    top = helper.make_node("DequantizeLinear", ["made", "ys", "yz"], ["out"])
    nodes += [top, helper.make_node("Flatten", ["out"], ["scores"], axis=1)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", CHANNELS, 1, 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), weights.reshape(CLASSES, CHANNELS)


@pytest.mark.parametrize("signed", [False, True], ids=["uint8", "int8"])
@pytest.mark.parametrize("kind", ["QDQ", "QLinearConv", "QGemm"])
def test_large_products_do_not_saturate(run: Run, kind: str, signed: bool) -> None:
    model, weights = quantised(kind, signed)
    largest = 127 if signed else 255
    images = np.random.default_rng(2).choice(np.array([largest - 1, largest], np.float32), (8, CHANNELS, 1, 1))
    sums = images.reshape(8, CHANNELS).astype(np.int64) @ weights.T.astype(np.int64)
    assert np.abs(sums).max() > 2**15, "a sum in 16 bits would overflow"
    assert np.array_equal(run(model, images), np.clip(np.rint(sums / 1000), -128, 127) * 1000)
