"""Constant folding: computes constant expressions once, so that weights that pass through nodes are seen as weights.

Exporters pass weights through Constant, Identity, Cast, Transpose, Reshape, Mul, ConstantOfShape and the like, list
initializers as graph inputs (ONNX before IR version 4), and compute shapes from static shapes. Folding evaluates such
nodes with ONNX's reference implementation, one by one, and stores each result as an initializer under the tensor's own
name. QuantizeLinear and DequantizeLinear are kept, since they carry the scales of an INT8 model.
"""

from __future__ import annotations

import math
from typing import Any

from googlenet_deploy.errors import requires
from googlenet_deploy.graph.edit import (
    copied,
    drop_unread_constants,
    drop_unread_nodes,
    name_nodes,
    rename_tensors,
    replace_entries,
    replace_nodes,
    to_tensor,
    unique_name,
)
from googlenet_deploy.graph.graph import DEFAULT_DOMAINS, Shape, attribute, runtime_inputs, subgraphs, tensor_names
from googlenet_deploy.graph.shapes import inferred_shapes

with requires("export"):
    import numpy as np
    import numpy.typing as npt
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, defs, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator
    from onnx.shape_inference import infer_node_outputs

Array = npt.NDArray[Any]

# Operators with the scales of a quantised model, and operators whose result differs every time.
_KEPT = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "RandomNormal", "RandomNormalLike",
    "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli",
})  # fmt: skip
# They only move the elements of a shape, some of which may not be known.
_SHAPE_MOVERS = frozenset({"Gather", "Slice", "Squeeze", "Unsqueeze", "Concat", "Identity"})
# Represents an unknown element of a shape; no tensor has such a dimension.
_UNKNOWN = -(2**62) - 1
# A node may generate this many bytes from small inputs, such as a weight of one value; files do not grow without bound.
LARGEST_GROWTH = 2**28


def fold_constants(model: ModelProto) -> bool:
    """Folds what depends on constants alone, in place; returns True if anything changed.

    Afterwards initializers are no longer graph inputs, If nodes with a constant condition are replaced by their branch,
    and constants that nothing reads are removed. A node stays if ONNX's reference implementation cannot evaluate it, if
    it makes an output of the graph, or if its result would be far larger than its inputs.
    """
    changed = _drop_constant_inputs(model)
    while _foldable(model.graph) and _fold_once(model):
        changed = True
    return changed


def _drop_constant_inputs(model: ModelProto) -> bool:
    """Removes initializers from the graph inputs, which requires at least IR version 4."""
    kept = runtime_inputs(model.graph)
    if len(kept) == len(model.graph.input):
        return False
    replace_entries(model.graph.input, kept)
    model.ir_version = max(model.ir_version, 4)
    return True


def _foldable(graph: GraphProto) -> bool:
    """Whether a graph has a node that may be folded; avoids shape inference for most models."""
    constants = {tensor.name for tensor in graph.initializer}
    return any(
        node.op_type in ("Shape", "Size", "If") or all(name in constants for name in node.input)
        for node in graph.node
        if node.op_type not in _KEPT
    )


def _fold_once(model: ModelProto) -> bool:
    """Walks over the graph once; returns True if a node was folded or replaced."""
    folder = _Folder(model, inferred_shapes(model))
    kept = [part for node in model.graph.node for part in folder.visit(node)]
    if not folder.changed:
        return False
    graph = model.graph
    replace_nodes(graph, kept)
    graph.initializer.extend(folder.folded)
    drop_unread_nodes(graph)
    drop_unread_constants(graph)
    name_nodes(graph)
    return True


