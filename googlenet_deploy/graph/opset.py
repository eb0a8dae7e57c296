"""Rewrites a model for another opset and IR version."""

from __future__ import annotations

from googlenet_deploy.errors import VerificationError, first_line, requires
from googlenet_deploy.graph.edit import name_nodes
from googlenet_deploy.graph.graph import DEFAULT_DOMAINS, opset_of, subgraphs

with requires("export"):
    import onnx
    from onnx import ModelProto, NodeProto, defs, helper, version_converter


class ConvertOpset:
    """Converts to `opset`.

    If every operator has the same signature in both opsets (usual for our graphs: Conv, LRN, MaxPool and the like only
    gained types), only the version changes, and attributes that the other opset does not know are dropped if they hold
    their default. Otherwise onnx's own version converter does the conversion. Either way, the manager checks the result
    against the operators' schemas and compares what it computes.
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
        if current != self.opset:
            if all(same_signature(node, current, self.opset) for node in model.graph.node):
                for node in model.graph.node:
                    _drop_unknown_attributes(node, self.opset)
                _set_opset(model, self.opset)
            else:
                _convert_with_onnx(model, self.opset)
        model.ir_version = self.ir_version
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
