"""Measures on images how large the values of each layer become, which decides whether it fits into 16 bits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from googlenet_deploy.analysis.costs import element_count
from googlenet_deploy.errors import requires
from googlenet_deploy.export.samples import Samples
from googlenet_deploy.export.verify import run
from googlenet_deploy.graph.edit import add_constant, copy_model, unique_name
from googlenet_deploy.graph.graph import integer, integers, known_shapes, tensor_names

with requires("export"):
    import numpy as np
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

Shape = list[int | str | None]


@dataclass(frozen=True)
class LayerRange:
    """The largest magnitudes in one layer.

    Attributes:
        name: The node.
        operator: Its operator.
        output: Largest magnitude in its outputs.
        inside: Bound of its sums before it divides or takes a power: LRN's sum of squares over its window, an
            average pool's sum. 0 for all other layers, which accumulate in float32 on NVIDIA's tensor cores.
    """

    name: str
    operator: str
    output: float
    inside: float

    @property
    def largest(self) -> float:
        """The larger of the two."""
        return max(self.output, self.inside)


def measure_ranges(model: ModelProto, samples: Samples) -> list[LayerRange]:
    """Runs the float32 model and keeps the largest magnitude of each float tensor.

    Args:
        model: With the types and shapes of its tensors stated.
        samples: The images.

    Returns:
        One entry per node that yields floats, in the graph's order.

    Raises:
        VerificationError: ONNX Runtime does not run the model.
    """
    maxima = largest_magnitudes(model, samples)
    shapes = known_shapes(model)
    return [
        LayerRange(
            node.name,
            node.op_type,
            max(maxima[name] for name in node.output if name in maxima),
            _inside(node, maxima, shapes),
        )
        for node in model.graph.node
        if any(name in maxima for name in node.output)
    ]


def largest_magnitudes(model: ModelProto, samples: Samples) -> dict[str, float]:
    """The largest magnitude of every float32 tensor, computed or input, by name."""
    graph = model.graph
    stated = [*graph.input, *graph.value_info, *graph.output]
    names = list(dict.fromkeys(value.name for value in stated if value.type.tensor_type.elem_type == TensorProto.FLOAT))
    copy = copy_model(model)
    taken = tensor_names(graph) | {node.name for node in graph.node}
    results = {}
    everything = unique_name("all_values", taken)
    add_constant(copy.graph, np.array([-1], np.int64), everything)
    del copy.graph.output[:]
    for name in names:
        magnitude, largest = unique_name(f"{name}/magnitude", taken), unique_name(f"{name}/largest", taken)
        flat = unique_name(f"{name}/flat", taken)
        copy.graph.node.append(helper.make_node("Abs", [name], [magnitude], magnitude))
        # A scalar has no dimension to keep, so every tensor is made a vector first.
        copy.graph.node.append(helper.make_node("Reshape", [magnitude, everything], [flat], flat))
        # ReduceMax without axes reduces all, in every opset.
        copy.graph.node.append(helper.make_node("ReduceMax", [flat], [largest], largest, keepdims=1))
        copy.graph.output.append(ValueInfoProto(name=largest))
        results[name] = largest
    outputs = run(copy, samples)
    return {name: float(outputs[largest].max()) for name, largest in results.items()}


def _inside(node: NodeProto, maxima: dict[str, float], shapes: dict[str, Shape]) -> float:
    largest = maxima.get(node.input[0], 0.0) if node.input else 0.0
    if node.op_type == "LRN":
        return integer(node, "size", 1) * largest**2
    if node.op_type == "AveragePool":
        return math.prod(integers(node, "kernel_shape", [1])) * largest
    if node.op_type in ("GlobalAveragePool", "ReduceMean", "ReduceSum"):
        return _reduced(shapes.get(node.input[0]), shapes.get(node.output[0])) * largest
    if node.op_type in ("ReduceL2", "ReduceSumSquare", "Pow"):
        return largest**2
    return 0.0


def _reduced(before: Shape | None, after: Shape | None) -> float:
    """Number of values that are reduced to one result; the batch and other unknown dimensions do not count."""
    if not before or not after:
        return 1.0
    total, left = element_count([1, *before[1:]]), element_count([1, *after[1:]])
    return total / left if total and left else 1.0