class _Folder:
    """Evaluates nodes in the graph's order.

    Attributes:
        folded: The constants that were computed.
        changed: Whether a node was folded or replaced.
    """

    def __init__(self, model: ModelProto, shapes: dict[str, Shape]) -> None:
        self.graph = model.graph
        self.opsets = {"" if entry.domain in DEFAULT_DOMAINS else entry.domain: entry for entry in model.opset_import}
        self.shapes = shapes
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.partly: dict[str, Array] = {}
        self.outputs = {value.name for value in model.graph.output}
        self.folded: list[TensorProto] = []
        self.changed = False
        self._growth = 0

    def visit(self, node: NodeProto) -> list[NodeProto]:
        """What remains of a node: the node itself, nothing, or its replacement."""
        if node.domain not in DEFAULT_DOMAINS or node.op_type in _KEPT:
            return [node]
        if node.op_type == "If" and node.input[0] in self.constants:
            self.changed = True
            return self._branch(node, bool(numpy_helper.to_array(self.constants[node.input[0]]).all()))
        if any(True for _ in subgraphs(node)) or self.outputs.intersection(node.output):
            return [node]
        values = self._values(node)
        if values is None:
            return [node]
        tensors = [to_tensor(value, name) for name, value in zip(node.output, values, strict=True)]
        self.constants.update({tensor.name: tensor for tensor in tensors})
        self.folded += [tensor for tensor in tensors if tensor.name]
        self.changed = True
        return []

    def _values(self, node: NodeProto) -> list[Array] | None:
        """The results of a node that depends on constants and static shapes alone, else None."""
        if node.op_type in ("Shape", "Size") and node.input[0] not in self.constants:
            return self._complete(node, self._of_shape(node))
        known = {name: self._known(name) for name in node.input if name}
        if any(value is None for value in known.values()):
            return None
        if any(name in self.partly for name in known):
            return self._complete(node, self._evaluate(node, known)) if node.op_type in _SHAPE_MOVERS else None
        return self._evaluate(node, known) if self._stays_small(node) else None

    def _known(self, name: str) -> Array | None:
        if name in self.constants:
            return np.asarray(numpy_helper.to_array(self.constants[name]))
        return self.partly.get(name)

    def _of_shape(self, node: NodeProto) -> list[Array] | None:
        """Shape or Size of a tensor, with `_UNKNOWN` for open dimensions."""
        sizes = self.shapes.get(node.input[0])
        if sizes is None:
            return None
        whole = np.array([size if isinstance(size, int) else _UNKNOWN for size in sizes], np.int64)
        if node.op_type == "Size":
            return [np.array(_UNKNOWN if (whole == _UNKNOWN).any() else math.prod(whole.tolist()), np.int64)]
        limits = {attribute.name: attribute.i for attribute in node.attribute}
        return [whole[limits.get("start", 0) : limits.get("end", len(whole))]]

    def _complete(self, node: NodeProto, values: list[Array] | None) -> list[Array] | None:
        """The values if all elements are known; else they are kept for the nodes that read some of them."""
        if values is None or len(values) != 1 or not (values[0] == _UNKNOWN).any():
            return values
        self.partly[node.output[0]] = values[0]
        return None

    def _evaluate(self, node: NodeProto, known: dict[str, Array | None]) -> list[Array] | None:
        """A node's results by ONNX's reference implementation; None if it has none or rejects the values."""
        inputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in known]
        outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output if name]
        graph = helper.make_graph([node], "constant", inputs, outputs)
        try:
            with np.errstate(all="ignore"):  # an infinite constant belongs to the model, and is kept
                evaluator = ReferenceEvaluator(graph, opsets={key: entry.version for key, entry in self.opsets.items()})
                values = list(evaluator.run(None, known))
        except Exception:  # noqa: BLE001 - the implementation may raise any exception; the node stays
            return None
        usable = len(values) == len(node.output) and all(
            isinstance(value, (np.ndarray, np.generic)) for value in values
        )
        arrays = [np.asarray(value) for value in values] if usable else []
        return arrays if arrays and all(array.dtype.kind not in "OUS" for array in arrays) else None

    def _stays_small(self, node: NodeProto) -> bool:
        """Whether a node's results are about as large as its inputs, or small."""
        if node.op_type == "Constant":
            return True
        tensors = {name: self.constants[name] for name in node.input if name}
        types = {name: helper.make_tensor_type_proto(t.data_type, t.dims) for name, t in tensors.items()}
        opset = self.opsets[""]
        try:
            schema = defs.get_schema(node.op_type, opset.version, "")
            found = infer_node_outputs(schema, node, types, tensors, opset_imports=[opset])
        except Exception:  # noqa: BLE001 - whatever the inference of an operator raises, the node stays
            return False
        read = sum(math.prod(tensor.dims) for tensor in tensors.values())
        made = [_elements(found.get(name)) for name in node.output if name]
        if any(count is None for count in made):
            return False
        grown = sum(count or 0 for count in made) - read
        self._growth += max(grown, 0)
        return 4 * self._growth <= LARGEST_GROWTH

    def _branch(self, node: NodeProto, taken: bool) -> list[NodeProto]:
        """The nodes of an If's branch, its inner tensors under names that are free outside."""
        branch: GraphProto = copied(attribute(node, "then_branch" if taken else "else_branch"))
        inner = {name for child in branch.node for name in child.output if name}
        inner |= {tensor.name for tensor in branch.initializer}
        names = tensor_names(self.graph)
        rename_tensors(branch, {name: unique_name(f"{node.name}/{name}", names) for name in sorted(inner)})
        self.folded += list(branch.initializer)
        self.constants.update({tensor.name: tensor for tensor in branch.initializer})
        handed_on = [
            helper.make_node("Identity", [value.name], [output], unique_name(f"{node.name}/{output}", names))
            for value, output in zip(branch.output, node.output, strict=True)
            if output
        ]
        return [*branch.node, *handed_on]


def _elements(kind: TypeProto | None) -> int | None:
    """Number of elements of a tensor type; None if a dimension is open."""
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    sizes = [dimension.dim_value if dimension.HasField("dim_value") else -1 for dimension in kind.tensor_type.shape.dim]
    return None if min(sizes, default=0) < 0 else math.prod(sizes)
