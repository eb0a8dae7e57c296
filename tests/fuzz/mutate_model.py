"""Seeded mutations of an ONNX model: each is a small change that a damaged or hostile file may have."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from mutate_values import mutate_json, strange_text
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

SIZES = (-(2**63), -1, 0, 1, 2, 3, 7, 255, 4097, 2**20, 2**31 - 1, 2**31, 2**40, 2**63 - 1)
NUMBERS = (0.0, -0.0, -1.0, 1e-45, 1e-38, 1e38, float("inf"), float("-inf"), float("nan"), 0.5)
OPERATORS = (
    "Relu", "Conv", "Gemm", "MatMul", "LRN", "MaxPool", "Concat", "QuantizeLinear", "DequantizeLinear", "Flatten",
    "Pad", "Reshape", "ConvTranspose", "BatchNormalization", "Softmax", "Identity", "Constant", "If", "Loop", "Resize",
    "Clip", "Foo", "Transpose", "ReduceMean", "Dropout", "GlobalAveragePool", "ConstantOfShape", "Expand", "Tile",
    "QLinearConv",
)  # fmt: skip
Mutation = Callable[[ModelProto, random.Random], None]


def mutate_model(content: bytes, rng: random.Random, steps: int) -> bytes:
    """The model after some mutations; now and then its bytes are damaged too."""
    model = ModelProto.FromString(content)
    for _ in range(steps):
        with contextlib.suppress(Exception):  # protobuf, onnx or NumPy refuses such a value
            rng.choice(MUTATIONS)(model, rng)
    data = bytearray(model.SerializeToString())
    if rng.random() < 0.1 and data:
        del data[rng.randrange(len(data)) :]
    for _ in range(rng.choice((0, 0, 0, 0, 0, 0, 1, 3))):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _node(model: ModelProto, rng: random.Random) -> NodeProto:
    return rng.choice(list(model.graph.node))


def _tensors(model: ModelProto) -> list[str]:
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    return [*names, *(tensor.name for tensor in model.graph.initializer), *(value.name for value in model.graph.input)]


def drop_node(model: ModelProto, rng: random.Random) -> None:
    model.graph.node.remove(_node(model, rng))


def double_node(model: ModelProto, rng: random.Random) -> None:
    model.graph.node.add().CopyFrom(_node(model, rng))


def swap_nodes(model: ModelProto, rng: random.Random) -> None:
    first, second = _node(model, rng), _node(model, rng)
    kept = NodeProto.FromString(first.SerializeToString())
    first.CopyFrom(second)
    second.CopyFrom(kept)


def rewire(model: ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    names = rng.choice((node.input, node.output))
    names[rng.randrange(len(names))] = rng.choice([*_tensors(model), "", strange_text(rng)])


def drop_input(model: ModelProto, rng: random.Random) -> None:
    names = rng.choice((_node(model, rng).input, _node(model, rng).output))
    del names[rng.randrange(len(names)) :]


def add_input(model: ModelProto, rng: random.Random) -> None:
    rng.choice((_node(model, rng).input, _node(model, rng).output)).append(rng.choice(_tensors(model)))


def other_operator(model: ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    node.op_type = rng.choice(OPERATORS)
    if rng.random() < 0.2:
        node.domain = rng.choice(("custom", "com.microsoft", "ai.onnx.ml", strange_text(rng)))


def change_attribute(model: ModelProto, rng: random.Random) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    attribute = rng.choice(list(rng.choice(nodes).attribute))
    kind = rng.randrange(6)
    if kind == 0:
        attribute.name = rng.choice(("axis", "kernel_shape", "pads", "group", "strides", "size", strange_text(rng)))
    elif kind == 1:
        attribute.type = rng.choice(AttributeProto.AttributeType.values())
    elif kind == 2 and attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(SIZES)
    elif kind == 3:
        attribute.ints.extend([rng.choice(SIZES)] * rng.choice((1, 2, 1000)))
    elif kind == 4:
        attribute.f = rng.choice(NUMBERS)
    else:
        attribute.i = rng.choice(SIZES)


def drop_attribute(model: ModelProto, rng: random.Random) -> None:
    attributes = rng.choice([node for node in model.graph.node if node.attribute]).attribute
    del attributes[rng.randrange(len(attributes))]


def add_attribute(model: ModelProto, rng: random.Random) -> None:
    name = rng.choice(
        ("axis", "auto_pad", "ceil_mode", "block_size", "alpha", "beta", "storage_order", "saturate", "perm")
    )
    value: Any = rng.choice((rng.choice(SIZES), rng.choice(NUMBERS), "SAME_UPPER", [1, 0], [rng.choice(SIZES)] * 4))
    _node(model, rng).attribute.append(helper.make_attribute(name, value))


def _tensor(model: ModelProto, rng: random.Random) -> TensorProto:
    return rng.choice(list(model.graph.initializer))


def change_shape(model: ModelProto, rng: random.Random) -> None:
    tensor = _tensor(model, rng)
    if tensor.dims and rng.random() < 0.6:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(SIZES)
    elif tensor.dims and rng.random() < 0.5:
        del tensor.dims[rng.randrange(len(tensor.dims)) :]
    else:
        tensor.dims.append(rng.choice(SIZES))


def change_type(model: ModelProto, rng: random.Random) -> None:
    _tensor(model, rng).data_type = rng.choice(TensorProto.DataType.values())


def cast_constant(model: ModelProto, rng: random.Random) -> None:
    """A valid constant of another type."""
    tensor = _tensor(model, rng)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(
        numpy_helper.from_array(values.astype(rng.choice(("f2", "f8", "i1", "u1", "i4", "i8"))), tensor.name)
    )


def change_values(model: ModelProto, rng: random.Random) -> None:
    tensor = _tensor(model, rng)
    values = numpy_helper.to_array(tensor).copy()
    flat = values.reshape(-1)
    if flat.size and values.dtype.kind == "f":
        flat[rng.randrange(flat.size) if rng.random() < 0.5 else slice(None)] = rng.choice(NUMBERS)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def change_scale(model: ModelProto, rng: random.Random) -> None:
    """Scales and zero points of the quantised graphs, with values or shapes that make no sense."""
    names = {name for node in model.graph.node if node.op_type.endswith("Linear") for name in node.input[1:]}
    tensor = rng.choice([tensor for tensor in model.graph.initializer if tensor.name in names])
    values = np.atleast_1d(numpy_helper.to_array(tensor)).copy()
    kind = rng.randrange(4)
    if kind == 0:
        values[rng.randrange(values.size)] = rng.choice(NUMBERS) if values.dtype.kind == "f" else 1
    elif kind == 1:
        values = np.repeat(values, rng.choice((0, 2, 3)))
    elif kind == 2:
        values = values.reshape(1, -1)
    else:
        values = values * 2
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def cut_values(model: ModelProto, rng: random.Random) -> None:
    tensor = _tensor(model, rng)
    tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]


def external(model: ModelProto, rng: random.Random) -> None:
    tensor = _tensor(model, rng)
    tensor.data_location = TensorProto.EXTERNAL
    for key, values in (
        ("location", ("weights.bin", "../weights.bin", "/etc/passwd", "", "a\0b", ".", strange_text(rng))),
        ("offset", ("0", "-1", str(2**63), "x")),
        ("length", ("0", "4", str(2**40), "")),
    ):
        if rng.random() < 0.8:
            tensor.external_data.add(key=key, value=rng.choice(values))


def drop_constant(model: ModelProto, rng: random.Random) -> None:
    model.graph.initializer.remove(_tensor(model, rng))


def double_constant(model: ModelProto, rng: random.Random) -> None:
    model.graph.initializer.add().CopyFrom(_tensor(model, rng))


def change_input(model: ModelProto, rng: random.Random) -> None:
    value = rng.choice([*model.graph.input, *model.graph.output])
    kind = value.type.tensor_type
    choice = rng.randrange(4)
    if choice == 0:
        kind.elem_type = rng.choice(TensorProto.DataType.values())
    elif choice == 1:
        kind.shape.dim.add().dim_value = rng.choice(SIZES)
    elif choice == 2:
        rng.choice(list(kind.shape.dim)).dim_value = rng.choice(SIZES)
    else:
        rng.choice(list(kind.shape.dim)).dim_param = rng.choice(("h", "n", strange_text(rng)))


def drop_output(model: ModelProto, rng: random.Random) -> None:
    values = rng.choice((model.graph.input, model.graph.output))
    del values[rng.randrange(len(values))]


def add_output(model: ModelProto, rng: random.Random) -> None:
    model.graph.output.append(helper.make_tensor_value_info(rng.choice(_tensors(model)), TensorProto.FLOAT, None))


def state_shape(model: ModelProto, rng: random.Random) -> None:
    shape = [rng.choice(SIZES) for _ in range(rng.randrange(5))]
    name = rng.choice(_tensors(model))
    model.graph.value_info.append(helper.make_tensor_value_info(name, rng.choice((1, 3, 7)), shape))


def change_version(model: ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.3:
        model.ir_version = rng.choice(SIZES)
    elif rng.random() < 0.5:
        model.opset_import[0].version = rng.choice((*SIZES, 6, 7, 9, 10, 11, 12, 13, 18, 19, 21, 23, 28, 29))
    else:
        model.opset_import.add(domain=rng.choice(("", "custom", "ai.onnx", "ai.onnx.ml")), version=rng.choice(SIZES))


def change_metadata(model: ModelProto, rng: random.Random) -> None:
    entry = rng.choice(list(model.metadata_props))
    if rng.random() < 0.8 and entry.value[:1] in ("{", "["):
        entry.value = json.dumps(mutate_json(json.loads(entry.value), rng, 1))
    else:
        entry.value = strange_text(rng)


def rename(model: ModelProto, rng: random.Random) -> None:
    """A strange tensor name (see `strange_text`), wherever the tensor is used."""
    old, new = rng.choice(_tensors(model)), strange_text(rng)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
    for item in (*model.graph.initializer, *model.graph.input, *model.graph.output, *model.graph.value_info):
        if item.name == old:
            item.name = new


def rename_node(model: ModelProto, rng: random.Random) -> None:
    _node(model, rng).name = strange_text(rng)


def call_function(model: ModelProto, rng: random.Random) -> None:
    """A call of a function that calls itself, a real operator or a missing function."""
    function = model.functions.add(name="F", domain="custom", input=["a"], output=["b"])
    function.opset_import.add(domain="", version=17)
    function.opset_import.add(domain="custom", version=1)
    inner, domain = rng.choice((("F", "custom"), ("Relu", ""), ("Missing", "custom")))
    function.node.add(op_type=inner, domain=domain, input=["a"], output=["b"])
    model.opset_import.add(domain="custom", version=1)
    node = model.graph.node[0]
    model.graph.node.insert(0, helper.make_node("F", [node.input[0]], ["called"], "call", domain="custom"))
    model.graph.node[1].input[0] = "called"


def nest(model: ModelProto, rng: random.Random) -> None:
    """A node inside the branches of an If, some levels deep."""
    node = _node(model, rng)
    graph = helper.make_graph([node], "inner", [], [helper.make_tensor_value_info(node.output[0], 1, None)])
    for level in range(rng.choice((1, 2, 40))):
        branch = helper.make_node("If", [rng.choice(_tensors(model))], [node.output[0]], f"if{level}")
        branch.attribute.append(helper.make_attribute("then_branch", graph))
        branch.attribute.append(
            helper.make_attribute("else_branch", graph if rng.random() < 0.05 else helper.make_graph([], "e", [], []))
        )
        graph = helper.make_graph([branch], "inner", [], [helper.make_tensor_value_info(node.output[0], 1, None)])
    node.CopyFrom(graph.node[0])


MUTATIONS: tuple[Mutation, ...] = (
    drop_node, double_node, swap_nodes, rewire, rewire, drop_input, add_input, other_operator, change_attribute,
    change_attribute, drop_attribute, add_attribute, change_shape, change_shape, change_type, cast_constant,
    change_values, change_values, change_scale, change_scale, cut_values, external, drop_constant, double_constant,
    change_input, change_input, drop_output, add_output, state_shape, change_version, change_metadata, rename,
    rename_node, call_function, nest,
)  # fmt: skip
