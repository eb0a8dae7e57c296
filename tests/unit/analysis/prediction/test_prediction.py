"""Kernels, latency, energy and memory against figures by hand, and the shipped constants against measurements."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.analysis import prediction
from googlenet_deploy.analysis.layer_work import ModelWork
from googlenet_deploy.analysis.prediction.constants import evidence, generation_of, load_constants
from googlenet_deploy.analysis.prediction.energy import idle_watts, joules_above_idle
from googlenet_deploy.analysis.prediction.kernels import kernels_of
from googlenet_deploy.analysis.prediction.latency import LatencyConstants, kernel_arrays, kernel_seconds, operations
from googlenet_deploy.analysis.prediction.predict import predict
from googlenet_deploy.device.targets.target import load_target, target_names
from googlenet_deploy.errors import DeviceError, UsageError

INCEPTION = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_inception_v1.onnx"
FIGURES = json.loads(files(prediction).joinpath("constants.json").read_text(encoding="utf-8"))


def model_of(
    nodes: Sequence[Any], constants: dict[str, Any], output: str, size: int = 8, channels: int = 3
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", channels, size, size])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def conv(data: str, out: str, channels: tuple[int, int], kernel: int, **more: Any) -> tuple[Any, dict[str, Any]]:
    weight = f"w_{out}"
    shape = (channels[1], channels[0] // more.get("group", 1), kernel, kernel)
    node = helper.make_node(
        "Conv", [data, weight], [out], out, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, **more
    )
    return node, {weight: np.ones(shape)}


def inception_block() -> onnx.ModelProto:
    """Two 1x1 reductions of one input side by side, a 3x3 behind one, a concatenation, and a residual sum."""
    parts = [
        conv("x", "a", (16, 16), 1), conv("x", "b", (16, 24), 1), conv("a", "c", (16, 24), 3),
    ]  # fmt: skip
    nodes = [node for node, _ in parts]
    nodes.insert(1, helper.make_node("Relu", ["a"], ["a_relu"], "a_relu"))
    nodes[3].input[0] = "a_relu"
    nodes += [helper.make_node("Add", ["c", "b"], ["s"], "s"), helper.make_node("Relu", ["s"], ["y"], "y")]
    return model_of(nodes, {key: value for _, each in parts for key, value in each.items()}, "y", channels=16)


def test_fusions_by_hand() -> None:
    kernels = kernels_of(ModelWork(inception_block(), ["fp32"], 1, "fp32"))
    # a and b side by side; c with the sum.
    assert [kernel.name for kernel in kernels] == ["a + b", "c + s"]
    side, residual = kernels
    assert (side.rows, side.columns, side.depth, side.inputs) == (64, 16 + 24, 16, 16)
    assert side.multiply_adds == 64 * 16 * (16 + 24)
    assert side.activation_bytes == 4 * 64 * (16 + 16 + 24)  # the shared input is read once
    assert (residual.rows, residual.columns, residual.depth) == (64, 24, 9 * 16)
    assert residual.activation_bytes == 4 * 64 * (16 + 24 + 24)  # its input, what is added, and the sum
    assert residual.plain_3x3
    assert not side.plain_3x3


def test_a_change_of_type_is_a_kernel() -> None:
    half = kernels_of(ModelWork(inception_block(), ["fp32", "fp16"], 1, "fp16"))
    changes = [kernel for kernel in half if kernel.operator == "Reformat"]
    assert [(kernel.name, kernel.activation_bytes) for kernel in changes] == [
        ("x to fp16", 64 * 16 * (4 + 2)), ("s to fp32", 64 * 24 * (2 + 4)),
    ]  # fmt: skip
    # INT8 as with a calibration cache: the sum is added in the convolution before it, which writes FP32 itself.
    integers = kernels_of(ModelWork(inception_block(), ["fp32", "fp16", "int8"], 1, "int8"))
    assert [kernel.name for kernel in integers] == ["x to int8", "a + b", "c + s"]
    assert {kernel.kind for kernel in integers} == {"int8"}


def test_pointwise_layers_after_a_pool_are_kernels() -> None:
    """DenseNet's BatchNorm and ReLU, which no convolution absorbs; the ReLU joins the BatchNorm."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], "p", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["p", *"abcd"], ["n"], "n"),
        helper.make_node("Relu", ["n"], ["y"], "y"),
    ]
    work = ModelWork(model_of(nodes, {key: np.ones(3) for key in "abcd"}, "y"), ["fp32"], 1, "fp32")
    assert [layer.name for layer in work.layers] == ["p", "n"]


