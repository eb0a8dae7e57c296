"""Operators of newer opsets in older ones, against ONNX Runtime's own kernels of the newer ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import ModelProto, TensorProto, checker, helper, shape_inference

from googlenet_deploy.errors import VerificationError
from googlenet_deploy.export.capture import capture
from googlenet_deploy.export.targets import ir_version_for
from googlenet_deploy.graph.graph import opset_of
from googlenet_deploy.graph.opset import ConvertOpset, same_signature
from googlenet_deploy.graph.pass_manager import PassManager

FLOAT = TensorProto.FLOAT
SHAPE = (2, 6, 5, 7)
node = helper.make_node


def answers(model: ModelProto, array: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return list(session.run(None, {"x": array}))


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


RAMP = np.linspace(0.5, 1.5, 6, dtype=np.float32)
CASES: dict[str, tuple[Any, dict[str, np.ndarray], int]] = {
    "pad": (node("Pad", ["x", "p"], ["y"], "n"), {"p": integers(0, 0, 1, 2, 0, 0, 0, 3)}, 18),
    "pad of axes": (
        node("Pad", ["x", "p", "v", "a"], ["y"], "n"),
        {"p": integers(1, 2, 0, 3), "v": np.float32(4), "a": integers(-1, 2)},
        18,
    ),
    "reflected": (
        node("Pad", ["x", "p", "", "a"], ["y"], "n", mode="reflect"),
        {"p": integers(1, 2), "a": integers(2)},
        19,
    ),
    "split": (node("Split", ["x"], ["y", "z"], "n", axis=1, num_outputs=2), {}, 18),
    "split unevenly": (node("Split", ["x"], ["y", "z", "w"], "n", axis=-1, num_outputs=3), {}, 18),
    "split by sizes": (node("Split", ["x", "s"], ["y", "z"], "n", axis=2), {"s": integers(1, 4)}, 18),
    "mean": (node("ReduceMean", ["x", "a"], ["y"], "n", keepdims=0), {"a": integers(2, 3)}, 18),
    "largest of all": (node("ReduceMax", ["x"], ["y"], "n", keepdims=1), {}, 20),
    "norm": (node("ReduceL2", ["x", "a"], ["y"], "n"), {"a": integers(-3)}, 18),
    "resize of axes": (
        node("Resize", ["x", "", "s"], ["y"], "n", axes=[3, 2], mode="linear"),
        {"s": floats(2, 3)},
        18,
    ),
    "resize to sizes": (
        node("Resize", ["x", "", "", "s"], ["y"], "n", mode="nearest"),
        {"s": integers(2, 6, 10, 9)},
        19,
    ),
    "average": (node("AveragePool", ["x"], ["y"], "n", kernel_shape=[2, 2], dilations=[1, 1]), {}, 19),
    "gelu": (node("Gelu", ["x"], ["y"], "n"), {}, 20),
    "gelu by tanh": (node("Gelu", ["x"], ["y"], "n", approximate="tanh"), {}, 20),
    "mish": (node("Mish", ["x"], ["y"], "n"), {}, 18),
    "hard swish": (node("HardSwish", ["x"], ["y"], "n"), {}, 17),
    "layer norm": (
        node("LayerNormalization", ["x", "s", "b"], ["y"], "n", axis=-2, epsilon=1e-3),
        {"s": np.linspace(1, 2, 35, dtype=np.float32).reshape(5, 7), "b": floats(*range(7))},
        17,
    ),
    "layer norm without bias": (node("LayerNormalization", ["x", "s"], ["y"], "n"), {"s": floats(*range(7))}, 18),
    "group norm": (
        node("GroupNormalization", ["x", "s", "b"], ["y"], "n", num_groups=3, epsilon=1e-2),
        {"s": RAMP, "b": -RAMP},
        21,
    ),
}


def built(model_of: Callable[..., ModelProto], case: str) -> ModelProto:
    operator, constants, opset = CASES[case]
    return classifier_like(model_of, [operator], constants, opset)


def classifier_like(
    model_of: Callable[..., ModelProto], nodes: list[Any], constants: Any, opset: int, shape: Any = SHAPE
) -> ModelProto:
    """A model of the last node's outputs, whose shapes are those that ONNX infers."""
    shaped = nodes[-1].op_type == "GroupNormalization"  # onnx does not infer it
    outputs = [(name, FLOAT, list(shape) if shaped else None) for name in nodes[-1].output]
    model = model_of(nodes, [("x", FLOAT, list(shape))], outputs, constants, opset)
    return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


