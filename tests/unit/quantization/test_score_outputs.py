"""Which outputs are compared, and what their signal-to-noise ratio is of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.device.images.sources import ImageSource, find_images
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadModelError
from googlenet_deploy.graph.session import TensorSession
from googlenet_deploy.quantization.accuracy_probe import HoldOutEvaluation


@pytest.fixture
def images(picture_folder: Path) -> list[ImageSource]:
    return find_images([picture_folder]).images[:12]


def ended(model: onnx.ModelProto, *nodes: Any, outputs: dict[str, int]) -> onnx.ModelProto:
    """A model with further nodes, and other outputs of the given types."""
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    for name, kind in outputs.items():
        model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    return model


def softmax(source: str = "logits", name: str = "p") -> Any:
    return helper.make_node("Softmax", [source], [name], "softmax", axis=-1)


def label() -> Any:
    return helper.make_node("ArgMax", ["logits"], ["label"], "label", axis=1, keepdims=0)


F, I = TensorProto.FLOAT, TensorProto.INT64  # noqa: E741 - ONNX's types


def test_the_logits_before_a_softmax_are_compared(
    tiny: Callable, images: list[ImageSource], specification: Preprocessing
) -> None:
    one = HoldOutEvaluation(ended(tiny(), softmax(), outputs={"p": F}), specification, images)
    measure = one.measure(ended(tiny(seed=4), softmax(), outputs={"p": F}))
    plain = HoldOutEvaluation(tiny(), specification, images).measure(tiny(seed=4))
    assert measure.agreement.sqnr == pytest.approx(plain.agreement.sqnr, abs=1e-6)
    assert measure.quantity == "logit (before Softmax)"
    assert plain.quantity == "logit"


@pytest.mark.parametrize(
    ("operator", "factor", "swapped", "seen"),
    [("Mul", 100.0, False, True), ("Mul", 100.0, True, True), ("Div", 0.01, False, True), ("Mul", -1.0, False, False),
     ("Div", 1.0, True, False)],
)  # fmt: skip
def test_logits_before_probabilities_in_percent_are_compared(
    tiny: Callable,
    images: list[ImageSource],
    specification: Preprocessing,
    operator: str,
    factor: float,
    swapped: bool,
    seen: bool,
) -> None:
    def percent(seed: int) -> onnx.ModelProto:
        model = tiny(seed=seed)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(factor, np.float32), "factor"))
        inputs = ["factor", "p"] if swapped else ["p", "factor"]
        scaled = helper.make_node(operator, inputs, ["percent"], "percent")
        return ended(model, softmax(), scaled, outputs={"percent": F})

    measure = HoldOutEvaluation(percent(0), specification, images).measure(percent(4))
    assert (measure.quantity == "logit (before Softmax)") == seen
    if seen:
        plain = HoldOutEvaluation(tiny(), specification, images).measure(tiny(seed=4))
        assert measure.agreement.sqnr == pytest.approx(plain.agreement.sqnr, abs=1e-6)


def test_probabilities_without_a_visible_softmax_count_as_centred_logarithms(
    tiny: Callable, images: list[ImageSource], specification: Preprocessing
) -> None:
    nodes = [
        helper.make_node("Mul", ["logits", "tenth"], ["small"], "small"),
        helper.make_node("Exp", ["small"], ["e"], "e"),
        helper.make_node("ReduceSum", ["e", "last"], ["s"], "s", keepdims=1),
        helper.make_node("Div", ["e", "s"], ["p"], "p"),
    ]

    def probable(seed: int) -> onnx.ModelProto:
        model = ended(tiny(seed=seed), *nodes, outputs={"p": F})
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.1).reshape(()), "tenth"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "last"))
        return model

    evaluation = HoldOutEvaluation(probable(0), specification, images)
    measure = evaluation.measure(probable(4))
    pixels = np.concatenate([batch for batch, _ in evaluation.batches()])
    wanted, got = (TensorSession(tiny(seed=seed)).run(pixels)["logits"].astype(np.float64) for seed in (0, 4))
    wanted, got = (each - each.mean(axis=1, keepdims=True) for each in (wanted, got))
    expected = 10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum())
    assert measure.agreement.sqnr == pytest.approx(expected, abs=0.01)
    assert measure.quantity == "log-probability"


@pytest.mark.parametrize("outputs", [{"label": I, "p": F}, {"label": I}, {"p": F, "label": I}], ids=str)
def test_a_label_is_never_what_is_compared(
    tiny: Callable, images: list[ImageSource], specification: Preprocessing, outputs: dict[str, int]
) -> None:
    evaluation = HoldOutEvaluation(ended(tiny(), softmax(), label(), outputs=outputs), specification, images)
    assert [each.tensor for each in evaluation.scores] == ["logits"]
    measure = evaluation.measure(ended(tiny(seed=4), softmax(), label(), outputs=outputs))
    assert np.isfinite(measure.sqnr)


def test_features_are_not_scores(tiny: Callable, images: list[ImageSource], specification: Preprocessing) -> None:
    model = tiny()
    features = next(node for node in model.graph.node if node.op_type == "Gemm").input[0]
    changed = ended(model, helper.make_node("Identity", ["logits"], ["y"], "y"), outputs={features: F, "y": F})
    assert [each.output for each in HoldOutEvaluation(changed, specification, images).scores] == ["y"]


def test_two_heads_are_both_compared_and_the_worse_one_counts(
    tiny: Callable, images: list[ImageSource], specification: Preprocessing
) -> None:
    def heads(factor: float) -> onnx.ModelProto:
        model = tiny()
        gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
        other = onnx.NodeProto.FromString(gemm.SerializeToString())
        other.name, other.output[0], other.input[1] = "other", "second", "other.weight"
        weight = next(tensor for tensor in model.graph.initializer if tensor.name == gemm.input[1])
        value = onnx.numpy_helper.to_array(weight)[::-1] * np.float32(factor)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.1).reshape(()), "tenth"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), "other.weight"))
        first = helper.make_node("Identity", ["logits"], ["first"], "first")
        return ended(model, other, first, outputs={"first": F, "second": F})

    measure = HoldOutEvaluation(heads(1.0), specification, images).measure(heads(1.2))
    assert measure.agreement.sqnr == np.inf
    assert set(measure.others) == {"second"}
    assert measure.sqnr == measure.others["second"].sqnr < 30


@pytest.mark.parametrize("kind", ["map", "single"])
def test_outputs_that_are_no_scores_are_refused(
    tiny: Callable, images: list[ImageSource], specification: Preprocessing, kind: str
) -> None:
    model = tiny()
    if kind == "map":
        changed = ended(model, outputs={"conv1": F})
    else:
        node = helper.make_node("ReduceMean", ["logits"], ["mean"], "mean", axes=[1], keepdims=1)
        changed = ended(model, node, outputs={"mean": F})
    with pytest.raises(BadModelError, match="none of its outputs has one score per class"):
        HoldOutEvaluation(changed, specification, images)