def test_seconds_by_hand() -> None:
    """One 3x3 convolution of 16 to 24 channels on 8x8, on the Nano's CUDA cores and on Orin's tensor cores."""
    node, constants = conv("x", "y", (16, 24), 3)
    model = model_of([node], constants, "y", channels=16)
    nano = load_target("nano").module
    assert nano is not None
    [kernel] = kernels_of(ModelWork(model, ["fp32"], 2, "fp32"))
    computed = 2 * (2 * 64) * (9 * 16) * 32 / 1.8  # outputs padded to 32; Winograd
    assert operations(kernel, tensor_cores=False) == pytest.approx(computed)
    fitted = LatencyConstants((0.5, 0.4, 0.3), 0.6, 10_000, 2000)
    [seconds] = kernel_seconds(kernel_arrays([kernel], nano, nano.power_modes[0]), fitted)
    results = 2 * 64 * 24
    arithmetic = computed / (0.5 * 256 * 921.6e6) * (1 + 2000 * 1 / results)
    memory = 4 * (2 * 64 * (16 + 24) + 9 * 16 * 24) / (0.6 * 25.6e9)
    assert seconds == pytest.approx(max(arithmetic, memory) + 10_000 / 921.6e6)
    half = next(k for k in kernels_of(ModelWork(model, ["fp32", "fp16"], 1, "fp16")) if k.operator == "Conv")
    assert operations(half, tensor_cores=True) == pytest.approx(2 * 64 * 9 * 16 * 32)  # 24 padded to 32, no Winograd


def test_depthwise_runs_on_cuda_cores() -> None:
    node, constants = conv("x", "y", (16, 16), 3, group=16)
    orin = load_target("orin-nano").module
    assert orin is not None
    [kernel] = [
        each for each in kernels_of(ModelWork(model_of([node], constants, "y", channels=16), ["fp16"], 1, "fp16"))
        if each.operator == "Conv"
    ]  # fmt: skip
    assert (kernel.groups, kernel.columns, kernel.depth) == (16, 1, 9)
    mode = orin.power_modes[0]
    arrays = kernel_arrays([kernel], orin, mode)
    assert arrays.peak[0] == pytest.approx(2 * 256 * 4 * 408e6)  # twice FP32's rate, not the tensor cores' 2048
    assert arrays.kind[0] == 0


def test_energy_by_hand() -> None:
    constants = load_constants()
    tx2 = load_target("tx2")
    assert tx2.module is not None
    mode = next(each for each in tx2.module.power_modes if each.name == "MAXQ")
    assert idle_watts(tx2, mode, constants) == (4.15, True)
    fp16 = constants.energy["pascal"].picojoules[1]
    joules = joules_above_idle({"fp32": 0.0, "fp16": 3e9, "int8": 0.0}, constants.energy["pascal"], 850.0)
    assert joules == pytest.approx(3e9 * fp16 * 1e-12 * 0.85**2)
    # QuTiBench: 16 images in 88.07 ms at 6.24 W, 4.15 W idle, 3.1 G operations each.
    assert fp16 * 0.85**2 == pytest.approx((6.24 - 4.15) * 0.08807 / (16 * 3.1e9) * 1e12, rel=0.25)
    # The Nano has no measurement: the share of its smallest mode's 5 W.
    nano = load_target("nano")
    assert nano.module is not None
    watts, measured = idle_watts(nano, nano.module.power_modes[0], constants)
    assert not measured
    assert watts == pytest.approx(5 * FIGURES["idle_share"])


@pytest.fixture(scope="module")
def on_nano() -> Any:
    return predict(INCEPTION, load_target("nano"), "fp16")


