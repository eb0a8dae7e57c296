"""Moves the normalisation of images into the graph: uint8 NHWC RGB in, as cameras and decoders deliver it.

In front of the first convolution come Cast, Transpose to NCHW, Sub and, where needed, Mul:
``(pixel * scale - mean) / std`` = ``(pixel - mean / scale) * (scale / std)``.

What could be folded into the first convolution, and what is:

* The channel order is. A permutation of the weights' input channels multiplies the same pairs of numbers; only the
  order of summation changes. No Gather or Split is needed for a network trained on BGR.
* The mean is not. The convolution pads with zeros after the mean is subtracted; with the mean in the bias
  it would pad with black pixels before, and every border pixel would come out differently.
* The scale is not, although it could be folded exactly: the weights would no longer be the trained ones, small ones
  would become subnormal in FP16, and calibration would see another first activation than the float network's.

Pixels are subtracted before they are scaled, because ``mean / scale`` is 127.5 or a whole number for the usual
specifications and the difference is then exact.
"""

from __future__ import annotations

from collections.abc import Sequence

from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import VerificationError, requires
from googlenet_deploy.graph.edit import add_constant, replace_nodes, set_constant, unique_name
from googlenet_deploy.graph.graph import GraphView, integer, runtime_inputs, shape_of, tensor_names

with requires("export"):
    import numpy as np
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper


class Uint8Input:
    """Replaces the float32 NCHW input by a uint8 NHWC one; the module's docstring explains how.

    Args:
        preprocessing: What the float network expects.
    """

    name = "uint8-input"
    description = "normalisation moved into the graph; uint8 NHWC RGB in"
    optional = False

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def run(self, model: ModelProto) -> bool:
        """See the class.

        Raises:
            VerificationError: The input is not float32 NCHW, or a BGR input is read by more than convolutions.
        """
        if self.preprocessing.dtype == "uint8":
            return False
        graph = model.graph
        source = runtime_inputs(graph)[0]
        shape = shape_of(source)
        is_float = source.type.tensor_type.elem_type == TensorProto.FLOAT
        if not is_float or self.preprocessing.layout != "NCHW" or len(shape) != 4:
            raise VerificationError("uint8 input needs a network with a float32 NCHW input")
        view = GraphView(model)
        readers = view.readers(source.name)
        if self.preprocessing.channels == "BGR":
            for reader in readers:
                _reverse_input_channels(view, reader)
        nodes = self._normalisation(graph, source)
        for reader in readers:
            reader.input[:] = [nodes[-1].output[0] if name == source.name else name for name in reader.input]
        replace_nodes(graph, [*nodes, *graph.node])
        _state_uint8(source)
        return True

    def _normalisation(self, graph: GraphProto, source: ValueInfoProto) -> list[NodeProto]:
        """The nodes in front of the network; their constants are added to the graph."""
        name = source.name
        nodes = [
            helper.make_node("Cast", [name], [f"{name}/cast"], f"{name}/cast", to=TensorProto.FLOAT),
            helper.make_node("Transpose", [f"{name}/cast"], [f"{name}/nchw"], f"{name}/nchw", perm=[0, 3, 1, 2]),
        ]
        mean, std = np.asarray(self.preprocessing.mean), np.asarray(self.preprocessing.std)
        if self.preprocessing.channels == "BGR":
            mean, std = mean[::-1], std[::-1]
        for operator, leaf, values, neutral in (
            ("Sub", "centred", mean / self.preprocessing.scale, 0.0),
            ("Mul", "normalised", self.preprocessing.scale / std, 1.0),
        ):
            if (values != neutral).any():
                constant = np.asarray(values, np.float32).reshape(1, -1, 1, 1)
                tensor = f"{name}/{leaf}/{'mean' if operator == 'Sub' else 'scale'}"
                add_constant(graph, constant, tensor)
                nodes.append(
                    helper.make_node(operator, [nodes[-1].output[0], tensor], [f"{name}/{leaf}"], f"{name}/{leaf}")
                )
        return nodes


def _reverse_input_channels(view: GraphView, node: NodeProto) -> None:
    """Converts the weights of a convolution on BGR to RGB."""
    weights = view.initializers.get(node.input[1]) if len(node.input) > 1 else None
    if node.op_type != "Conv" or integer(node, "group", 1) != 1 or weights is None:
        raise VerificationError(
            f"the BGR input feeds {node.name}, which is not a plain convolution with constant weights"
        )
    if view.only_reader(node.input[1]) is None:
        raise VerificationError(f"the weights of {node.name} are shared, so their channels cannot be reordered")
    values = numpy_helper.to_array(weights)
    set_constant(weights, np.ascontiguousarray(values[:, ::-1]))


def _state_uint8(source: ValueInfoProto) -> None:
    """Turns an input of shape (N, C, H, W) into uint8 (N, H, W, C)."""
    tensor = source.type.tensor_type
    tensor.elem_type = TensorProto.UINT8
    batch, channels, height, width = [
        type(dimension).FromString(dimension.SerializeToString()) for dimension in tensor.shape.dim
    ]
    del tensor.shape.dim[:]
    tensor.shape.dim.extend([batch, height, width, channels])


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
        add_constant(graph, values, factors)
        source.name = unique_name(INPUT, names)
        node_name = unique_name("scale_input", {node.name for node in graph.node})
        multiply = helper.make_node("Mul", [source.name, factors], [inside], node_name)
        replace_nodes(graph, [multiply, *graph.node])
        return True
