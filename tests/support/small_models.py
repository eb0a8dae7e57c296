"""Small ONNX models for the engine builder, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.specification import Preprocessing

SPECIFICATION = Preprocessing(resize=10, crop=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
KINDS = ("fp32", "qdq", "foo")


def small_model(kind: str = "fp32", batch: object = "batch", opset: int = 13, *, described: bool = True) -> Any:
    """conv1, norm (LRN), conv2; "qdq" with pairs around conv1, "foo" with an unknown operator.

    Args:
        kind: One of `KINDS`.
        batch: Batch size of the input.
        opset: ONNX opset.
        described: Whether it states how images are prepared.
    """
    generator = np.random.default_rng(3)
    weights = generator.standard_normal((4, 3, 3, 3)).astype(np.float32)
    constants: dict[str, Any] = {"w1": weights, "w2": generator.standard_normal((4, 4, 1, 1)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["a"], "conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("LRN", ["a"], ["b"], "norm", size=5),
        helper.make_node("Conv", ["b", "w2"], ["logits"], "conv2", kernel_shape=[1, 1]),
    ]
    if kind == "qdq":
        constants.update(s=np.float32(0.02), z=np.int8(0), ws=np.full(4, 0.03, np.float32), wz=np.zeros(4, np.int8))
        nodes[0].input[:] = ["d", "wd"]
        nodes[:0] = [
            helper.make_node("QuantizeLinear", ["input", "s", "z"], ["q"], "q"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dq"),
            helper.make_node("QuantizeLinear", ["w1", "ws", "wz"], ["wq"], "wq", axis=0),
            helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], "wdq", axis=0),
        ]
    if kind == "foo":
        nodes[1] = helper.make_node("Foo", ["a"], ["b"], "strange")
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 4, 8, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    if described:
        metadata = ModelMetadata(architecture="bvlc", preprocessing=SPECIFICATION).to_properties()
        helper.set_model_props(model, metadata)
    return model


def write_small_model(path: Path, kind: str = "fp32", **options: Any) -> str:
    """Writes the model; returns the path as text."""
    path.write_bytes(small_model(kind, **options).SerializeToString())
    return str(path)
