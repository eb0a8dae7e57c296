from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from PIL import Image

from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import VerificationError
from googlenet_deploy.export.passes.uint8_input import Uint8Input
from googlenet_deploy.export.samples import seeded_samples
from googlenet_deploy.export.verify import run
from googlenet_deploy.graph.graph import shape_of
from googlenet_deploy.graph.pass_manager import PassManager

VALUES = st.floats(0.1, 200.0)


@st.composite
def specifications(draw: Any) -> Preprocessing:
    scale = draw(st.sampled_from([1.0, 1 / 255]))
    span = 255 * scale
    triple = st.tuples(*[st.floats(0.0, 1.0)] * 3)
    mean = tuple(value * span for value in draw(triple))
    std = tuple((0.2 + value) * span for value in draw(triple))
    return Preprocessing(
        resize=8, crop=(8, 8), channels=draw(st.sampled_from(["RGB", "BGR"])), scale=scale, mean=mean, std=std
    )


@settings(max_examples=30, deadline=None)
@given(specifications(), st.integers(0, 3))
def test_the_same_pixels_give_the_same_logits(tiny_classifier: Any, specification: Any, seed: Any) -> None:
    model = tiny_classifier(seed)
    converted = PassManager().run(model, [Uint8Input(specification)])
    samples = seeded_samples(specification, 3, seed)
    np.testing.assert_allclose(run(converted, samples)["logits"], run(model, samples)["logits"], rtol=1e-4, atol=1e-4)


def test_input_is_uint8_nhwc(export_small: Any, architecture: str) -> None:
    result = export_small(architecture, uint8_input=True)
    source = result.model.graph.input[0]
    assert source.type.tensor_type.elem_type == TensorProto.UINT8
    assert shape_of(source) == ["batch", 64, 64, 3]
    assert result.metadata.preprocessing.dtype == "uint8"
    assert result.metadata.preprocessing.layout == "NHWC"
    assert result.metadata.preprocessing.channels == "RGB"


def test_no_operation_that_does_nothing(export_small: Any) -> None:
    names = [node.name for node in export_small("bvlc", uint8_input=True).model.graph.node]
    assert names[:4] == ["input/cast", "input/nchw", "input/centred", "conv1/conv"], "std is 1: nothing to multiply"
    names = [node.name for node in export_small("torchvision", uint8_input=True).model.graph.node]
    assert names[:5] == ["input/cast", "input/nchw", "input/centred", "input/normalised", "conv1/conv"]


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
def test_the_uint8_form_of_another_resize_gets_the_same_pixels(tiny_classifier: Any, mode: str) -> None:
    fill = (9, 99, 199) if mode == "letterbox" else (0,)
    spec = Preprocessing(resize=(10, 12), crop=(8, 8), channels="BGR", resize_mode=mode, antialias=False, fill=fill)
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 50, 3), np.uint8))
    model = tiny_classifier(2)
    converted = PassManager().run(model, [Uint8Input(spec)])
    floats, raw = preprocess(image, spec)[np.newaxis], preprocess(image, spec.with_uint8_input())[np.newaxis]
    assert raw.dtype == np.uint8
    answers = [
        ReferenceEvaluator(net).run(None, {net.graph.input[0].name: fed})[0]
        for net, fed in ((model, floats), (converted, raw))
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-4, atol=1e-4)


def test_raw_pixels_need_nothing(tiny_classifier: Any) -> None:
    raw = Preprocessing(resize=8, crop=(8, 8)).with_uint8_input()
    assert not Uint8Input(raw).run(tiny_classifier())


def test_what_does_not_fit_is_refused(tiny_classifier: Any) -> None:
    specification = Preprocessing(resize=8, crop=(8, 8), channels="BGR")
    model = tiny_classifier()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(VerificationError, match="float32 NCHW"):
        Uint8Input(specification).run(model)
    model = tiny_classifier()
    model.graph.node.insert(0, helper.make_node("Relu", ["input"], ["first"], "first"))
    model.graph.node[1].input[0] = "first"
    with pytest.raises(VerificationError, match="feeds first, which is not a plain convolution"):
        Uint8Input(specification).run(model)
