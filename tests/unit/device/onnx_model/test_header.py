from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from small_models import SPECIFICATION, small_model

from googlenet_deploy.device.onnx_model.header import parse_onnx, read_onnx
from googlenet_deploy.errors import BadModelError

CONTENT = small_model("qdq").SerializeToString()


def test_what_onnx_itself_reads() -> None:
    model = small_model("qdq", batch="batch", opset=13)
    header = parse_onnx(model.SerializeToString(), "m.onnx")
    assert header.opset == 13
    assert [(node.name, node.operator, list(node.inputs), list(node.outputs)) for node in header.nodes] == [
        (node.name, node.op_type, list(node.input), list(node.output)) for node in model.graph.node
    ]
    conv = next(node for node in header.nodes if node.name == "conv1")
    assert (conv.ints("kernel_shape"), conv.ints("pads"), conv.ints("group")) == ((3, 3), (1, 1, 1, 1), ())
    assert next(node for node in header.nodes if node.name == "norm").ints("size") == (5,)
    assert [(value.name, value.dtype, value.shape) for value in header.inputs] == [
        ("input", "float32", ("batch", 3, 8, 8))
    ]
    assert header.outputs[0].shape == ("batch", 4, 8, 8)
    assert header.initializers["w1"] == "float32"
    assert header.initializers["wz"] == "int8"
    assert header.metadata.preprocessing == SPECIFICATION
    assert header.quantized
    assert header.dynamic_batch
    assert header.float_type == "float32"


def test_fixed_batch_and_half_weights() -> None:
    model = small_model(batch=2)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones(3, np.float16), "w1"))
    header = parse_onnx(model.SerializeToString(), "m.onnx")
    assert not header.dynamic_batch
    assert not header.quantized
    assert header.float_type == "float16"


def test_old_models_list_constants_among_the_inputs() -> None:
    model = small_model()
    model.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, [4, 3, 3, 3]))
    assert [value.name for value in parse_onnx(model.SerializeToString(), "m").inputs] == ["input"]


def test_other_domains_and_kinds_of_values() -> None:
    model = small_model()
    model.graph.node[1].domain = "com.example"
    model.graph.node.append(helper.make_node("SequenceConstruct", [model.graph.output[0].name], ["list"], "construct"))
    model.graph.output.append(helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None))
    model.opset_import.append(helper.make_opsetid("com.example", 3))
    header = parse_onnx(model.SerializeToString(), "m")
    assert header.nodes[1].operator == "com.example:LRN"
    assert header.outputs[1].dtype == "other"
    assert header.opset == 13


def test_a_dimension_of_which_nothing_is_known() -> None:
    model = small_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    header = parse_onnx(model.SerializeToString(), "m")
    assert header.inputs[0].shape[0] is None
    assert header.dynamic_batch


@pytest.mark.parametrize("content", [b"", b"\x00", b"not a model", onnx.ModelProto(ir_version=8).SerializeToString()])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(BadModelError, match=r"m\.onnx: is not an ONNX model"):
        parse_onnx(content, "m.onnx")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadModelError, match="cannot be read: no such file"):
        read_onnx(tmp_path / "none.onnx")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(CONTENT) - 1), st.binary(max_size=4), st.booleans())
def test_damage_is_refused_or_read_but_never_a_traceback(position: int, noise: bytes, cut: bool) -> None:
    damaged = CONTENT[:position] + noise + (b"" if cut else CONTENT[position + len(noise) :])
    try:
        header = parse_onnx(damaged, "m.onnx")
    except BadModelError:
        return
    assert header.nodes


@given(st.binary(max_size=64))
def test_noise_is_no_model(content: bytes) -> None:
    with pytest.raises(BadModelError):
        parse_onnx(content, "m.onnx")
