from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import BadModelError, UsageError, VerificationError
from googlenet_deploy.export.half_precision.convert import (
    half_json,
    half_lines,
    is_quantized,
    needed_opset,
    to_half,
    tolerance_of,
)
from googlenet_deploy.export.half_precision.types import BF16, FP16, HalfType
from googlenet_deploy.export.options import ExportOptions, HalfOptions, check_request
from googlenet_deploy.export.pipeline import export_onnx
from googlenet_deploy.export.samples import Samples
from googlenet_deploy.export.summary import summary_json, summary_lines
from googlenet_deploy.export.verify import reference_of, run
from googlenet_deploy.graph.graph import element_types, operator_counts, opset_of, serialize
from googlenet_deploy.graph.shapes import restate_shapes


def pictures(count: int = 3, seed: int = 1, scale: float = 1.0) -> Samples:
    prepared = (scale * np.random.default_rng(seed).standard_normal((count, 3, 8, 8))).astype(np.float32)
    return Samples(np.zeros((count, 8, 8, 3), np.uint8), prepared, "noise")


def quantize(model: Any) -> Any:
    """A Q/DQ pair on the input and on the weights of the first convolution."""
    graph = model.graph
    constants = {"s": np.float32(0.03), "z": np.int8(0), "ws": np.full(4, 0.02, np.float32), "wz": np.zeros(4, np.int8)}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    pairs = [
        helper.make_node("QuantizeLinear", ["input", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dq"),
        helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], "wq", axis=0),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], "wdq", axis=0),
    ]
    graph.node[0].input[:2] = ["d", "wd"]
    rest = [type(node).FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:]
    graph.node.extend([*pairs, *rest])
    restate_shapes(model)
    return model


def convert(model: Any, kind: HalfType = FP16, **options: Any) -> Any:
    reference = reference_of(model, options.pop("samples", pictures()))
    chosen = HalfOptions(kind, options.pop("keep", ()))
    loose = reference.with_tolerance(tolerance_of(chosen, quantized=is_quantized(model)))
    return to_half(model, chosen, loose, **options)


@pytest.mark.parametrize("kind", [FP16, BF16], ids=lambda kind: kind.name)
def test_both_nets_in_16_bits(export_small: Any, samples_of: Any, architecture: str, kind: HalfType) -> None:
    result = export_small(architecture, half=HalfOptions(kind))
    types = element_types(result.model)
    assert {types[tensor.name] for tensor in result.model.graph.initializer if len(tensor.dims) == 4} == {kind.code}
    assert all(comparison.holds for comparison in result.comparisons)
    assert opset_of(result.model) >= kind.opset
    assert result.metadata.extra["float_type"] == kind.name
    # Pixels of 0..255 overflow the first LRN's sums in FP16; BF16 reaches as far as FP32.
    assert list(result.half.fp32) == (["norm1"] if architecture == "bvlc" and kind is FP16 else [])
    ours = [comparison.against for comparison in result.comparisons]
    assert ours[:2] == ["the unsimplified graph", "PyTorch"]
    assert len(ours) == (3 if kind is FP16 else 2)
    if kind is FP16:
        wanted = run(export_small(architecture).model, samples_of(architecture))["logits"]
        np.testing.assert_allclose(run(result.model, samples_of(architecture))["logits"], wanted, atol=2e-2)


def test_pixels_softmax_and_top_k(export_small: Any) -> None:
    options = {"uint8_input": True, "softmax": True, "top_k": 3, "batch": 2}
    result = export_small("torchvision", half=HalfOptions(FP16), **options)
    types = element_types(result.model)
    assert types["input"] == TensorProto.UINT8
    assert types["top_k_values"] == TensorProto.FLOAT
    assert types["probabilities"] == TensorProto.FLOAT


def test_the_summary_says_what_stayed_and_how_large_values_become(export_small: Any, tmp_path: Any) -> None:
    result = export_small("bvlc", half=HalfOptions(FP16, ("conv2/conv",)))
    path = tmp_path / "m.onnx"
    path.write_bytes(serialize(result.model))
    text = "\n".join(summary_lines(result, "bvlc", path))
    assert "139 of 141 layers in FP16" in text
    assert "in FP32: conv2/conv: as asked" in text
    assert "largest activations on 4 seeded pictures: " in text
    values = summary_json(result, "bvlc", path)["half"]
    assert values["fp32_layers"]["norm1"].startswith("sums up to")
    assert {entry["name"] for entry in values["ranges"]} >= {"conv1/conv", "fc"}
    json.dumps(values)


