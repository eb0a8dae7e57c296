"""Cross-layer equalisation: the FP32 result stays, ranges of a tensor's channels meet."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_googlenet import build_mini
from onnx import numpy_helper

from googlenet_deploy.calibration.calibrate import CalibrationResult
from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.graph.session import TensorSession
from googlenet_deploy.quantization.quantized_model import round_to_nearest
from googlenet_deploy.quantization.refine.cross_layer_equalization import equalize_channels


def scores(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    return np.asarray(TensorSession(model).run(images)["logits"])


def unbalanced(seed: int, decades: float = 1.5) -> onnx.ModelProto:
    """The small net, which computes the same with channels of very different ranges."""
    model = build_mini(seed)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    random = np.random.default_rng(seed)
    for name in ("inception3a/branch2", "inception3a/branch3", "inception4a/branch2"):
        factor = 10 ** random.uniform(-decades, decades, len(numpy_helper.to_array(tensors[f"{name}/0.bias"])))
        for tensor, shape in (
            (f"{name}/0.weight", (-1, 1, 1, 1)),
            (f"{name}/0.bias", (-1,)),
            (f"{name}/1.weight", (1, -1, 1, 1)),
        ):
            scale = factor if not tensor.endswith("1.weight") else 1 / factor
            value = numpy_helper.to_array(tensors[tensor]) * scale.reshape(shape)
            tensors[tensor].CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor))
    return model


@given(st.integers(0, 50))
@settings(max_examples=4, deadline=None)
def test_fp32_computes_the_same(seed: int) -> None:
    model = unbalanced(seed)
    images = np.random.default_rng(seed).normal(0, 60, (3, 3, 16, 16)).astype(np.float32)
    before, after = scores(model, images), scores(equalize_channels(model)[0], images)
    assert np.abs(before - after).max() <= 2e-5 * np.abs(before).max()


def test_ranges_of_makers_and_readers_meet() -> None:
    model, _ = equalize_channels(unbalanced(1))
    graph = GraphView(model)
    made = np.abs(graph.constant("inception3a/branch2/0.weight")).max(axis=(1, 2, 3))
    read = np.abs(graph.constant("inception3a/branch2/1.weight")).max(axis=(0, 2, 3))
    assert made == pytest.approx(read, rel=0.01)


def test_a_channel_of_a_concat_meets_all_its_readers() -> None:
    model, _ = equalize_channels(build_mini(2))
    graph = GraphView(model)
    made = np.abs(graph.constant("inception3a/branch1.weight")).max(axis=(1, 2, 3))
    readers = [f"inception4a/{name}.weight" for name in ("branch1", "branch2/0", "branch3/0", "branch4/1")]
    read = np.max([np.abs(graph.constant(name)).max(axis=(0, 2, 3))[: len(made)] for name in readers], axis=0)
    assert made == pytest.approx(read, rel=0.01)


def test_what_an_lrn_reads_stays() -> None:
    before, after = (GraphView(model) for model in (build_mini(3), equalize_channels(build_mini(3))[0]))
    for name in ("conv1.weight", "conv1.bias", "conv3.bias"):
        assert np.array_equal(before.constant(name), after.constant(name))


def test_the_given_model_is_not_changed_and_a_note_tells_what_was_done() -> None:
    model = unbalanced(4)
    before = model.SerializeToString()
    _, notes = equalize_channels(model)
    assert model.SerializeToString() == before
    assert "layers" in notes["equalisation"]


def test_int8_gains_where_ranges_differ(calibrated: Callable[..., CalibrationResult], pictures: Callable) -> None:
    model = unbalanced(5)
    images = pictures(32, seed=4)
    reference = scores(model, images)
    errors = []
    for candidate in (model, equalize_channels(model)[0]):
        quantized = round_to_nearest(candidate, calibrated(candidate).table)
        errors.append(np.square(scores(quantized.build(), images) - reference).sum())
    assert errors[1] < errors[0] / 2


def test_dead_channels_are_left_alone() -> None:
    model = build_mini(6)
    for tensor in model.graph.initializer:
        if tensor.name in ("inception3a/branch2/0.weight", "inception3a/branch2/0.bias"):
            value = numpy_helper.to_array(tensor).copy()
            value[1] = 0
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    after = GraphView(equalize_channels(model)[0])
    for name in ("inception3a/branch2/0.weight", "inception3a/branch2/1.weight"):
        assert np.isfinite(after.constant(name)).all()
    assert not after.constant("inception3a/branch2/0.weight")[1].any()
