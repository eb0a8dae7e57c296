from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.device.engine.rtx_program import read_program

# As TensorRT-RTX 1.7 writes it, shortened: tensors, then operations on them.
PROGRAM = """\
header {
  version = 5
  region = { name=devmem size=4096 alignment=128 instance=0 type=user place=accelerator unified=false }
}
descriptors {

  tensor={ alignment=128 dims={ 1 3 8 8 } name="input.1" offset=0 region="devmem" type=float }
  tensor={ alignment=128 dims={ 1 3 8 8 } name="codes" offset=0 region="devmem" type=int8 }
  tensor={ alignment=128 const_payload_size=108 dims={ 4 3 3 3 } name="weights" offset=1 region=c type=int8 }
  tensor={ alignment=128 dims={ "batch.1" 4 8 8 } name="a" offset=0 region="devmem" type=half }
  sub_tensor={ base="a" const_offset=0 dims={ 1 256 } name="b^deref" offset=0 type=half }
  tensor={ alignment=128 const_payload_size=5120 dims={ 10 256 } name="fc" offset=1 region=c type=half }
  tensor={ alignment=128 dims={ 1 10 } name="logits.1" offset=0 region="devmem" type=float }
}
main {
  function={ name=__myl_Quantize fqn=__myl_Quantize_0x1 args={ "x" "codes" } input_args={ "input.1" } \
output_args={ "codes" } layers="[ONNX Layer: q]" swap_ab=false }
  wait={ name="e0" stream=0 layers="" }
  corrltn={ name="conv1_U1" output={"a" } input={"codes" "weights" } stream=0 \
layers="[ONNX Layer: conv1][ONNX Layer: relu1][ONNX Layer: conv1]" }
  maxpool={ name="pool" output={"a" } input={"a" } stream=0 layers="[ONNX Layer: pool1]" }
  runtime_fusion={ name=__myl_FcAdd input_args={ "b^deref" "fc" } output_args={ "logits.1" } stream=0 \
layers="[ONNX Layer: fc]" backbone=gemm }
}
shape_main {
}
"""


def engine(text: str = PROGRAM) -> bytes:
    return b"ftrt\x00\x01" + b"\xff" * 40 + text.encode("latin-1") + b"\x00\x80weights"


def test_layers_with_their_types_work_and_nodes() -> None:
    program = read_program(engine(), ["conv1", "fc"])
    assert program is not None
    assert [(layer.kind, layer.dtype, layer.multiply_adds, layer.nodes) for layer in program.layers] == [
        ("pointwise", "fp32", 0, ("q",)),
        ("convolution", "int8", 108 * 64, ("conv1", "relu1")),
        ("pooling", "fp16", 0, ("pool1",)),
        ("convolution", "fp16", 2560, ("fc",)),
    ]
    assert program.layers[1].inputs == (("codes", "int8"), ("weights", "int8"))
    assert program.layers[1].outputs == (("a", "fp16"),)
    assert program.memory == 4096
    assert (program.weights, program.kernels) == (108 + 5120, 1)


def test_the_program_that_accounts_for_all_is_taken_whichever_comes_first() -> None:
    other = PROGRAM.replace("conv1", "another").replace("[ONNX Layer: fc]", "[ONNX Layer: y]")
    program = read_program(engine(other) + engine(), ["conv1", "fc"])
    assert program is not None
    assert program.layers[1].nodes == ("conv1", "relu1")


@pytest.mark.parametrize(
    ("change", "to"),
    [
        ("header {\n  version", "header [\n  version"),
        ("\nshape_main", "\nother_main"),
        ("[ONNX Layer: fc]", ""),
        ('name="weights"', 'name="others"'),
        ("type=half }\n  tensor={ alignment=128 dims={ 1 10 }", "type=half4 }\n  tensor={ alignment=128 dims={ 1 10 }"),
        ("backbone=gemm", "backbone=unknown"),
    ],
)
def test_where_one_layer_is_not_accounted_for_nothing_is_said(change: str, to: str) -> None:
    assert change in PROGRAM
    assert read_program(engine(PROGRAM.replace(change, to)), ["conv1", "fc"]) is None


def test_a_small_matrix_product_is_a_generated_kernel() -> None:
    start, end = PROGRAM.index("  runtime_fusion"), PROGRAM.index("shape_main")
    kernel = """\
  function={ name=__myl_ReshMulSum fqn=__myl_ReshMulSum_0xbec0 args={ "fc" } input_args={ "fc" "b^deref" } \
output_args={ "logits.1" } layers="[ONNX Layer: fc]" swap_ab=false }
  function={ name=__myl_AddCast fqn=__myl_AddCast_0xa5da args={ "b" } input_args={ "b^deref" } \
output_args={ "logits.1" } layers="[ONNX Layer: fc]" swap_ab=false }
}
"""
    text = (PROGRAM[:start] + kernel + PROGRAM[end:]).replace('"fc"', '"fc/weight_constantHalf"')
    program = read_program(engine(text), ["conv1", "fc"])
    assert program is not None
    assert [(layer.kind, layer.dtype, layer.multiply_adds) for layer in program.layers[-2:]] == [
        ("convolution", "fp16", 2560),
        ("pointwise", "fp16", 0),
    ]


def test_activations_and_weights_of_two_types_are_no_answer() -> None:
    text = PROGRAM.replace('name="codes" offset=0 region="devmem" type=int8', 'name="codes" offset=0 type=half')
    assert read_program(engine(text), ["conv1"]) is None


def test_a_size_that_is_not_known_counts_as_no_work() -> None:
    program = read_program(engine(PROGRAM.replace("{ 4 3 3 3 }", "{ 4 3 -1 3 }")), ["conv1"])
    assert program is not None
    assert program.layers[1].multiply_adds == 0


@given(st.binary(max_size=200))
def test_noise_has_no_program(content: bytes) -> None:
    assert read_program(content, ["conv1"]) is None
    assert read_program(b"header {\n  version = 5" + content + b"\nshape_main", ["conv1"]) is None
