"""A small net with everything that the conversions for CPUs change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def build_net(path: Path, *, quantized: bool, stored: bool = False, opset: int = 17, seed: int = 0) -> Path:
    """conv1 - LRN - conv2 - two branches - Concat - MaxPool - conv3 - average - classifier, as in GoogLeNet.

    Args:
        path: Where to write it.
        quantized: Put Q/DQ pairs before the convolutions and the classifier, as `quantize` does.
        stored: Keep weights as INT8 instead of floats before a QuantizeLinear.
        opset: Opset of the model.
        seed: Seed of the weights.
    """
    from onnx import TensorProto, checker, helper, numpy_helper, save

    rng = np.random.default_rng(seed)
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def pair(tensor: str, scale: float) -> str:
        if not quantized:
            return tensor
        constant(f"{tensor}/scale", np.float32(scale))
        constant(f"{tensor}/zero", np.int8(0))
        arguments = [f"{tensor}/scale", f"{tensor}/zero"]
        nodes.append(helper.make_node("QuantizeLinear", [tensor, *arguments], [f"{tensor}/q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{tensor}/q", *arguments], [f"{tensor}/dq"]))
        return f"{tensor}/dq"

    def weight(name: str, shape: tuple[int, ...]) -> str:
        value = rng.normal(0, 0.3, shape).astype(np.float32)
        if not quantized:
            return constant(name, value)
        scale = (np.abs(value.reshape(shape[0], -1)).max(1) / 127).astype(np.float32)
        arguments = [constant(f"{name}/scale", scale), constant(f"{name}/zero", np.zeros(shape[0], np.int8))]
        if stored:
            codes = np.rint(value / scale.reshape(-1, *[1] * (len(shape) - 1))).astype(np.int8)
            constant(f"{name}/q", codes)
        else:
            nodes.append(helper.make_node("QuantizeLinear", [constant(name, value), *arguments], [f"{name}/q"], axis=0))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}/q", *arguments], [f"{name}/dq"], axis=0))
        return f"{name}/dq"

    def conv(source: str, target: str, size: int, channels: tuple[int, int]) -> str:
        inputs = [source, weight(f"{target}/w", (*channels, size, size))]
        inputs.append(constant(f"{target}/b", rng.normal(0, 0.1, channels[0]).astype(np.float32)))
        pads = [size // 2] * 4
        kernel = {"kernel_shape": [size, size], "pads": pads}
        nodes.append(helper.make_node("Conv", inputs, [f"{target}/conv"], f"{target}/conv", **kernel))
        nodes.append(helper.make_node("Relu", [f"{target}/conv"], [target], target))
        return target

    first = conv(pair("x", 1 / 64), "a", 3, (8, 3))
    nodes.append(helper.make_node("LRN", [first], ["n"], "n", size=5, alpha=1e-2, beta=0.75, bias=1.0))
    second = pair(conv(pair("n", 0.02), "b", 1, (8, 8)), 0.03)
    branches = [conv(second, "c", 1, (4, 8)), conv(second, "d", 3, (6, 8))]
    nodes.append(helper.make_node("Concat", branches, ["e"], "e", axis=1))
    joined = pair("e", 0.04)
    nodes.append(helper.make_node("MaxPool", [joined], ["p"], "p", kernel_shape=[2, 2], strides=[2, 2]))
    last = conv(pair("p", 0.04), "f", 3, (5, 10))
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["g"], "g"))
    nodes.append(helper.make_node("Flatten", ["g"], ["h"], "h"))
    inputs = [pair("h", 0.03), weight("fc/w", (4, 5)), constant("fc/b", np.zeros(4, np.float32))]
    nodes.append(helper.make_node("Gemm", inputs, ["logits"], "fc", transB=1))
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 16, 16])
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph(nodes, "net", [image], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    checker.check_model(model)
    save(model, str(path))
    return path
