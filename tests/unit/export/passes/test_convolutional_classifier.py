from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.device.builder.dla_rules import dla_placements
from googlenet_deploy.device.onnx_model.header import parse_onnx
from googlenet_deploy.export.passes.convolutional_classifier import ConvolutionalClassifier
from googlenet_deploy.export.verify import run
from googlenet_deploy.graph.graph import operator_counts, serialize
from googlenet_deploy.graph.pass_manager import PassManager

FLOAT = TensorProto.FLOAT


def test_the_same_logits_under_the_same_names(export_small: Any, samples_of: Any, architecture: str) -> None:
    model = export_small(architecture, convolutional_classifier=True).model
    classifier, flatten = model.graph.node[-2:]
    assert [(node.op_type, node.name) for node in (classifier, flatten)] == [("Conv", "fc"), ("Flatten", "flatten")]
    plain = run(export_small(architecture).model, samples_of(architecture))["logits"]
    np.testing.assert_allclose(run(model, samples_of(architecture))["logits"], plain, atol=1e-5)


def test_a_dla_takes_all_but_the_flatten(export_small: Any) -> None:
    model = export_small("bvlc", convolutional_classifier=True, average_pool=True, batch=1).model
    header = parse_onnx(serialize(model), "m.onnx")
    assert [entry.name for entry in dla_placements(header, (7, 2)) if entry.reason] == ["flatten"]


def flat(model_of: Any, *, size: int = 1, bias: bool = True, **gemm: Any) -> Any:
    rows = 3 * size * size
    constants: dict[str, Any] = {"w": np.arange(4 * rows, dtype=np.float32).reshape(rows, 4)}
    if gemm.get("transB"):
        constants["w"] = np.ascontiguousarray(constants["w"].T)
    if bias:
        constants["b"] = np.float32([1, 2, 3, 4])
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"], "flat", axis=1),
        helper.make_node("Gemm", ["f", "w", *(["b"] if bias else [])], ["y"], "gemm", **gemm),
    ]
    return model_of(nodes, [("x", FLOAT, ["n", 3, size, size])], [("y", FLOAT, ["n", 4])], constants)


@pytest.mark.parametrize("options", [{"transB": 1}, {"transB": 0}, {"bias": False}])
def test_every_form_of_the_weights(model_of: Any, options: dict[str, Any]) -> None:
    model = flat(model_of, **options)
    result = PassManager().run(model, [ConvolutionalClassifier()])
    assert operator_counts(result.graph) == {"Conv": 1, "Flatten": 1}
    image = {"x": np.float32([[[[1]], [[2]], [[3]]]])}
    values = [onnxruntime.InferenceSession(serialize(each)).run(None, image)[0] for each in (model, result)]
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("options", [{"alpha": 2.0}, {"beta": 0.5}, {"size": 2}])
def test_what_is_no_such_classifier_stays(model_of: Any, options: dict[str, Any]) -> None:
    assert not ConvolutionalClassifier().run(flat(model_of, **options))


def test_a_flatten_that_others_read_stays(model_of: Any) -> None:
    model = flat(model_of)
    model.graph.output.append(helper.make_tensor_value_info("f", FLOAT, ["n", 3]))
    assert not ConvolutionalClassifier().run(model)
