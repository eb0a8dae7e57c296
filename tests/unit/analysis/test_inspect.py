from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.analysis.costs import CostModel
from googlenet_deploy.analysis.inspect import describe, table_lines
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadModelError
from googlenet_deploy.graph.files import store_metadata
from googlenet_deploy.graph.graph import serialize

FLOAT = TensorProto.FLOAT


@pytest.fixture
def described(tmp_path: Path) -> Any:
    """Describes a model."""

    def run(model: onnx.ModelProto, batch: int = 1) -> Any:
        path = tmp_path / "model.onnx"
        path.write_bytes(serialize(model))
        return describe(path, batch)

    return run


@pytest.mark.parametrize("batch", [1, 4])
def test_costs_by_hand(tiny_classifier: Any, described: Any, batch: Any) -> None:
    description = described(tiny_classifier(), batch)
    conv, relu, pool, flatten, gemm = description.layers
    assert conv.shape == (batch, 4, 8, 8)
    assert conv.parameters == 4 * 3 * 9 + 4
    assert conv.multiply_adds == batch * 4 * 64 * 27
    assert conv.output_bytes == relu.output_bytes == batch * 4 * 64 * 4
    assert gemm.parameters == 5 * 4 + 5
    assert gemm.multiply_adds == batch * 20
    assert pool.multiply_adds == relu.multiply_adds == flatten.parameters == 0
    assert description.parameters == 137
    assert description.activation_bytes == batch * 4 * (256 + 256 + 4 + 4 + 5)
    assert description.peak_activation_bytes == batch * 4 * 512
    assert description.peak_layer == "r"
    assert description.weight_bytes == 137 * 4
    assert all(layer.shape is not None for layer in description.layers)


def test_a_fixed_batch_counts(tiny_classifier: Any, described: Any) -> None:
    assert described(tiny_classifier(batch=2)).batch == 2


def test_live_memory_of_branches(model_of: Any) -> None:
    """While the second branch runs, the first one's result and the shared input are alive."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "a"),
        helper.make_node("Sigmoid", ["x"], ["b"], "b"),
        helper.make_node("Add", ["a", "b"], ["y"], "add"),
    ]
    model = model_of(nodes, [("x", FLOAT, [10])], [("y", FLOAT, [10])])
    assert CostModel(model).peak_bytes() == (3 * 40, "b")


def test_generated_weights_count_as_weights(model_of: Any) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["w"], "gen"),
        helper.make_node("Conv", ["x", "w"], ["y"], "conv"),
    ]
    constants = {"shape": np.array([2, 3, 1, 1], np.int64)}
    model = model_of(nodes, [("x", FLOAT, [1, 3, 4, 4])], [("y", FLOAT, [1, 2, 4, 4])], constants)
    (cost,) = CostModel(model).nodes()
    assert (cost.name, cost.parameters, cost.multiply_adds) == ("conv", 6, 96)


def test_open_height_and_width_are_those_of_the_stored_preprocessing(model_of: Any) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "conv")]
    shapes = [("x", FLOAT, ["n", 3, "h", "w"])], [("y", FLOAT, ["n", 2, "h", "w"])]
    model = model_of(nodes, *shapes, {"w": np.ones((2, 3, 1, 1), np.float32)})
    store_metadata(model, ModelMetadata("other", Preprocessing(resize=8, crop=(6, 4)), (), ()))
    (cost,) = CostModel(model).nodes()
    assert cost.multiply_adds == 6 * 4 * 3 * 2


def test_quantised_layers(model_of: Any, described: Any) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], "q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], "dq"),
        helper.make_node("DequantizeLinear", ["wq", "s", "z"], ["w"], "wdq"),
        helper.make_node("Conv", ["xd", "w"], ["y"], "conv"),
    ]
    constants = {"s": np.float32(0.1), "z": np.int8(0), "wq": np.ones((2, 3, 1, 1), np.int8)}
    model = model_of(nodes, [("x", FLOAT, [1, 3, 4, 4])], [("y", FLOAT, [1, 2, 4, 4])], constants)
    description = described(model)
    assert (description.quantize_nodes, description.dequantize_nodes) == (1, 2)
    layers = {layer.name: layer for layer in description.layers}
    assert layers["conv"].quantized
    assert layers["conv"].parameters == 6
    assert layers["q"].output_bytes == 48
    assert "wdq" not in layers
    text = "\n".join(table_lines(description))
    assert "1 QuantizeLinear, 2 DequantizeLinear, 1 layer in INT8" in text


def open_size(sizes: Any, *nodes: Any, constants: Any = None) -> Any:
    """Nodes from x (n, 3, height, width) to y."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 3, *sizes])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("other", 1)])


def test_unknown_shapes_are_refused_with_the_first_layer(described: Any) -> None:
    relu, exp = helper.make_node("Relu", ["x"], ["a"], "act"), helper.make_node("Exp", ["a"], ["y"], "exp")
    with pytest.raises(BadModelError, match=r"layer act \(Relu\) cannot be inferred.*x float32 \(1, 3, h, w\)"):
        described(open_size(("h", "w"), relu, exp))
    foreign = helper.make_node("Fused", ["x"], ["a"], "fused", domain="other")
    with pytest.raises(BadModelError, match=r"holds Fused of the domain other \(fused\)"):
        described(open_size((8, 8), foreign, exp))
    unknown = helper.make_node("NonZero", ["x"], ["y"], "where")
    with pytest.raises(BadModelError, match=r"layer where \(NonZero\)"):
        described(open_size((8, 8), unknown))