@pytest.mark.parametrize("case", CASES)
def test_an_older_opset_computes_the_same(model_of: Callable[..., ModelProto], case: str) -> None:
    model = built(model_of, case)
    converted = PassManager().run(model, [ConvertOpset(13, 7)])
    assert opset_of(converted) == 13
    checker.check_model(converted, full_check=True)
    array = np.random.default_rng(7).standard_normal(SHAPE).astype(np.float32)
    for before, after in zip(answers(model, array), answers(converted, array), strict=True):
        assert np.abs(before).max() > 0
        np.testing.assert_allclose(after, before, atol=2e-6)


def test_group_norm_before_opset_21_is_another_operator() -> None:
    operator = node("GroupNormalization", ["x", "s", "b"], ["y"], "n", num_groups=3)  # one scale per group there
    assert not same_signature(operator, 21, 18)
    assert not same_signature(operator, 20, 21)


@pytest.mark.parametrize(
    ("operator", "constants", "opset"),
    [
        (node("Pad", ["x", "p"], ["y"], "n", mode="wrap"), {"p": integers(0, 0, 1, 0, 0, 0, 0, 0)}, 19),
        (node("Resize", ["x", "", "s"], ["y"], "n", antialias=1, mode="linear"), {"s": floats(1, 1, 0.5, 0.5)}, 18),
        (node("AveragePool", ["x"], ["y"], "n", kernel_shape=[2, 2], dilations=[2, 2]), {}, 19),
    ],
)
def test_what_has_no_older_form_is_refused(
    model_of: Callable[..., ModelProto], operator: Any, constants: Any, opset: int
) -> None:
    model = classifier_like(model_of, [operator], constants, opset)
    with pytest.raises(VerificationError, match="opset"):
        PassManager().run(model, [ConvertOpset(17, 8)])


def test_a_split_of_unknown_size_is_refused(model_of: Callable[..., ModelProto]) -> None:
    operator = node("Split", ["x"], ["y", "z"], "n", axis=0, num_outputs=2)
    model = classifier_like(model_of, [operator], {}, 18, ("batch", 3))
    with pytest.raises(VerificationError):
        PassManager().run(model, [ConvertOpset(17, 8)])


def test_names_of_new_tensors_do_not_collide(model_of: Callable[..., ModelProto]) -> None:
    nodes = [
        node("Relu", ["x"], ["a/erf"], "a/div"),
        node("Gelu", ["a/erf"], ["b"], "a"),
        node("Gelu", ["b"], ["y"], "a/mul"),
    ]
    model = classifier_like(model_of, nodes, {}, 20)
    converted = PassManager().run(model, [ConvertOpset(17, 8)])
    array = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    np.testing.assert_allclose(answers(converted, array)[0], answers(model, array)[0], atol=1e-6)


class Padded(torch.nn.Module):
    """What PyTorch exports with opset 18's Pad and Split."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, 5)
        self.branch = torch.nn.Conv2d(4, 4, 3, padding="same")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stem = torch.relu(self.stem(torch.nn.functional.pad(images, (1, 0, 1, 0))))
        kept, moved = stem.chunk(2, 1)
        return self.head(torch.cat([self.branch(moved), kept], 1).mean((2, 3)))


@pytest.mark.parametrize("opset", [13, 17])
def test_a_module_with_padding_and_parts_is_exported_for_older_opsets(opset: int) -> None:
    torch.manual_seed(4)
    network = Padded().eval()
    converted = PassManager().run(capture(network, (16, 16)), [ConvertOpset(opset, ir_version_for(opset))])
    array = np.random.default_rng(2).standard_normal((2, 3, 16, 16)).astype(np.float32)
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    found = session.run(None, {session.get_inputs()[0].name: array})[0]
    with torch.inference_mode():
        np.testing.assert_allclose(found, network(torch.from_numpy(array)), atol=1e-5)
