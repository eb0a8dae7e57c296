from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.export.half_precision.ranges import largest_magnitudes, measure_ranges
from googlenet_deploy.export.samples import Samples
from googlenet_deploy.graph.shapes import restate_shapes


def samples(*pictures: Any) -> Samples:
    prepared = np.stack([np.asarray(picture, np.float32) for picture in pictures])
    pixels = np.zeros((len(prepared), *prepared.shape[2:], prepared.shape[1]), np.uint8)
    return Samples(pixels, prepared, "made up")


def pooled(model_of: Any, node: Any, shape: list[object]) -> Any:
    model = model_of([node], [("input", TensorProto.FLOAT, ["batch", 2, 4, 4])], [("out", TensorProto.FLOAT, shape)])
    restate_shapes(model)
    return model


def test_the_largest_magnitude_over_all_images_of_inputs_too(model_of: Any) -> None:
    model = pooled(model_of, helper.make_node("Neg", ["input"], ["out"], "neg"), ["batch", 2, 4, 4])
    first, second = np.zeros((2, 4, 4)), np.zeros((2, 4, 4))
    first[0, 0, 0], second[1, 2, 3] = 3, -7
    assert largest_magnitudes(model, samples(first, second)) == {"input": 7, "out": 7}


@pytest.mark.parametrize(
    ("node", "shape", "inside"),
    [
        (helper.make_node("LRN", ["input"], ["out"], "n", size=5), [2, 4, 4], 5 * 9),
        (helper.make_node("GlobalAveragePool", ["input"], ["out"], "n"), [2, 1, 1], 16 * 3),
        (helper.make_node("AveragePool", ["input"], ["out"], "n", kernel_shape=[2, 3]), [2, 3, 2], 6 * 3),
        (helper.make_node("Relu", ["input"], ["out"], "n"), [2, 4, 4], 0),
    ],
)
def test_what_a_layer_sums_up(model_of: Any, node: Any, shape: list[int], inside: float) -> None:
    (found,) = measure_ranges(pooled(model_of, node, ["batch", *shape]), samples(np.full((2, 4, 4), 3)))
    assert (found.name, found.operator, found.inside) == ("n", node.op_type, inside)
    assert found.largest == max(found.output, inside)


def test_integers_have_no_range(model_of: Any) -> None:
    model = model_of(
        [helper.make_node("Shape", ["input"], ["out"], "shape")],
        [("input", TensorProto.FLOAT, ["batch", 2, 4, 4])],
        [("out", TensorProto.INT64, [4])],
    )
    restate_shapes(model)
    assert measure_ranges(model, samples(np.zeros((2, 4, 4)))) == []


def test_scalars_have_a_range(model_of: Any) -> None:
    """A float of rank 0 that depends on the images, and a constant bound of rank 0."""
    nodes = [
        helper.make_node("ReduceMax", ["input"], ["scalar"], "largest", keepdims=0),
        helper.make_node("Constant", [], ["limit"], "limit", value_float=-2.5),
        helper.make_node("Max", ["scalar", "limit"], ["bound"], "bound"),
        helper.make_node("Mul", ["input", "bound"], ["out"], "times"),
    ]
    model = model_of(
        nodes, [("input", TensorProto.FLOAT, ["batch", 2, 4, 4])], [("out", TensorProto.FLOAT, ["batch", 2, 4, 4])]
    )
    restate_shapes(model)
    found = largest_magnitudes(model, samples(np.full((2, 4, 4), -3)))
    assert (found["scalar"], found["limit"], found["bound"], found["out"]) == (3, 2.5, 2.5, 7.5)
