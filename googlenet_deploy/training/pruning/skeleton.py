"""A GoogLeNet of given widths as an ONNX graph with zero weights, which suffices to predict latency.

Exporting a network takes seconds, and pruning evaluates hundreds of widths. The tests compare every layer's work with
that of the exported network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from googlenet_deploy.errors import requires
from googlenet_deploy.model.widths import STEM

with requires("train"):
    from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from torch import nn

    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.model.widths import Widths

OPSET, IR_VERSION = 17, 8
INPUT, LOGITS = "input", "logits"


class Skeleton:
    """Writes the graph of a network, with its kernels, strides and operators, for any widths.

    Args:
        model: The network.
        input_size: Height and width of the input, in pixels.
    """

    def __init__(self, model: GoogLeNet, input_size: int) -> None:
        self.model, self.input_size = model, input_size
        self.layers = model.convolutions()
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def build(self, widths: Widths) -> ModelProto:
        """The model with these widths, for one image."""
        self.nodes, self.weights = [], []
        self.outputs, self.inputs = widths.channels, widths.input_channels(self.model.in_channels)
        x = self._stem()
        for name in widths.modules:
            x = self._inception(name, x)
            pool = {"inception3b": self.model.maxpool3, "inception4e": self.model.maxpool4}.get(name)
            x = self._pool(f"{name}/pool", x, pool) if pool is not None else x
        x = self._add("GlobalAveragePool", "avgpool", x)
        x = self._add("Flatten", "flatten", x)
        classes = self.model.num_classes
        parameters = [self._zeros("fc/weight", classes, self.inputs["fc"]), self._zeros("fc/bias", classes)]
        self.nodes.append(helper.make_node("Gemm", [x, *parameters], [LOGITS], "fc", transB=1))
        size = [1, self.model.in_channels, self.input_size, self.input_size]
        graph = helper.make_graph(
            self.nodes,
            "skeleton",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, size)],
            [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [1, classes])],
            self.weights,
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)

    def _stem(self) -> str:
        model, (first, second, third) = self.model, STEM
        x = self._pool("maxpool1", self._convolution(first, INPUT, relu=True), model.maxpool1)
        x = self._normalisation("norm1", x)
        x = self._convolution(third, self._convolution(second, x, relu=True), relu=True)
        return self._pool("maxpool2", self._normalisation("norm2", x), model.maxpool2)

    def _inception(self, name: str, x: str) -> str:
        relu = self.model.architecture.inner_relu
        pooled = self._add("MaxPool", f"{name}/maxpool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])
        branches = [
            self._convolution(f"{name}.conv1x1", x, relu=relu),
            self._convolution(f"{name}.conv3x3", self._convolution(f"{name}.reduce3x3", x, relu=relu), relu=relu),
            self._convolution(f"{name}.conv5x5", self._convolution(f"{name}.reduce5x5", x, relu=relu), relu=relu),
            self._convolution(f"{name}.pool_proj", pooled, relu=relu),
        ]
        self.nodes.append(helper.make_node("Concat", branches, [f"{name}/concat"], f"{name}/concat", axis=1))
        return f"{name}/concat"

    def _convolution(self, name: str, x: str, *, relu: bool) -> str:
        layer = self.layers[name]
        kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
        parameters = [
            self._zeros(f"{name}/weight", self.outputs[name], self.inputs[name], kernel, kernel),
            self._zeros(f"{name}/bias", self.outputs[name]),
        ]
        self.nodes.append(
            helper.make_node("Conv", [x, *parameters], [name], name, strides=[stride] * 2, pads=[padding] * 4)
        )
        return self._add("Relu", f"{name}/relu", name) if relu else name

    def _pool(self, name: str, x: str, pool: nn.MaxPool2d) -> str:
        kernel, stride, padding = pool.kernel_size, pool.stride, pool.padding
        assert isinstance(kernel, int)
        assert isinstance(stride, int)
        assert isinstance(padding, int)
        shape, strides, pads = [kernel] * 2, [stride] * 2, [padding] * 4
        ceil_mode = int(pool.ceil_mode)
        return self._add("MaxPool", name, x, kernel_shape=shape, strides=strides, pads=pads, ceil_mode=ceil_mode)

    def _normalisation(self, name: str, x: str) -> str:
        return self._add("LRN", name, x, size=5) if self.model.architecture.local_response_norm else x

    def _add(self, operator: str, name: str, x: str, **attributes: Any) -> str:  # noqa: ANN401 - as ONNX takes them
        self.nodes.append(helper.make_node(operator, [x], [name], name, **attributes))
        return name

    def _zeros(self, name: str, *shape: int) -> str:
        self.weights.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
        return name
