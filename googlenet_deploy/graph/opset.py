"""Rewrites a model for another opset and IR version."""

from __future__ import annotations

from googlenet_deploy.errors import VerificationError, first_line, requires
from googlenet_deploy.graph.edit import name_nodes, replace_nodes
from googlenet_deploy.graph.graph import DEFAULT_DOMAINS, opset_of, subgraphs
from googlenet_deploy.graph.opset_lowering import OpsetLowering

with requires("export"):
    import onnx
    from onnx import ModelProto, NodeProto, defs, helper, version_converter


# From this opset on its scale and bias are per channel, not per group, in the same signature.
GROUP_NORMALIZATION_PER_CHANNEL = 21


class ConvertOpset:
    """Converts to `opset`.

    An operator that has the same signature in both opsets (usual for our graphs: Conv, LRN, MaxPool and the like only
    gained types) stays, without the attributes that the other opset does not know, if they hold their default. Others
    are rewritten by `opset_lowering`. If an operator is left, onnx's own version converter converts the model. Either
    way, the manager checks the result against the operators' schemas and compares what it computes.
    """

    name = "opset"
    optional = False

    def __init__(self, opset: int, ir_version: int) -> None:
        self.opset, self.ir_version = opset, ir_version
        self.description = f"converted to opset {opset}, IR version {ir_version}"

    def run(self, model: ModelProto) -> bool:
        """See the class.

        Raises:
            VerificationError: onnx's version converter cannot convert an operator.
        """
        current = opset_of(model)
        if current == self.opset and model.ir_version == self.ir_version:
            return False
        if current != self.opset and not self._convert_nodes(model, current):
            _convert_with_onnx(model, self.opset)
        model.ir_version = self.ir_version
        return True

    def _convert_nodes(self, model: ModelProto, current: int) -> bool:
        """Converts node by node; changes nothing if a node can only be converted by onnx."""
        lowering = OpsetLowering(model, self.opset)
        nodes: list[NodeProto] = []
        for node in model.graph.node:
            converted = [node] if same_signature(node, current, self.opset) else lowering.rewrite(node)
            if converted is None:
                return False
            nodes += converted
        replace_nodes(model.graph, nodes)
        for node in model.graph.node:
            _drop_unknown_attributes(node, self.opset)
        model.graph.initializer.extend(lowering.constants)
        _set_opset(model, self.opset)
        return True


def same_signature(node: NodeProto, current: int, wanted: int) -> bool:
    """Whether a node means the same in both opsets: same inputs, outputs and defaults, and no attribute lost."""
    if node.domain not in DEFAULT_DOMAINS:
        return True
    if any(True for _ in subgraphs(node)):
        return False
    try:
        before = defs.get_schema(node.op_type, current, "")
        after = defs.get_schema(node.op_type, wanted, "")
    except defs.SchemaError:
        return False
    if before.since_version == after.since_version:
        return True
    if node.op_type == "GroupNormalization" and min(current, wanted) < GROUP_NORMALIZATION_PER_CHANNEL:
        return False
    common = before.attributes.keys() & after.attributes.keys()
    lost = before.attributes.keys() - after.attributes.keys()
    return (
        not after.deprecated
        and _formals(before) == _formals(after)
        and all(_default(before, name) == _default(after, name) for name in common)
        and all(_is_default(node, name, before) for name in lost)
    )


def _formals(schema: defs.OpSchema) -> list[tuple[str, str]]:
    return [(formal.name, str(formal.option)) for formal in [*schema.inputs, *schema.outputs]]


def _default(schema: defs.OpSchema, name: str) -> bytes:
    content: bytes = schema.attributes[name].default_value.SerializeToString(deterministic=True)
    return content


def _is_default(node: NodeProto, name: str, schema: defs.OpSchema) -> bool:
    given = next((attribute for attribute in node.attribute if attribute.name == name), None)
    if given is None:
        return True
    default = schema.attributes[name].default_value
    return default.type != onnx.AttributeProto.UNDEFINED and helper.get_attribute_value(
        given
    ) == helper.get_attribute_value(default)


def _drop_unknown_attributes(node: NodeProto, opset: int) -> None:
    if node.domain in DEFAULT_DOMAINS:
        known = defs.get_schema(node.op_type, opset, "").attributes
        for position in reversed(range(len(node.attribute))):
            if node.attribute[position].name not in known:
                del node.attribute[position]


def _set_opset(model: ModelProto, opset: int) -> None:
    for entry in model.opset_import:
        if entry.domain in DEFAULT_DOMAINS:
            entry.version = opset


def _convert_with_onnx(model: ModelProto, opset: int) -> None:
    try:
        converted = version_converter.convert_version(model, opset)
    except (RuntimeError, ValueError, version_converter.ConvertError) as error:
        raise VerificationError(
            f"onnx cannot convert the model from opset {opset_of(model)} to {opset}: {first_line(error)}",
            "leave --opset and --target out to keep its opset",
        ) from error
    # The converter adds nodes without names.
    name_nodes(converted.graph)
    model.CopyFrom(converted)
