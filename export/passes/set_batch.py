"""Fixes the batch size of a model whose batch is symbolic."""

from __future__ import annotations

from googlenet_deploy.errors import VerificationError, requires
from googlenet_deploy.graph.graph import runtime_inputs, shape_of

with requires("export"):
    from onnx import ModelProto


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
