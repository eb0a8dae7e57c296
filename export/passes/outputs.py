"""What a classifier may return instead of logits: probabilities, or the k best classes."""

from __future__ import annotations

from googlenet_deploy.device.predictions import PROBABILITIES, TOP_K_INDICES, TOP_K_VALUES
from googlenet_deploy.errors import UsageError, VerificationError, requires
from googlenet_deploy.graph.edit import copied, rename_tensors, unique_name
from googlenet_deploy.graph.graph import opset_of, runtime_inputs, shape_of, tensor_names

with requires("export"):
    import numpy as np
    from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper


class AppendSoftmax:
    """The output becomes ``probabilities``, float32 (N, classes)."""

    name = "softmax"
    description = "softmax after the logits"
    optional = False

    def run(self, model: ModelProto) -> bool:
        """See the class.

        Raises:
            VerificationError: The model does not have one output of shape (N, classes).
        """
        scores = _scores(model)
        _forget_outputs(model)
        model.graph.node.append(
            helper.make_node("Softmax", [scores.name], [PROBABILITIES], _free_name(model, "softmax"), axis=1)
        )
        output = model.graph.output.add()
        output.CopyFrom(scores)
        output.name = PROBABILITIES
        return True


class AppendTopK:
    """The outputs become ``top_k_values``, float32 (N, k), descending, and ``top_k_indices``, int64 (N, k).

    Args:
        k: Number of classes to return.
    """

    name = "top-k"
    optional = False

    def __init__(self, k: int) -> None:
        self.k = k
        self.description = f"the {k} best classes as output"

    def run(self, model: ModelProto) -> bool:
        """See the class.

        Raises:
            UsageError: There are fewer than k classes.
            VerificationError: The model does not have one output of shape (N, classes), or its opset is below 11.
        """
        scores = _scores(model)
        batch, classes = shape_of(scores)
        if isinstance(classes, int) and not 1 <= self.k <= classes:
            raise UsageError(f"--top-k {self.k}: the model has {classes} classes")
        if opset_of(model) < 11:
            raise VerificationError("--top-k needs opset 11 or later", "add --opset 13")
        constant = unique_name("top_k/k", tensor_names(model.graph))
        model.graph.initializer.append(numpy_helper.from_array(np.asarray([self.k], np.int64), constant))
        node = helper.make_node(
            "TopK",
            [scores.name, constant],
            [TOP_K_VALUES, TOP_K_INDICES],
            _free_name(model, "top_k"),
            axis=1,
            largest=1,
            sorted=1,
        )
        _forget_outputs(model)
        model.graph.node.append(node)
        for name, kind in ((TOP_K_VALUES, scores.type.tensor_type.elem_type), (TOP_K_INDICES, TensorProto.INT64)):
            model.graph.output.append(helper.make_tensor_value_info(name, kind, [batch, self.k]))
        return True


class FlatOutput:
    """The one output loses its batch of 1: (classes,) instead of (1, classes)."""

    name = "flat-output"
    description = "the output without its batch dimension"
    optional = False

    def run(self, model: ModelProto) -> bool:
        """See the class.

        Raises:
            VerificationError: The model does not have one output of shape (1, classes).
        """
        scores = _scores(model)
        batch, classes = shape_of(scores)
        if batch != 1 or not isinstance(classes, int):
            raise VerificationError(f"an output without a batch needs the shape (1, classes), not {shape_of(scores)}")
        names = tensor_names(model.graph)
        inside, shape = unique_name(f"{scores.name}/batched", names), unique_name(f"{scores.name}/shape", names)
        rename_tensors(model.graph, {scores.name: inside})
        model.graph.initializer.append(numpy_helper.from_array(np.asarray([classes], np.int64), shape))
        model.graph.node.append(
            helper.make_node("Reshape", [inside, shape], [scores.name], _free_name(model, "flat_output"))
        )
        _forget_outputs(model)
        model.graph.output.append(
            helper.make_tensor_value_info(scores.name, scores.type.tensor_type.elem_type, [classes])
        )
        return True


def gives_probabilities(model: ModelProto) -> bool:
    """Whether the model's first output comes out of a softmax."""
    name = model.graph.output[0].name
    made = next((node for node in model.graph.node if name in node.output), None)
    while made is not None and made.op_type in ("Identity", "Cast", "Reshape", "Flatten", "Squeeze"):
        source = made.input[0]
        made = next((node for node in model.graph.node if source in node.output), None)
    return name == PROBABILITIES or (made is not None and made.op_type == "Softmax")


def _scores(model: ModelProto) -> ValueInfoProto:
    """A copy of the model's one output of shape (N, classes)."""
    outputs = model.graph.output
    if len(outputs) != 1 or len(shape_of(outputs[0])) != 2:
        raise VerificationError("--softmax and --top-k need a model with one output of shape (N, classes)")
    return copied(outputs[0])


def _forget_outputs(model: ModelProto) -> None:
    """Removes all outputs; the tensors stay inside the graph."""
    del model.graph.output[:]


def _free_name(model: ModelProto, wanted: str) -> str:
    return unique_name(wanted, {node.name for node in model.graph.node})


class SetBatch:
    """States `size` as the batch of the input and of every output that has the input's batch symbol."""

    name = "batch"
    optional = False

    def __init__(self, size: int) -> None:
        self.size = size
        self.description = f"batch fixed to {size}"

    def run(self, model: ModelProto) -> bool:
        """See the class.

        Raises:
            VerificationError: The model's batch is fixed to another size already.
        """
        source = runtime_inputs(model.graph)[0]
        current = shape_of(source)[0]
        if current == self.size:
            return False
        if isinstance(current, int):
            raise VerificationError(f"the model's batch is fixed to {current}", "leave --batch out")
        for value in [source, *model.graph.output]:
            if shape_of(value) and shape_of(value)[0] == current:
                value.type.tensor_type.shape.dim[0].dim_value = self.size
        return True
