from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from googlenet_deploy.device.predictions import softmax
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import VerificationError
from googlenet_deploy.export.samples import seeded_samples
from googlenet_deploy.export.verify import (
    Reference,
    largest_difference,
    reference_of,
    round_up,
    run,
    tolerance_for,
)

FLOAT = TensorProto.FLOAT
SAMPLES = seeded_samples(Preprocessing(resize=8, crop=(8, 8)), 3)
LOGITS = np.array([[1.0, 5.0, 2.0], [4.0, 0.0, 3.0], [0.0, 1.0, 9.0]], np.float32)


def reference() -> Reference:
    return Reference(SAMPLES, {"logits": LOGITS}, "logits")


def test_equal_outputs_hold() -> None:
    comparison = reference().compare_outputs({"logits": LOGITS.copy()}, "itself")
    assert comparison.holds
    assert comparison.largest == 0
    assert (comparison.agreeing, comparison.ties, comparison.count) == (3, 0, 3)
    assert "same class for 3 of 3, on 3 seeded pictures" in comparison.sentence()


@pytest.mark.parametrize("value", [1e-3, -1.0, math.nan, math.inf])
def test_a_value_that_is_off_does_not_hold(value: float) -> None:
    outputs = LOGITS.copy()
    outputs[1, 1] = value
    assert not reference().compare_outputs({"logits": outputs}, "it").holds


def test_a_changed_class_does_not_hold_unless_it_was_a_tie() -> None:
    close = LOGITS.copy()
    close[0] = [1.0, 5.0, 5.0 - 1e-6]
    other = close.copy()
    other[0] = [1.0, 5.0 - 1e-6, 5.0]
    comparison = Reference(SAMPLES, {"logits": close}, "logits").compare_outputs({"logits": other}, "it")
    assert comparison.holds
    assert (comparison.agreeing, comparison.ties) == (2, 1)
    assert "1 tied" in comparison.sentence()
    swapped = LOGITS[:, [1, 0, 2]]
    comparison = reference().compare_outputs({"logits": swapped}, "it")
    assert not comparison.holds
    assert (comparison.agreeing, comparison.ties) == (1, 0)


@pytest.mark.parametrize("with_softmax", [False, True])
def test_other_outputs_are_derived_from_the_logits(with_softmax: bool) -> None:
    scores = softmax(LOGITS.astype(np.float64)) if with_softmax else LOGITS.astype(np.float64)
    indices = np.argsort(-scores, axis=1)[:, :2]
    outputs = {"top_k_values": np.take_along_axis(scores, indices, axis=1), "top_k_indices": indices}
    assert reference().compare_outputs(outputs, "it").holds
    wrong = {**outputs, "top_k_indices": indices[:, ::-1]}
    assert not reference().compare_outputs(wrong, "it").holds
    with pytest.raises(VerificationError, match="does not exist"):
        reference().compare_outputs({**outputs, "top_k_indices": indices + 5}, "it")


def test_probabilities_are_compared_as_such() -> None:
    assert reference().compare_outputs({"probabilities": softmax(LOGITS.astype(np.float64))}, "it").holds
    assert not reference().compare_outputs({"probabilities": LOGITS}, "it").holds


def test_unknown_outputs_and_shapes_are_errors() -> None:
    with pytest.raises(VerificationError, match="nothing is known of the output features"):
        reference().compare_outputs({"features": LOGITS}, "it")
    with pytest.raises(VerificationError, match="shape"):
        reference().compare_outputs({"logits": LOGITS[:, :2]}, "it")


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, "batch"])
def test_fixed_batches_are_filled_up(tiny_classifier: Any, batch: Any) -> None:
    free = run(tiny_classifier(), SAMPLES)["logits"]
    np.testing.assert_allclose(run(tiny_classifier(batch=batch), SAMPLES)["logits"], free, atol=1e-6)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_uint8_inputs_get_the_pixels(model_of: Any, layout: str) -> None:
    shape = [3, 8, 8, 3] if layout == "NHWC" else [3, 3, 8, 8]
    nodes = [helper.make_node("Cast", ["input"], ["y"], "cast", to=FLOAT)]
    model = model_of(nodes, [("input", TensorProto.UINT8, shape)], [("y", FLOAT, shape)])
    axes = (0, 1, 2, 3) if layout == "NHWC" else (0, 3, 1, 2)
    np.testing.assert_array_equal(run(model, SAMPLES)["y"], SAMPLES.pixels.transpose(axes))


def test_models_that_do_not_run(model_of: Any, tiny_classifier: Any) -> None:
    unknown = model_of(
        [helper.make_node("Nonsense", ["input"], ["y"], "n")], [("input", FLOAT, [3])], [("y", FLOAT, [3])]
    )
    with pytest.raises(VerificationError, match="does not load"):
        run(unknown, SAMPLES)
    smaller = tiny_classifier()
    smaller.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 9
    with pytest.raises(VerificationError, match="does not run"):
        run(smaller, SAMPLES)
    two = model_of(
        [helper.make_node("Add", ["a", "b"], ["y"], "n")], [("a", FLOAT, [3]), ("b", FLOAT, [3])], [("y", FLOAT, [3])]
    )
    with pytest.raises(VerificationError, match="2 inputs"):
        run(two, SAMPLES)


def test_a_reference_finds_its_scores(tiny_classifier: Any) -> None:
    assert reference_of(tiny_classifier(), SAMPLES).scores == "logits"


@given(st.floats(1e-12, 1e12))
def test_rounding_up(value: float) -> None:
    bound = round_up(value)
    assert value * (1 - 1e-9) <= bound <= 2.5 * value * (1 + 1e-9)
    assert f"{bound:.0e}"[0] in "125"


def test_rounding_special_values() -> None:
    assert round_up(0.0) == 0.0
    assert round_up(math.inf) == math.inf
    assert round_up(2e-6) == 2e-6
    assert round_up(2.1e-6) == 5e-6
    assert round_up(0.9) == 1.0


def test_tolerances() -> None:
    assert tolerance_for(np.array([10.0])) == 1e-4
    assert tolerance_for(np.array([-50.0])) == 1e-4
    assert tolerance_for(np.array([500.0])) == pytest.approx(1e-3)
    assert tolerance_for(np.array([0.01])) == pytest.approx(1e-6)
    assert tolerance_for(np.array([])) == 0
    assert largest_difference(np.array([]), np.array([])) == 0
