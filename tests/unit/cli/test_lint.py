"""`quantize --lint` and `--repair` on files whose scales make no sense: each is named, some are mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from googlenet_deploy.cli.main import main
from googlenet_deploy.graph.session import TensorSession

NetOf = Callable[..., Any]
DEAD = 2


def written(net: NetOf, folder: Path, scales: list[float], dead: tuple[int, ...] = (), form: str = "codes") -> Path:
    """A convolution with a scale per channel, in a file; the weights of some channels are 0.

    The weights are codes behind DequantizeLinear, or floats behind a pair whose two nodes share the scale.
    """
    graph = net()
    weights = np.random.default_rng(1).integers(-127, 128, (4, 3, 1, 1)).astype(np.int8)
    weights[list(dead)] = 0
    weight = graph.stored("weight", weights, scales) if form == "codes" else paired(graph, weights, scales)
    graph.channels["conv1"] = 4
    top = graph.add("Conv", [graph.pair("input", scale=1.5), weight], "conv1", kernel_shape=[1, 1])
    graph.channels["flat"] = 1
    graph.add("ReduceMean", [graph.add("Flatten", [top], "flat", axis=1)], "logits", axes=[1], keepdims=1)
    path = folder / "model.onnx"
    path.write_bytes(graph.model(classes=1).SerializeToString())
    return path


def paired(graph: Any, codes: np.ndarray, scales: list[float]) -> str:
    """Float weights behind QuantizeLinear and DequantizeLinear."""
    steps = np.asarray(scales, np.float32)
    graph.constant("weight", codes.astype(np.float32) * steps[:, None, None, None])
    graph.constant("steps", steps)
    graph.constant("zeros", np.zeros(4, np.int8))
    graph.add("QuantizeLinear", ["weight", "steps", "zeros"], "weight/codes", axis=0)
    return str(graph.add("DequantizeLinear", ["weight/codes", "steps", "zeros"], "weight/values", axis=0))


@pytest.mark.parametrize("form", ["codes", "pair"])
def test_the_zero_scale_of_a_dead_channel_is_named_and_repaired(
    net: NetOf, tmp_path: Path, pictures: Callable, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    path, repaired = written(net, tmp_path, [0.01, 0.02, 0, 0.03], (DEAD,), form), tmp_path / "repaired.onnx"
    assert main(["quantize", "--lint", str(path)]) == 3
    said = capsys.readouterr()
    assert f"its scale is 0 for channel {DEAD}" in said.out
    assert f"--repair repairs {1 if form == 'codes' else 2}" in said.out
    assert main(["quantize", "--repair", str(path), "--output", str(repaired)]) == 0
    assert "1 channel of zeros given the scale 1 in place of 0, exactly" in capsys.readouterr().out
    model = onnx.load(repaired)
    scales = [array for array in map(numpy_helper.to_array, model.graph.initializer) if array.shape == (4,)]
    assert any(np.allclose(array, [0.01, 0.02, 1, 0.03]) for array in scales)
    alive = tmp_path / "alive"
    alive.mkdir()
    sound = onnx.load(written(net, alive, [0.01, 0.02, 0.5, 0.03], (DEAD,), form))
    images = pictures(4)
    wanted, got = (TensorSession(each).run(images)["logits"] for each in (sound, model))
    assert np.array_equal(wanted, got)


@pytest.mark.parametrize(
    ("scales", "said"),
    [
        ([0.01, -0.02, 0.01, 0.01], "scale is negative"),
        ([0.01, float("nan"), 0.01, 0.01], "not numbers (NaN)"),
        ([0.01, float("inf"), 0.01, 0.01], "not finite"),
        ([0.01, 0.02, 0.01], "has 3 values, and axis 0 has 4 channels"),
        ([0.01, 0, 0.01, 0.01], "is 0 for channel 1"),
    ],
    ids=["negative", "nan", "inf", "shape", "alive"],
)
def test_scales_without_meaning_are_refused_by_name(
    net: NetOf, tmp_path: Path, capsys: pytest.CaptureFixture[str], scales: list[float], said: str
) -> None:
    path, repaired = written(net, tmp_path, scales), tmp_path / "repaired.onnx"
    assert main(["quantize", "--lint", str(path)]) == (1 if "NaN" in said else 3)
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
    assert "Traceback" not in shown.err
    assert main(["quantize", "--repair", str(path), "--output", str(repaired)]) == 1
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
    assert not repaired.exists()