def test_the_preprocessing_fixes_an_open_size(described: Any) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], "conv")
    model = open_size(("h", "w"), conv, constants={"w": np.ones((2, 3, 3, 3), np.float32)})
    specification = Preprocessing(resize=12, crop=(8, 10), mean=(0.0,) * 3, std=(1.0,) * 3)
    store_metadata(model, ModelMetadata(preprocessing=specification))
    (layer,) = described(model, 2).layers
    assert layer.shape == (2, 2, 6, 8)
    assert layer.multiply_adds == 2 * 2 * 6 * 8 * 27


@pytest.mark.parametrize("written", [-1, 0])
def test_dimensions_below_one_are_open(described: Any, written: int) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], "conv")
    model = open_size((8, 8), conv, constants={"w": np.ones((2, 3, 1, 1), np.float32)})
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = written
    description = described(model, 4)
    assert description.batch == 4
    assert description.multiply_adds == 4 * 2 * 64 * 3
    assert description.inputs == ("x float32 (?, 3, 8, 8)",)


def test_shapes_behind_computed_reshapes_and_weights_behind_nodes(described: Any) -> None:
    """``x.view(x.size(0), -1)`` and a transposed weight: all sizes follow once constants are folded."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], "shape"),
        helper.make_node("Gather", ["s", "zero"], ["n"], "size", axis=0),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"], "unsqueeze"),
        helper.make_node("Concat", ["n1", "rest"], ["target"], "concat", axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"], "view"),
        helper.make_node("Transpose", ["w"], ["wt"], "transposed", perm=[1, 0]),
        helper.make_node("MatMul", ["flat", "wt"], ["y"], "linear"),
    ]
    constants = {
        "zero": np.int64(0).reshape(()),
        "axes": np.array([0], np.int64),
        "rest": np.array([-1], np.int64),
        "w": np.ones((10, 3 * 8 * 8), np.float32),
    }
    view, linear = described(open_size((8, 8), *nodes, constants=constants), 2).layers
    assert (view.name, view.shape) == ("view", (2, 192))
    assert (linear.multiply_adds, linear.parameters) == (2 * 192 * 10, 1920)


def test_matrix_products_and_transposed_convolutions(model_of: Any) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "m"], ["a"], "matmul"),
        helper.make_node("ConvTranspose", ["i", "w"], ["b"], "deconv", strides=[2, 2]),
    ]
    constants = {"m": np.zeros((4, 5), np.float32), "w": np.zeros((3, 2, 2, 2), np.float32)}
    inputs = [("x", FLOAT, [2, 4]), ("i", FLOAT, [1, 3, 4, 4])]
    model = model_of(nodes, inputs, [("a", FLOAT, [2, 5]), ("b", FLOAT, [1, 2, 8, 8])], constants)
    costs = {cost.name: cost for cost in CostModel(model).nodes()}
    assert costs["matmul"].multiply_adds == 2 * 5 * 4
    assert costs["deconv"].multiply_adds == 3 * 16 * 8


def test_the_light_model_of_the_onnx_package() -> None:
    """A GoogLeNet of 2018: opset 9, IR version 3, initializers listed as inputs, weights from ConstantOfShape."""
    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_inception_v1.onnx"
    description = describe(path)
    assert (description.opset, description.ir_version) == (9, 3)
    assert description.inputs == ("data_0 float32 (1, 3, 224, 224)",)
    assert description.parameters == 6_998_552
    assert description.operators["LRN"] == 2
    assert all(layer.shape is not None for layer in description.layers)


def test_text_and_json(export_small: Any, described: Any, architecture: str) -> None:
    description = described(export_small(architecture).model)
    text = "\n".join(table_lines(description))
    for part in (
        "inception4e/branch3/1/conv",
        "parameters",
        "multiply-adds",
        "live at once",
        "preprocessing",
        "10: class 0",
    ):
        assert part in text
    assert "inception4e" not in "\n".join(table_lines(description, layers=False))
    values = json.loads(json.dumps(description.to_dict()))
    assert values["totals"]["parameters"] == description.parameters
    assert len(values["layers"]) == len(description.layers)
    assert values["layers"][0]["element_type"] == "float32"
    assert values["metadata"]["googlenet_deploy.architecture"] == architecture


def test_long_metadata_is_shortened(tiny_classifier: Any, described: Any) -> None:
    model = tiny_classifier()
    model.metadata_props.add(key="notes", value="word \n" * 500)
    line = next(line for line in table_lines(described(model)) if "notes" in line)
    assert line.endswith("...")
    assert len(line) < 350


def test_a_weight_whose_data_do_not_fit_is_refused(tiny_classifier: Any, described: Any) -> None:
    model = tiny_classifier()
    weight = model.graph.initializer[0]
    values = onnx.numpy_helper.to_array(weight).ravel().tolist()
    weight.ClearField("raw_data")
    weight.float_data[:] = [*values, 1.0]
    with pytest.raises(BadModelError):
        described(model)


def test_a_weight_of_a_type_that_there_is_not_is_refused(tiny_classifier: Any, described: Any) -> None:
    model = tiny_classifier()
    for weight in model.graph.initializer:
        weight.data_type = 29
    with pytest.raises(BadModelError):
        described(model)
