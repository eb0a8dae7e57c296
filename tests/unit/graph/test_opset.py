from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.errors import VerificationError
from googlenet_deploy.export.targets import LARGEST_OPSET, SMALLEST_OPSET, ir_version_for
from googlenet_deploy.export.verify import run
from googlenet_deploy.graph.graph import opset_of, serialize
from googlenet_deploy.graph.opset import ConvertOpset, same_signature
from googlenet_deploy.graph.pass_manager import PassManager

FLOAT = TensorProto.FLOAT


@pytest.mark.parametrize("opset", range(SMALLEST_OPSET, LARGEST_OPSET + 1))
def test_every_opset_computes_the_same(export_small: Any, samples_of: Any, architecture: str, opset: int) -> None:
    model = export_small(architecture).model
    converted = PassManager().run(model, [ConvertOpset(opset, ir_version_for(opset))])
    assert opset_of(converted) == opset
    assert converted.ir_version == ir_version_for(opset)
    samples = samples_of(architecture)
    np.testing.assert_array_equal(run(converted, samples)["logits"], run(model, samples)["logits"])


def test_the_same_opset_is_no_change(export_small: Any) -> None:
    model = export_small("bvlc").model
    assert not ConvertOpset(opset_of(model), model.ir_version).run(model)


@pytest.mark.parametrize(
    ("node", "current", "wanted", "same"),
    [
        (helper.make_node("Relu", ["x"], ["y"]), 13, 17, True),
        (helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], ceil_mode=1), 22, 13, True),
        (helper.make_node("Softmax", ["x"], ["y"]), 11, 13, False),  # the default axis changed
        (helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3]), 13, 18, False),  # axes became an input
        (helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2]), 19, 17, False),
        (helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2]), 19, 17, True),
        (helper.make_node("Reshape", ["x", "s"], ["y"], allowzero=0), 14, 13, True),
        (helper.make_node("Reshape", ["x", "s"], ["y"], allowzero=1), 14, 13, False),
        (helper.make_node("Mish", ["x"], ["y"]), 18, 17, False),  # new in 18
        (helper.make_node("Upsample", ["x", "s"], ["y"]), 9, 17, False),  # gone since 10
        (helper.make_node("Anything", ["x"], ["y"], domain="com.example"), 13, 17, True),
    ],
)
def test_signatures(node: Any, current: Any, wanted: Any, same: bool) -> None:
    assert same_signature(node, current, wanted) == same


def test_an_attribute_that_holds_its_default_is_dropped(model_of: Any) -> None:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"], "r", allowzero=0)]
    constants = {"s": np.array([4], np.int64)}
    model = model_of(nodes, [("x", FLOAT, [2, 2])], [("y", FLOAT, [4])], constants, 14)
    converted = PassManager().run(model, [ConvertOpset(13, 7)])
    assert not converted.graph.node[0].attribute


@pytest.mark.parametrize("opset", [13, 17])
def test_old_opsets_go_through_the_converter_of_onnx(tiny_classifier: Any, samples_tiny: Any, opset: int) -> None:
    model = tiny_classifier(opset=9, batch=2)
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["chances"], ""))
    model.graph.output[0].name = "chances"
    model.graph.node[-1].name = "softmax"
    converted = PassManager().run(model, [ConvertOpset(opset, ir_version_for(opset))])
    assert opset_of(converted) == opset
    before, after = run(model, samples_tiny)["chances"], run(converted, samples_tiny)["chances"]
    np.testing.assert_allclose(after, before, atol=1e-6)


@pytest.fixture(scope="session")
def samples_tiny() -> Any:
    """Three 3x8x8 images."""
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.export.samples import seeded_samples

    return seeded_samples(Preprocessing(resize=8, crop=(8, 8)), 3)


def test_what_cannot_be_converted_is_an_error_and_changes_nothing(model_of: Any) -> None:
    nodes = [helper.make_node("BitwiseNot", ["x"], ["y"], "not")]
    model = model_of(nodes, [("x", TensorProto.INT32, [2])], [("y", TensorProto.INT32, [2])], opset=18)
    before = serialize(model)
    with pytest.raises(VerificationError):
        PassManager().run(model, [ConvertOpset(13, 7)])
    assert serialize(model) == before
