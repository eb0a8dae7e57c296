from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.export.half_precision.emulate import stand_in
from googlenet_deploy.export.half_precision.rewrite import HalfPrecision
from googlenet_deploy.export.half_precision.types import BF16, FP16, HalfType
from googlenet_deploy.export.samples import Samples
from googlenet_deploy.export.verify import run
from googlenet_deploy.graph.graph import serialize
from googlenet_deploy.graph.pass_manager import check_model
from googlenet_deploy.graph.shapes import restate_shapes


def scaled(model_of: Any, kind: HalfType, factor: float) -> Any:
    """input * factor * (1 / factor), each product in 16 bits."""
    nodes = [
        helper.make_node("Conv", ["input", "up"], ["a"], "up"),
        helper.make_node("Conv", ["a", "down"], ["b"], "down"),
        helper.make_node("Flatten", ["b"], ["out"], "flat"),
    ]
    constants = {"up": np.float32([[[[factor]]]]), "down": np.float32([[[[1 / factor]]]])}
    image, out = [("input", TensorProto.FLOAT, ["batch", 1, 1, 2])], [("out", TensorProto.FLOAT, ["batch", 2])]
    model = model_of(nodes, image, out, constants, opset=22, ir_version=10)
    restate_shapes(model)
    assert HalfPrecision(kind, ()).run(model)
    restate_shapes(model)
    return model


def images(*values: float) -> Samples:
    prepared = np.float32(values).reshape(1, 1, 1, 2)
    return Samples(np.zeros((1, 1, 2, 1), np.uint8), prepared, "made up")


def test_an_overflow_that_onnx_runtime_hides_shows(model_of: Any) -> None:
    model = scaled(model_of, FP16, 256.0)
    assert np.isfinite(run(model, images(300.0, 2.0))["out"]).all()
    check_model(stand_in(model))
    out = run(stand_in(model), images(300.0, 2.0))["out"]
    assert np.isinf(out[0, 0])
    assert out[0, 1] == 2.0


@pytest.mark.parametrize("kind", [FP16, BF16], ids=lambda kind: kind.name)
def test_values_are_rounded_as_the_type_does(model_of: Any, kind: HalfType) -> None:
    values = (1.0 + 2**-9 + 2**-13, 3.14159)
    out = run(stand_in(scaled(model_of, kind, 2.0)), images(*values))["out"]
    np.testing.assert_array_equal(out[0], kind.rounded(np.float32(values)))


def test_a_float32_model_stays_what_it_is(tiny_classifier: Any) -> None:
    model = tiny_classifier()
    again = stand_in(model)
    restate_shapes(again)
    assert serialize(again) == serialize(model)