def test_prediction_holds_what_it_says(on_nano: Any) -> None:
    fastest, slow = on_nano.in_mode("MAXN"), on_nano.in_mode("5W")
    assert on_nano.best is fastest
    assert sum(fastest.layers_ms) == pytest.approx(fastest.latency.value)
    assert len(fastest.layers_ms) == len(on_nano.kernels)
    spread = FIGURES["latency_spread"]["network"]
    assert fastest.latency.low == pytest.approx(fastest.latency.value * spread["low"])
    assert fastest.latency.high == pytest.approx(fastest.latency.value * spread["high"])
    assert fastest.watts == pytest.approx(fastest.energy.value / fastest.latency.value)
    assert slow.latency.value > fastest.latency.value
    assert slow.energy.value / slow.latency.value < fastest.watts
    # Published: 16 ms for BVLC's GoogLeNet through Python; about 5.2 ms on a TX1 at twice the units.
    assert 8 < fastest.latency.value < 20
    with pytest.raises(UsageError, match="has no power mode 7W"):
        on_nano.in_mode("7W")


def test_less_work_is_predicted_faster_and_cheaper() -> None:
    """What pruning relies on: half of a convolution's channels take less of everything."""
    found = []
    for width in (256, 128):
        node, constants = conv("x", "y", (256, width), 3)
        found.append(predict(model_of([node], constants, "y", 28, 256), load_target("nano"), "fp16"))
    wide, narrow = found
    assert narrow.best.latency.value < 0.7 * wide.best.latency.value
    assert narrow.best.energy.value < 0.7 * wide.best.energy.value
    assert narrow.memory.total < wide.memory.total


def test_memory_by_hand() -> None:
    node, constants = conv("x", "y", (16, 24), 3)
    memory = predict(model_of([node], constants, "y", channels=16), load_target("orin-nano"), "fp16", 4).memory
    figures = FIGURES["memory"]
    live = 4 * 64 * (4 * 16 + 2 * 24)  # the image in FP32, the output in FP16
    assert memory.engine == pytest.approx(2 * 9 * 16 * 24 + figures["engine_bytes"][1])
    assert memory.context == pytest.approx(live * figures["context_factor"][1])
    assert memory.low < memory.total <= memory.high
    assert memory.available == 8 * 2**30


def test_intervals_are_as_wide_as_what_is_known() -> None:
    constants = load_constants()
    known = {name: evidence(load_target(name), constants.latency_modules) for name in target_names()}
    assert known["tx2"] == known["nano"] == known["orin-nano"] == "network"
    assert known["orin-nano-4gb"] == known["agx-orin"] == "module"  # one network of AGX Orin is measured
    assert known["thor"] == "generation"
    assert generation_of(load_target("thor")) == "pooled"
    widths = [
        spread.high / spread.low
        for spread in (constants.latency_spread[key] for key in ("network", "module", "generation"))
    ]
    assert widths == sorted(widths)


def test_what_cannot_be_predicted() -> None:
    with pytest.raises(UsageError, match="is software"):
        predict(INCEPTION, load_target("jetpack-6.2"))
    with pytest.raises(DeviceError, match="thor has no published int8 rate"):
        predict(INCEPTION, load_target("thor"), "int8")


def test_every_measurement_says_where_it_is_from() -> None:
    text = files(prediction).joinpath("measurements.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) > 250
    for row in rows:
        assert row["source"].startswith(("https://github.com/", "benchmarks/results/"))
        assert float(row["milliseconds"]) > 0
        assert bool(row["idle_watts"]) == bool(row["load_watts"]) == bool(row["power_scope"])
        assert row["power_mode"] or row["gpu_mhz"]
    networks = {name for name in {row["module"] for row in rows}
                if len({row["network"] for row in rows if row["module"] == name}) > 1}  # fmt: skip
    assert set(load_constants().latency_modules) <= networks


def test_aim_of_the_cross_validation() -> None:
    """A quarter at the median on networks and on modules that the fit had not seen."""
    for left_out in ("network", "module"):
        assert FIGURES["latency_spread"][left_out]["median_error"] <= 0.25
    assert all(math.isfinite(entry["high"]) for entry in FIGURES["energy_spread"].values())
