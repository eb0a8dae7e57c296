"""Small nets built in code: GoogLeNet's shapes without its size, for the tests of calibration and its commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.graph.files import store_metadata

SIZE, CLASSES = 16, 6
SPECIFICATION = Preprocessing(
    resize=SIZE, crop=(SIZE, SIZE), channels="BGR", scale=1.0, mean=(104, 117, 123), std=(1,) * 3
)


class Net:
    """Builds a graph layer by layer; every layer is named after the tensor that it makes."""

    def __init__(self, seed: int = 0, batch: object = "batch", opset: int = 17) -> None:
        self.generator = np.random.default_rng(seed)
        self.batch, self.opset = batch, opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.channels = {"input": 3}

    def add(self, operator: str, sources: Sequence[str], name: str, **attributes: Any) -> str:
        """Adds any operator that keeps the channels of its first input."""
        self.nodes.append(helper.make_node(operator, list(sources), [name], name, **attributes))
        self.channels.setdefault(name, self.channels.get(sources[0], 0))
        return name

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def pair(self, source: str, name: str = "", scale: Any = 0.1, zero: Any = 0, **attributes: Any) -> str:
        """Adds a Q/DQ pair on a tensor or constant; a NumPy `zero` sets the integer type, else int8."""
        stem = name or f"{source}/pair"
        points = np.asarray(zero) if isinstance(zero, (np.generic, np.ndarray)) else np.asarray(zero, np.int8)
        self.constant(f"{stem}/scale", np.asarray(scale, np.float32))
        self.constant(f"{stem}/zero", points)
        parameters = [f"{stem}/scale", f"{stem}/zero"]
        self.channels[f"{stem}/q"] = self.channels[stem] = self.channels.get(source, 0)
        self.add("QuantizeLinear", [source, *parameters], f"{stem}/q", **attributes)
        return self.add("DequantizeLinear", [f"{stem}/q", *parameters], stem, **attributes)

    def stored(self, name: str, values: Any, scale: Any, zero: Any = 0, axis: int = 0) -> str:
        """Adds a constant that is stored quantised, followed by its DequantizeLinear."""
        array = self.constants[self.constant(f"{name}/integers", values)]
        self.constant(f"{name}/scale", np.asarray(scale, np.float32))
        self.constant(f"{name}/zero", np.full(np.shape(scale), zero, array.dtype))
        self.channels[name] = 0
        return self.add("DequantizeLinear", [f"{name}/integers", f"{name}/scale", f"{name}/zero"], name, axis=axis)

    def conv(self, source: str, name: str, channels: int, kernel: int = 1, stride: int = 1, relu: bool = True) -> str:
        depth = self.channels[source]
        weight = self.generator.standard_normal((channels, depth, kernel, kernel)) / np.sqrt(depth * kernel * kernel)
        self.constant(f"{name}.weight", weight.astype(np.float32))
        self.constant(f"{name}.bias", (self.generator.standard_normal(channels) * 0.1).astype(np.float32))
        made = f"{name}/conv" if relu else name
        pads = [kernel // 2] * 4
        self.channels[made] = self.channels[name] = channels
        self.add(
            "Conv", [source, f"{name}.weight", f"{name}.bias"], made,
            kernel_shape=[kernel] * 2, pads=pads, strides=[stride] * 2,
        )  # fmt: skip
        return self.add("Relu", [made], name) if relu else made

    def max_pool(self, source: str, name: str, stride: int = 2) -> str:
        return self.add("MaxPool", [source], name, kernel_shape=[3, 3], strides=[stride] * 2, pads=[1] * 4)

    def lrn(self, source: str, name: str) -> str:
        return self.add("LRN", [source], name, size=5, alpha=1e-4, beta=0.75, bias=1.0)

    def concat(self, sources: Sequence[str], name: str) -> str:
        self.channels[name] = sum(self.channels[source] for source in sources)
        return self.add("Concat", sources, name, axis=1)

    def inception(self, source: str, name: str, width: int = 4) -> str:
        first = self.conv(source, f"{name}/branch1", width)
        second = self.conv(self.conv(source, f"{name}/branch2/0", width), f"{name}/branch2/1", 2 * width, 3)
        third = self.conv(self.conv(source, f"{name}/branch3/0", width), f"{name}/branch3/1", width, 5)
        fourth = self.conv(self.max_pool(source, f"{name}/branch4/0", 1), f"{name}/branch4/1", width)
        return self.concat([first, second, third, fourth], name)

    def classifier(self, source: str, classes: int = CLASSES) -> str:
        flat = self.add("Flatten", [self.add("GlobalAveragePool", [source], "average_pool")], "flatten", axis=1)
        depth = self.channels[source]
        self.constant("fc.weight", (self.generator.standard_normal((classes, depth)) / depth).astype(np.float32))
        self.constant("fc.bias", self.generator.standard_normal(classes).astype(np.float32) * np.float32(0.01))
        return self.add("Gemm", [flat, "fc.weight", "fc.bias"], "logits", transB=1)

    def model(self, outputs: Sequence[str] = ("logits",), classes: int = CLASSES) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [self.batch, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [self.batch, classes]) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        model = onnx.shape_inference.infer_shapes(model)
        store_metadata(model, ModelMetadata("bvlc", SPECIFICATION, tuple(f"class {i}" for i in range(classes))))
        onnx.checker.check_model(model, full_check=True)
        return model


def build_mini(seed: int = 0, batch: object = "batch", opset: int = 17) -> onnx.ModelProto:
    """A small GoogLeNet: stem with two LRNs, two Inception modules, a pool between them, the classifier."""
    net = Net(seed, batch, opset)
    top = net.lrn(net.max_pool(net.conv("input", "conv1", 8, 5, 2), "maxpool1"), "norm1")
    top = net.lrn(net.conv(net.conv(top, "conv2", 8), "conv3", 12, 3), "norm2")
    top = net.inception(net.max_pool(top, "maxpool2", 1), "inception3a")
    top = net.inception(net.max_pool(top, "maxpool3"), "inception4a")
    net.classifier(top)
    return net.model()


def build_tiny(seed: int = 0, batch: object = "batch") -> onnx.ModelProto:
    """Two convolutions and the classifier: for tests in which the shape of the net does not matter."""
    net = Net(seed, batch)
    net.classifier(net.conv(net.max_pool(net.conv("input", "conv1", 6, 3), "maxpool1"), "conv2", 8, 3))
    return net.model()
