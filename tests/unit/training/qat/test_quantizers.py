"""Fake quantisation: the values that ONNX computes, and the gradients of LSQ."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import nn
from torch.nn.utils import parametrize

from googlenet_deploy.quantization.weights import max_scales, quantize_weight
from googlenet_deploy.training.qat.quantizers import (
    LOW,
    ActivationQuantizer,
    Scale,
    WeightQuantizer,
    fake_quantize,
)


def onnx_pair() -> onnxruntime.InferenceSession:
    """QuantizeLinear and DequantizeLinear with a scale that is an input."""
    zero = helper.make_tensor("zero", TensorProto.INT8, [], [0])
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])]
    graph = helper.make_graph(nodes, "pair", inputs, outputs, [zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


PAIR = onnx_pair()


@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    scale=st.floats(0.0009765625, 128.0, width=32),
    halves=st.booleans(),
)
def test_values_are_those_of_onnx_bit_by_bit(values: list[float], scale: float, halves: bool) -> None:
    x = np.array(values, np.float32)
    if halves:  # exactly between two codes, where the direction of rounding shows
        x = (np.floor(x % 100) + np.float32(0.5)) * np.float32(scale)
    (wanted,) = PAIR.run(None, {"x": x, "scale": np.asarray(scale, np.float32)})
    got = fake_quantize(torch.from_numpy(x), torch.tensor(scale, dtype=torch.float32))
    assert np.array_equal(got.numpy(), wanted)


def test_gradients_pass_where_nothing_is_clipped() -> None:
    x = torch.tensor([-200.0, -3.4, 0.6, 127.2, 130.0], requires_grad=True)
    fake_quantize(x, torch.ones(1), LOW).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0, 0.0]


def test_the_gradient_of_the_scale_is_equation_3_of_lsq() -> None:
    scale = torch.tensor([0.5], requires_grad=True)
    x = torch.tensor([-100.0, -1.6, 0.3, 80.0])  # in steps: -200 (clipped), -3.2, 0.6, 160 (clipped)
    fake_quantize(x, scale, LOW, factor=2.0).sum().backward()
    assert scale.grad is not None
    assert float(scale.grad) == pytest.approx(2.0 * (-128 + (-3 + 3.2) + (1 - 0.6) + 127), rel=1e-5)


def test_weights_have_a_scale_per_output_channel() -> None:
    weight = torch.randn(6, 5, 3, 3) * torch.arange(1, 7).view(-1, 1, 1, 1)
    scales = max_scales(weight.numpy())
    quantizer = WeightQuantizer(torch.from_numpy(scales), learned=True)
    wanted = quantize_weight(weight.numpy(), scales).dequantize()
    got = quantizer(weight)
    assert np.array_equal(got.detach().numpy(), wanted)
    got.square().sum().backward()
    assert quantizer.scale.value.grad is not None
    assert quantizer.scale.value.grad.shape == (6,)


def test_fixed_scales_do_not_learn() -> None:
    quantizer = ActivationQuantizer(0.1, learned=False)
    assert [p for p in quantizer.parameters() if p.requires_grad] == []
    x = torch.randn(2, 3, requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad is not None


def test_a_scale_stays_within_bounds_of_its_beginning() -> None:
    scale = Scale(torch.tensor([2.0, 2.0, 2.0]), learned=True)
    with torch.no_grad():
        scale.value.copy_(torch.tensor([-5.0, 3.0, 100.0]))
    assert scale().tolist() == [0.5, 3.0, 8.0]
    assert scale.change().tolist() == [0.25, 1.5, 4.0]


def test_in_mixed_precision_rounding_is_in_float32() -> None:
    x = torch.randn(4, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = ActivationQuantizer(0.013, learned=True)(x)
    assert got.dtype == torch.float32
    assert torch.equal(got, fake_quantize(x.float(), torch.tensor([0.013])))


def test_a_copy_of_a_network_has_quantisers_of_its_own() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    nn.init.constant_(net[0].bias, 2.0)  # so that the ReLU lets something through
    quantizer = ActivationQuantizer(0.1, learned=True)
    net.add_module("quantizer", nn.ModuleList([quantizer]))
    net[0].register_forward_pre_hook(quantizer.on_input)
    net[1].register_forward_hook(quantizer.on_output)
    parametrize.register_parametrization(net[0], "weight", WeightQuantizer(torch.full((3,), 0.01), learned=True))
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.get_submodule("quantizer")[0].scale.value.fill_(0.2)
    x = torch.rand(2, 3)
    first, second = net[1](net[0](x)), other[1](other[0](x))
    assert torch.allclose(first / 0.1, (first / 0.1).round(), atol=1e-4)
    assert torch.allclose(second / 0.2, (second / 0.2).round(), atol=1e-4)
    assert not torch.equal(first, second)
