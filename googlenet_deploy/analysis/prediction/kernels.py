"""The kernels that TensorRT builds from a model's layers, each with its work and the shape of its matrix product.

The fusions are those that TensorRT's builder reports for such networks: convolution, bias and activation in one kernel;
the sum of a residual block in the convolution before it; parallel 1x1 convolutions on the same tensor, such as the
reductions of an inception block ("3x3_reduce || 5x5_reduce" in its logs), in one; Concat at no cost; Q/DQ inside their
neighbours. Pools, LRN and Softmax are separate kernels, and so is a change of type between two layers.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from googlenet_deploy.analysis.costs import element_count
from googlenet_deploy.analysis.layer_work import BYTES, LayerWork, ModelWork
from googlenet_deploy.errors import requires
from googlenet_deploy.graph.graph import integers

with requires("export"):
    from onnx import NodeProto, TensorProto

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_CONVOLUTION_RANK = 3  # output channels, input channels, and at least one dimension of the window
_SUMS = ("Add", "Sum")
_INPUT_KINDS: dict[int, str] = {
    TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16", TensorProto.UINT8: "int8",
}  # fmt: skip


@dataclass(frozen=True)
class Kernel:
    """One launch on the GPU.

    Attributes:
        name: The layers that it computes, joined by " + ".
        operator: The ONNX operator of its first layer; "Reformat" for a change of type.
        kind: Type that it computes in: "int8", "fp16", "bf16" or "fp32".
        multiply_adds: Multiply-adds for the whole batch.
        weight_bytes: Bytes of weights read from memory.
        activation_bytes: Bytes of activations read from and written to memory.
        rows: Rows of the product's result: the batch's output positions; 0 without a product.
        columns: Columns of the result: output channels per group.
        depth: Length of the sums: kernel positions times input channels per group.
        inputs: Input channels per group.
        groups: Number of groups; equal to the number of channels in a depthwise convolution.
        plain_3x3: Whether it is a 3x3 convolution with stride 1 and one group.
    """

    name: str
    operator: str
    kind: str
    multiply_adds: int
    weight_bytes: int
    activation_bytes: int
    rows: int = 0
    columns: int = 0
    depth: int = 0
    inputs: int = 0
    groups: int = 1
    plain_3x3: bool = False


class _Fusion:
    """Walks a model's layers and merges those that TensorRT computes in one kernel."""

    def __init__(self, work: ModelWork) -> None:
        self.work = work
        self.nodes = {node.name: node for node in work.graph.node}
        self.readers = Counter(name for _, inputs, _, _ in work.steps for name in inputs)
        self.kernels: dict[str, Kernel] = {}
        self.makers: dict[str, str] = {}
        self.merged: dict[tuple[object, ...], str] = {}
        self.converted: set[tuple[str, str]] = set()

    def run(self) -> list[Kernel]:
        for layer, (_, inputs, outputs, free) in zip(self.work.layers, self.work.steps, strict=True):
            if not free:
                for tensor in inputs:
                    self._convert(tensor, layer.kind)
                key = self._place(layer, inputs)
                self.makers.update(dict.fromkeys(outputs, key))
        for value in self.work.graph.output:
            self._convert(self.work.root(value.name), "fp32")
        return list(self.kernels.values())

    def _place(self, layer: LayerWork, inputs: list[str]) -> str:
        """Adds a layer's kernel, or its work to the kernel that absorbs it; returns the kernel's key."""
        kernel = self._kernel_of(layer)
        if layer.operator in _SUMS and (key := self._absorbing(inputs)) is not None:
            other = next((name for name in inputs if self.makers.get(name) != key), None)
            extra = self.work.bytes_of(other) if other is not None else 0
            before = self.kernels[key]
            self.kernels[key] = replace(
                before, name=f"{before.name} + {layer.name}", activation_bytes=before.activation_bytes + extra
            )
            return key
        side = self._side_by_side(kernel, layer, inputs)
        if side is not None and side in self.merged:
            key = self.merged[side]
            self.kernels[key] = _join(self.kernels[key], kernel, self.work.bytes_of(inputs[0]))
            return key
        if side is not None:
            self.merged[side] = layer.name
        self.kernels[layer.name] = kernel
        return layer.name

    def _absorbing(self, inputs: list[str]) -> str | None:
        """The convolution that adds a residual as it writes its output: the last one computed, with no other reader."""
        order = {name: position for position, name in enumerate(self.makers)}
        for name in sorted(inputs, key=lambda each: order.get(each, -1), reverse=True):
            key = self.makers.get(name)
            if key in self.kernels and self.kernels[key].operator in _CONVOLUTIONS and self.readers[name] == 1:
                return key
        return None

    def _side_by_side(self, kernel: Kernel, layer: LayerWork, inputs: list[str]) -> tuple[object, ...] | None:
        """The key that 1x1 convolutions share if TensorRT computes them together."""
        if layer.operator != "Conv" or kernel.depth != kernel.inputs or kernel.groups != 1 or len(inputs) != 1:
            return None
        strides = tuple(integers(self.nodes[layer.name], "strides", [1, 1]))
        return inputs[0], layer.kind, strides

    def _convert(self, tensor: str, kind: str) -> None:
        """Adds the kernel that converts a tensor to another type: images to FP16 or INT8, LRN's output to INT8.

        A layer in INT8 writes FP16 itself if FP16 is read.
        """
        have = self.work.kinds.get(tensor) or _INPUT_KINDS.get(self.work.costs.element_types.get(tensor, 0), "fp32")
        if have in (kind, "int8") or (tensor, kind) in self.converted:
            return
        self.converted.add((tensor, kind))
        elements = element_count(self.work.costs.shapes.get(tensor)) or 0
        name = f"{tensor} to {kind}"
        self.kernels[name] = Kernel(name, "Reformat", kind, 0, 0, elements * (BYTES[have] + BYTES[kind]))

    def _kernel_of(self, layer: LayerWork) -> Kernel:
        node = self.nodes[layer.name]
        kernel = Kernel(
            layer.name, layer.operator, layer.kind, layer.multiply_adds, layer.weight_bytes, layer.activation_bytes
        )
        return self._product(kernel, node) if layer.multiply_adds else kernel

    def _product(self, kernel: Kernel, node: NodeProto) -> Kernel:
        """A kernel with the shape of its layer's matrix product."""
        shapes = self.work.costs.shapes
        output = [size for size in shapes.get(node.output[0]) or [] if isinstance(size, int)]
        weight = [size for size in shapes.get(node.input[1]) or [] if isinstance(size, int)]
        if node.op_type not in _CONVOLUTIONS or len(weight) < _CONVOLUTION_RANK:
            depth = kernel.multiply_adds // max(1, math.prod(output))
            columns = output[-1] if output else 1
            return replace(kernel, rows=math.prod(output[:-1]), columns=columns, depth=depth, inputs=depth)
        data = shapes.get(node.input[0]) or [1, 1]
        channels = data[1] if isinstance(data[1], int) else 1
        groups = max(1, channels // weight[1]) if node.op_type == "Conv" else 1
        rows = output[0] * math.prod(output[2:])
        window, strides = integers(node, "kernel_shape", weight[2:]), integers(node, "strides", [1, 1])
        return replace(
            kernel,
            rows=rows,
            columns=max(1, output[1] // groups),
            depth=kernel.multiply_adds // max(1, rows * output[1]),
            inputs=channels // groups,
            groups=groups,
            plain_3x3=window == [3, 3] and strides == [1, 1] and groups == 1,
        )


def _join(first: Kernel, second: Kernel, shared: int) -> Kernel:
    """Joins two products over the same input, which is read once."""
    return replace(
        first,
        name=f"{first.name} + {second.name}",
        multiply_adds=first.multiply_adds + second.multiply_adds,
        weight_bytes=first.weight_bytes + second.weight_bytes,
        activation_bytes=first.activation_bytes + second.activation_bytes - shared,
        columns=first.columns + second.columns,
    )


def kernels_of(work: ModelWork) -> list[Kernel]:
    """The kernels of an engine, in the order of their first layers."""
    return _Fusion(work).run()
