"""Multiplies each input channel by a factor, for readers that know one scale for all channels.

DeepStream's nvinfer computes ``factor * (pixel - offset)`` with a single factor. Where the network was trained with a
standard deviation per channel, what remains is a multiplication per channel, done here in front of the graph. The
multiplied tensor keeps the input's old name, so that calibration tables and caches still fit.
"""

from __future__ import annotations

from collections.abc import Sequence

from googlenet_deploy.errors import VerificationError, requires
from googlenet_deploy.graph.graph import replace_nodes, runtime_inputs, shape_of, tensor_names, unique_name

with requires("export"):
    import numpy as np
    from onnx import ModelProto, TensorProto, helper, numpy_helper

INPUT = "frame"


class ScaleInput:
    """Puts a Mul in front of the first layer and renames the input to ``frame``.

    Args:
        factors: One per channel, in the input's order.
    """

    name = "scale-input"
    description = "a factor per input channel"
    optional = False

    def __init__(self, factors: Sequence[float]) -> None:
        self.factors = tuple(factors)

    def run(self, model: ModelProto) -> bool:
        """See the class.

        Raises:
            VerificationError: The input is not float32 NCHW with as many channels as there are factors.
        """
        if all(factor == 1.0 for factor in self.factors):
            return False
        graph = model.graph
        source = runtime_inputs(graph)[0]
        shape = shape_of(source)
        is_float = source.type.tensor_type.elem_type == TensorProto.FLOAT
        if not is_float or len(shape) != 4 or shape[1] != len(self.factors):
            raise VerificationError(f"a factor per channel needs a float32 NCHW input of {len(self.factors)} channels")
        inside, names = source.name, tensor_names(graph)
        factors = unique_name("scale_input/factors", names)
        values = np.asarray(self.factors, np.float32).reshape(1, -1, 1, 1)
        graph.initializer.append(numpy_helper.from_array(values, factors))
        source.name = unique_name(INPUT, names)
        node_name = unique_name("scale_input", {node.name for node in graph.node})
        multiply = helper.make_node("Mul", [source.name, factors], [inside], node_name)
        replace_nodes(graph, [multiply, *graph.node])
        return True
