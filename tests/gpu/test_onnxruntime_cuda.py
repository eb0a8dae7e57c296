"""ONNX Runtime's CUDA provider: it really runs there, and its answers are the CPU's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from small_nets import build_net

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner
from googlenet_deploy.device.runner.protocol import run_any_batch
from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.errors import DeviceError

pytestmark = pytest.mark.gpu

CUDA = "CUDAExecutionProvider"
# INT8 codes may fall on the other side of a rounding; convolutions use TF32, whose mantissa has 10 bits.
TOLERANCE = {False: 0.01, True: 0.06}


def images(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0, 1, (count, 3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def cuda(colour_model: Path) -> None:
    """A machine where the provider starts; the runner is held to say so where it does not."""
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider (onnxruntime-gpu has)")
    try:
        OnnxRuntimeRunner(colour_model, providers=[CUDA]).close()
    except DeviceError as error:
        pytest.skip(error.message)


@pytest.fixture(scope="module", params=[False, True], ids=["fp32", "qdq"])
def net(request: pytest.FixtureRequest, cuda: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    """(a small net, whether it has Q/DQ pairs)."""
    return build_net(tmp_path_factory.mktemp("nets") / "net.onnx", quantized=request.param), request.param


@pytest.mark.parametrize("count", [1, 4, 19])
def test_answers_are_the_cpus(net: tuple[Path, bool], count: int) -> None:
    path, quantized = net
    with OnnxRuntimeRunner(path, providers=[CUDA]) as gpu, OnnxRuntimeRunner(path, as_is=True) as cpu:
        ours, theirs = (run_any_batch(runner, images(count))["logits"] for runner in (gpu, cpu))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < TOLERANCE[quantized] * np.abs(theirs).max()


def test_the_runner_says_where_it_runs(net: tuple[Path, bool]) -> None:
    with open_runner(net[0], "onnxruntime-cuda") as runner:
        assert runner.backend == f"ONNX Runtime {onnxruntime.__version__} (CUDA)"
        assert runner.device == "GPU"
        assert not any("CPU" in note for note in runner.notes)


def test_the_convolutions_are_computed_on_the_gpu(net: tuple[Path, bool], tmp_path: Path) -> None:
    """By ONNX Runtime's own profile: a provider that starts may still leave every node to the CPU."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(str(net[0]), options, providers=[CUDA])
    session.run(None, {session.get_inputs()[0].name: images(4)})
    events = json.loads(Path(session.end_profiling()).read_text())
    found = [event["args"] for event in events if event.get("cat") == "Node" and "provider" in event.get("args", {})]
    convolutions = [node["provider"] for node in found if "Conv" in node.get("op_name", "")]
    assert convolutions
    assert set(convolutions) == {CUDA}


def test_infer_gives_the_same_classes(
    cuda: None, colour_classifier: Callable[..., Path], colour_images: Path, tmp_path: Path, capsys: Any
) -> None:
    model, answers = colour_classifier(tmp_path / "m.onnx"), []
    for backend in ("onnxruntime", "onnxruntime-cuda"):
        assert main(["infer", str(model), str(colour_images), "--csv", "-", "--top-k", "1", "--backend", backend]) == 0
        out, err = capsys.readouterr()
        answers.append([line.rpartition(",")[0] for line in out.splitlines()])
    assert "(CUDA)" in err
    assert answers[0] == answers[1]