def test_int8_over_fp16_stores_integers_and_needs_opset_19(tiny_classifier: Any) -> None:
    result = convert(quantize(tiny_classifier()))
    types = element_types(result.model)
    assert opset_of(result.model) == 19
    assert operator_counts(result.model.graph)["QuantizeLinear"] == 1
    assert (types["wq"], types["c"], types["logits"]) == (TensorProto.INT8, TensorProto.FLOAT16, TensorProto.FLOAT)
    assert [record.name for record in result.records] == ["int8-weights", "opset", "fp16"]
    assert result.fp32 == {}


def test_a_quantised_file_is_converted_without_onnxsim(tiny_classifier: Any, tmp_path: Any) -> None:
    model = quantize(tiny_classifier())
    path = tmp_path / "m.onnx"
    path.write_bytes(serialize(model))
    result = export_onnx(path, model, ExportOptions(half=HalfOptions(FP16)), pictures())
    assert operator_counts(result.model.graph)["DequantizeLinear"] == 2
    assert any("onnxsim was not run" in note for note in result.notes)


def test_a_net_whose_values_leave_fp16_keeps_those_layers(tiny_classifier: Any) -> None:
    result = convert(tiny_classifier(), samples=pictures(scale=2e3))
    assert list(result.fp32) == ["c", "r", "p"]
    assert "values up to" in result.fp32["c"]
    assert any("65504" in line for line in half_lines(result, "noise"))
    assert half_json(result)["fp32_layers"] == result.fp32


def test_where_no_layer_can_be_it_is_said(tiny_classifier: Any) -> None:
    with pytest.raises(VerificationError, match="no layer can be in FP16: values up to"):
        convert(tiny_classifier(), samples=pictures(scale=1e8))


def test_a_result_that_differs_is_refused(tiny_classifier: Any) -> None:
    model = tiny_classifier()
    other = reference_of(tiny_classifier(seed=5), pictures()).with_tolerance(FP16.tolerance)
    with pytest.raises(VerificationError, match="differs from the float32 model"):
        to_half(model, HalfOptions(FP16), other)


def test_a_second_conversion_is_refused(tiny_classifier: Any) -> None:
    with pytest.raises(UsageError, match="in 16 bits already"):
        convert(convert(tiny_classifier()).model)


@pytest.mark.parametrize(
    ("kind", "quantized", "target", "words"),
    [
        (FP16, True, "jetpack-5.1", "INT8 over FP16 needs opset 19; TensorRT 8.5 of jetpack-5.1 reads up to 17"),
        (BF16, False, "jetpack-6.2", "BF16 needs opset 22; TensorRT 10.3"),
        (BF16, False, "nano", "needs opset 22"),
    ],
)
def test_targets_that_do_not_read_it(kind: HalfType, quantized: bool, target: str, words: str) -> None:
    opset = needed_opset(kind, quantized=quantized)
    with pytest.raises(UsageError, match=words) as caught:
        check_request(kind, opset, load_target(target), None, quantized=quantized)
    assert "--precision" in (caught.value.remedy or "")


def test_int8_over_bf16_is_not_written() -> None:
    with pytest.raises(UsageError, match="too coarse"):
        needed_opset(BF16, quantized=True)


def test_requests_that_contradict_the_type_are_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match="BF16 needs opset 22, not 17"):
        ExportOptions(half=HalfOptions(BF16), opset=17)
    with pytest.raises(UsageError, match="needs opset 22"):
        ExportOptions(half=HalfOptions(BF16), target=load_target("jetpack-5.1"))
    assert ExportOptions(half=HalfOptions(BF16), target=load_target("tensorrt-11"))


def test_the_file_is_named_where_its_conversion_fails(tiny_classifier: Any, tmp_path: Any) -> None:
    model = tiny_classifier()
    path = tmp_path / "m.onnx"
    path.write_bytes(serialize(model))
    with pytest.raises(BadModelError, match=r"m\.onnx: no layer can be in FP16"):
        export_onnx(path, model, ExportOptions(simplify=False, half=HalfOptions(FP16)), pictures(scale=1e8))
