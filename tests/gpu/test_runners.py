"""Real engines on a real GPU: both CUDA libraries, with and without CUDA graphs, equal to ONNX Runtime's answers.

Engines are built here, by TensorRT and by TensorRT-RTX, whichever are installed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_kit import tactic_options
from small_nets import build_net

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.cuda.memory import BACKENDS, open_cuda
from googlenet_deploy.device.images.pipeline import Batch
from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner
from googlenet_deploy.device.runner.overlap import run_overlapped
from googlenet_deploy.device.runner.protocol import run_any_batch, run_timed
from googlenet_deploy.device.runner.tensorrt_runner import TensorRTRunner
from googlenet_deploy.errors import BadModelError, DeviceError

pytestmark = pytest.mark.gpu

LIBRARIES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
# INT8 codes may fall on the other side of a rounding; float kernels may use TF32, whose mantissa has 10 bits.
TOLERANCE = {False: 0.01, True: 0.06}


def images(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0, 1, (count, 3, 16, 16)).astype(np.float32)


def build(model: Path, backend: str, engine: Path) -> None:
    options = ["--batch", "1,4,8", "--output", str(engine), "--quiet", *tactic_options(backend)]
    assert main(["build", str(model), "--backend", backend, *options]) == 0


@pytest.fixture(scope="module", params=list(LIBRARIES))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if find_spec(LIBRARIES[name]) is None:
        pytest.skip(f"{name} is not installed")
    try:
        open_cuda().close()
    except DeviceError as error:
        pytest.skip(f"no GPU here: {error.message}")
    return name


@pytest.fixture(scope="module", params=[False, True], ids=["fp32", "int8"])
def built(request: pytest.FixtureRequest, backend: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(engine, its ONNX model, whether it is INT8)."""
    folder = tmp_path_factory.mktemp("engines")
    model = build_net(folder / "net.onnx", quantized=request.param)
    engine = folder / "net.engine"
    build(model, backend, engine)
    return engine, model, request.param


def assert_alike(ours: Any, theirs: Any, quantized: bool) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < TOLERANCE[quantized] * np.abs(theirs).max()


def reference(model: Path, batch: Any) -> Any:
    with OnnxRuntimeRunner(model, as_is=True) as runner:
        return runner.run(batch)["logits"]


@pytest.fixture(params=BACKENDS)
def cuda(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    try:
        open_cuda(name).close()
    except DeviceError as error:
        pytest.skip(f"{name}: {error.message}")
    return name


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("zero_copy", [False, True])
def test_answers_are_onnx_runtimes(built: Any, cuda: str, graph: bool, zero_copy: bool) -> None:
    engine, model, quantized = built
    with TensorRTRunner(engine, cuda_backend=cuda, cuda_graph=graph, zero_copy=zero_copy) as runner:
        for seed in range(6):  # the second batch of a shape and those behind it run as a graph
            assert_alike(runner.run(images(4, seed))["logits"], reference(model, images(4, seed)), quantized)
        assert_alike(run_any_batch(runner, images(19))["logits"], reference(model, images(19)), quantized)
        graphs_off = [note for note in runner.notes if "CUDA graphs are off" in note]
        assert bool(graphs_off) == (graph and cuda == "pycuda")


def test_overlapping_batches_keep_their_answers(built: Any, cuda: str) -> None:
    engine, model, quantized = built
    batches = [Batch(images(4, seed), [str(seed)]) for seed in range(12)]
    with TensorRTRunner(engine, cuda_backend=cuda, slots=3) as runner:
        for batch, outputs in run_overlapped(runner, batches):
            assert_alike(outputs["logits"], reference(model, batch.array), quantized)


def test_scopes_have_their_times(built: Any, cuda: str) -> None:
    with TensorRTRunner(built[0], cuda_backend=cuda) as runner:
        for _ in range(3):
            _, times = run_timed(runner, images(8))
        assert times.copy_in is not None
        assert times.copy_out is not None
        assert 0 < times.compute < 1
        assert 0 < times.copy_in < 1


def test_device_memory_comes_back(built: Any) -> None:
    with open_cuda() as outside:
        for round_number in range(4):
            with TensorRTRunner(built[0]) as runner:
                runner.run(images(8))
            if round_number == 0:
                free_after_first = outside.memory()[0]  # kernels that were loaded stay
        assert outside.memory()[0] >= free_after_first - 2**20


def test_an_engine_cut_short_is_refused_by_tensorrt_too(built: Any, tmp_path: Path) -> None:
    cut = tmp_path / "cut.engine"
    cut.write_bytes(built[0].read_bytes()[:-200])
    with pytest.raises((BadModelError, DeviceError)):
        TensorRTRunner(cut, checked=False)


def test_infer_gives_the_same_classes_from_an_engine(
    backend: str, colour_classifier: Callable[..., Path], colour_images: Path, tmp_path: Path, capsys: Any
) -> None:
    model, engine = colour_classifier(tmp_path / "m.onnx"), tmp_path / "m.engine"
    build(model, backend, engine)
    capsys.readouterr()
    answers = []
    for path in (model, engine):
        assert main(["infer", str(path), str(colour_images), "--csv", "-", "--top-k", "1"]) == 0
        answers.append([line.rpartition(",")[0] for line in capsys.readouterr().out.splitlines()])
    assert answers[0] == answers[1]
