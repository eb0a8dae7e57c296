from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.export.passes.classifier_head import ClassifierHead, WindowedAveragePool
from googlenet_deploy.export.verify import run
from googlenet_deploy.graph.graph import integers, operator_counts
from googlenet_deploy.graph.pass_manager import PassManager
from googlenet_deploy.graph.shapes import restate_shapes

FLOAT = TensorProto.FLOAT


def pooled(model_of: Any, axes: Any, *, keepdims: Any = 1, opset: int = 18, shape: Any = (2, 4)) -> Any:
    """ReduceMean over `axes` of a (2, 4, 3, 5) tensor, and a Reshape of it."""
    constants = {"shape": np.array(shape, np.int64)}
    if opset >= 18:
        constants["axes"] = np.array(axes, np.int64)
        mean = helper.make_node("ReduceMean", ["x", "axes"], ["m"], "mean", keepdims=keepdims)
    else:
        mean = helper.make_node("ReduceMean", ["x"], ["m"], "mean", keepdims=keepdims, axes=axes)
    reshape = helper.make_node("Reshape", ["m", "shape"], ["y"], "reshape")
    return model_of([mean, reshape], [("x", FLOAT, [2, 4, 3, 5])], [("y", FLOAT, list(shape))], constants, opset)


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [-2, 3]])
@pytest.mark.parametrize("opset", [13, 18])
def test_mean_and_reshape_become_pool_and_flatten(model_of: Any, axes: Any, opset: int) -> None:
    result = PassManager().run(pooled(model_of, axes, opset=opset), [ClassifierHead()])
    assert operator_counts(result.graph) == {"GlobalAveragePool": 1, "Flatten": 1}


@pytest.mark.parametrize(
    ("axes", "options"),
    [([1, 2], {"shape": (2, 5)}), ([3], {"shape": (2, 12)}), ([2, 3], {"shape": (4, 2)}), ([2, 3], {"keepdims": 0})],
)
def test_others_stay(model_of: Any, axes: Any, options: dict[str, Any]) -> None:
    model = pooled(model_of, axes, **options)
    result = PassManager().run(model, [ClassifierHead()])
    assert "Reshape" in operator_counts(result.graph)


def test_window_is_the_feature_map(export_small: Any, samples_of: Any, architecture: str) -> None:
    model = export_small(architecture, average_pool=True).model
    pool = next(node for node in model.graph.node if node.name == "avgpool")
    assert pool.op_type == "AveragePool"
    assert integers(pool, "kernel_shape", []) == [2, 2]
    plain = run(export_small(architecture).model, samples_of(architecture))["logits"]
    np.testing.assert_allclose(run(model, samples_of(architecture))["logits"], plain, atol=1e-5)


def test_no_window_without_a_size(tiny_classifier: Any) -> None:
    model = tiny_classifier()
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"size{axis}"
    restate_shapes(model)
    assert not WindowedAveragePool().run(model)
