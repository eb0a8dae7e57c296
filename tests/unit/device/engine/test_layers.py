from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.device.engine.layers import (
    failed_gates,
    fallbacks,
    layer_table,
    parse_gates,
    parse_inspection,
    precision_shares,
    type_in,
)
from googlenet_deploy.errors import UsageError

INT8 = "Thirty-two wide channel vectorized row major Int8 format"
HALF = "Two wide channel vectorized row major FP16 format"


def convolution(name: str, weights: str, count: int, size: int, layout: str = INT8) -> dict[str, Any]:
    """A layer as TensorRT 8.5's inspector prints it."""
    return {
        "Name": name,
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "x", "Location": "Device", "Dimensions": [1, 3, size, size], "Format/Datatype": layout}],
        "Outputs": [{"Name": "y", "Location": "Device", "Dimensions": [1, 8, size, size], "Format/Datatype": layout}],
        "ParameterType": "Convolution",
        "Kernel": [3, 3],
        "Weights": {"Type": weights, "Count": count},
        "TacticName": "sm80_xmma_fprop",
    }


def pooling() -> dict[str, Any]:
    port = {"Name": "x", "Dimensions": [1, 8, 4, 4], "Format/Datatype": HALF}
    return {
        "Name": "pool1",
        "LayerType": "TiledPooling",
        "Inputs": [port],
        "Outputs": [port],
        "ParameterType": "Pooling",
    }


def inspect(*layers: Any) -> list[Any]:
    return parse_inspection(json.dumps({"Layers": list(layers), "Bindings": []}))


def test_types_and_multiply_adds() -> None:
    layers = inspect(convolution("conv1", "Int8", 216, 10), pooling(), convolution("conv2", "Half", 216, 10, HALF))
    assert [(layer.kind, layer.dtype, layer.multiply_adds) for layer in layers] == [
        ("convolution", "int8", 21600),
        ("pooling", "fp16", 0),
        ("convolution", "fp16", 21600),
    ]
    assert precision_shares(layers) == {
        "convolutions": {"int8": 0.5, "fp16": 0.5},
        "multiply_adds": {"int8": 0.5, "fp16": 0.5},
    }


def test_newer_versions_say_the_datatype_apart() -> None:
    entry = convolution("conv1", "", 216, 4)
    entry["Inputs"][0].update({"Format/Datatype": "N/A", "Datatype": "BFloat16"})
    assert inspect(entry)[0].dtype == "bf16"


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        (INT8, "int8"),
        (HALF, "fp16"),
        ("Half", "fp16"),
        ("Row major linear FP32", "fp32"),
        ("Float", "fp32"),
        ("?", "?"),
    ],
)
def test_type_in_words(text: str, dtype: str) -> None:
    assert type_in(text) == dtype


def test_engines_without_layer_information_have_names_only() -> None:
    layers = inspect("conv1", "pool1")
    assert [(layer.name, layer.dtype) for layer in layers] == [("conv1", "?"), ("pool1", "?")]
    assert failed_gates(layers, {"int8": 0.5}) == {"int8": "int8: 0.0% of the convolutions, 50.0% required"}


def test_gate_counts_work_not_layers() -> None:
    large, small = convolution("large", "Int8", 9000, 10), convolution("small", "Half", 1000, 10, HALF)
    layers = inspect(large, small)
    assert failed_gates(layers, {"int8": 0.9}) == {}
    assert "90.0% of the multiply-adds" in failed_gates(layers, {"int8": 0.91})["int8"]


def test_a_layer_whose_work_is_not_known_is_not_overlooked() -> None:
    unknown = convolution("gemm", "Half", 1000, 10, HALF)
    del unknown["Outputs"][0]["Dimensions"]
    layers = inspect(convolution("large", "Int8", 9000, 10), unknown)
    assert precision_shares(layers)["multiply_adds"] == {}
    assert "50.0% of the convolutions" in failed_gates(layers, {"int8": 0.6})["int8"]


def test_an_open_batch_counts_as_one_image() -> None:
    entry = convolution("conv1", "Int8", 216, 10)
    entry["Outputs"][0]["Dimensions"][0] = -1
    assert inspect(entry)[0].multiply_adds == 21600


def test_the_models_nodes_are_those_of_the_metadata_or_the_name() -> None:
    entry = convolution("conv1 + relu1", "Int8", 216, 10)
    assert inspect(entry)[0].nodes == ("conv1", "relu1")
    entry["Metadata"] = "[ONNX Layer: conv1]\x1e[ONNX Layer: concat]"
    assert inspect(entry)[0].nodes == ("conv1", "concat")


def test_what_fell_back_is_named_with_a_reason() -> None:
    ((layer, why),) = fallbacks(inspect(convolution("a", "Int8", 9, 4), convolution("b", "Half", 9, 4, HALF)), "int8")
    assert layer.name == "b"
    assert "no INT8 scale" in why


@pytest.mark.parametrize(
    ("wanted", "model_type", "words"),
    [
        ("int8", "int8", "no Q/DQ pair reaches it, or it has no INT8 kernel on this GPU"),
        ("int8", "fp32", "the model is fp32, and a strongly typed build keeps its types"),
        ("bf16", "int8", "the model is int8"),
        ("int8", "", "or another type was faster"),
    ],
)
def test_nothing_was_faster_where_the_model_gives_the_types(wanted: str, model_type: str, words: str) -> None:
    ((_, why),) = fallbacks(inspect(convolution("b", "Half", 9, 4, HALF)), wanted, model_type)
    assert words in why


def test_table_has_a_line_per_layer() -> None:
    lines = layer_table(inspect(convolution("conv1", "Int8", 216, 10), pooling()))
    assert len(lines) == 3
    assert "21,600" in lines[1]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Layers": 3}'])
def test_what_is_no_inspection_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_inspection(text)


def test_gates_from_text() -> None:
    assert parse_gates(["int8=0.95", "fp16=0"]) == {"int8": 0.95, "fp16": 0.0}


@pytest.mark.parametrize("text", ["int8", "int8=", "int8=2", "int8=-0.1", "int4=0.5", "int8=nan", "=1"])
def test_bad_gates(text: str) -> None:
    with pytest.raises(UsageError):
        parse_gates([text])


@given(st.lists(st.tuples(st.sampled_from(["Int8", "Half", "Float"]), st.integers(1, 10**6)), min_size=1, max_size=8))
def test_shares_sum_to_one(entries: list[tuple[str, int]]) -> None:
    layers = inspect(*(convolution(str(index), kind, count, 7) for index, (kind, count) in enumerate(entries)))
    for shares in precision_shares(layers).values():
        assert sum(shares.values()) == pytest.approx(1)
