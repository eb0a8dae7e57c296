"""Real engines on a real GPU: precision, answers, manifest, timing cache, and both libraries of device memory."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_kit import KINDS, EngineKind, answers_of, build_command, can_build, compare, models_folder, why_not

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.engine.manifest import EngineManifest, load_manifest
from googlenet_deploy.device.runner.tensorrt_runner import TensorRTRunner
from googlenet_deploy.device.system.gpu import find_gpu
from googlenet_deploy.device.tensorrt.loading import load_tensorrt
from googlenet_deploy.errors import BadModelError

pytestmark = pytest.mark.gpu
Engines = Callable[[EngineKind], Path]
MEMORY = {"cuda-bindings": "cuda", "pycuda": "pycuda"}


@pytest.fixture(scope="module", autouse=True)
def gpu() -> None:
    """A GPU with TensorRT, and the models."""
    reason = why_not()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    """The engine of a kind; each is built once."""
    folder = tmp_path_factory.mktemp("engines")

    def build(kind: EngineKind) -> Path:
        reason = can_build(kind)
        if reason:
            pytest.skip(reason)
        engine = folder / f"{kind.name.replace(' ', '-').replace('/', '')}.engine"
        if not engine.exists():
            assert main(build_command(kind, engine, "--quiet", "--timing-cache", str(folder / "timings"))) == 0
        return engine

    return build


@pytest.fixture(scope="module")
def answers() -> Any:
    """ONNX Runtime's, by model."""
    return np.load(models_folder() / "answers.npz")


def cuda_library(name: str) -> str:
    if importlib.util.find_spec(MEMORY[name]) is None:
        pytest.skip(f"{name} is not installed")
    return name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_answers_are_those_of_onnx_runtime(engines: Engines, answers: Any, kind: EngineKind) -> None:
    decibels, agreement = compare(answers_of(engines(kind), 8), answers[kind.reference])
    assert decibels >= kind.decibels
    assert agreement >= kind.agreement


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_precision_is_what_was_asked_for(engines: Engines, kind: EngineKind) -> None:
    engine = engines(kind)
    manifest = load_manifest(engine)
    assert manifest.layers_from == "engine inspector", manifest.layers_note
    shares = manifest.precision_shares["multiply_adds"] or manifest.precision_shares["convolutions"]
    if kind.computes_in is None:
        assert set(shares) == {"fp32"}
    else:
        assert shares.get(kind.computes_in, 0.0) >= 0.9, shares


@pytest.mark.parametrize("kind", KINDS[:3], ids=lambda kind: kind.name)
def test_the_manifest_tells_this_machine(engines: Engines, kind: EngineKind) -> None:
    manifest = load_manifest(engines(kind))
    here = find_gpu()
    assert manifest.gpu == here.name
    assert manifest.compute_capabilities == (here.capability_text,)
    assert manifest.tensorrt_version == load_tensorrt("tensorrt").version_text
    assert manifest.batch == (1, 8, 128)
    assert (manifest.device_memory_bytes or 0) > 0
    assert manifest.metadata["googlenet_deploy.architecture"] == "bvlc"


@pytest.mark.parametrize("library", MEMORY)
def test_both_libraries_of_device_memory_give_the_same_answers(engines: Engines, answers: Any, library: str) -> None:
    found = answers_of(engines(KINDS[1]), 8, cuda_backend=cuda_library(library))
    assert compare(found, answers["fp32"])[0] >= KINDS[1].decibels


@pytest.mark.parametrize("library", MEMORY)
def test_live_calibration_with_both_libraries(tmp_path: Path, library: str) -> None:
    kind = next(kind for kind in KINDS if kind.name == "INT8, live entropy")
    if can_build(kind):
        pytest.skip(can_build(kind))
    options = ("--cuda-backend", cuda_library(library), "--calibration-count", "32", "--quiet")
    assert main(build_command(kind, tmp_path / "m.engine", *options)) == 0
    facts = load_manifest(tmp_path / "m.engine").calibration
    assert (facts["images"], facts["left_out"], facts["skipped"]) == (32, 0, [])


@pytest.mark.parametrize("batch", [1, 32, 128])
def test_every_batch_of_the_profile_gives_the_same_answers(engines: Engines, answers: Any, batch: int) -> None:
    kind = KINDS[1]
    assert compare(answers_of(engines(kind), batch), answers["fp32"])[0] >= kind.decibels


def test_a_second_build_finds_its_timings(tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    notes: list[EngineManifest] = []
    for name in ("first", "second"):
        engine = tmp_path / f"{name}.engine"
        assert main(build_command(KINDS[1], engine, "--quiet", "--timing-cache", str(cache))) == 0
        notes.append(load_manifest(engine))
    assert any("new, so every kernel is timed" in note for note in notes[0].notes)
    assert any("reused" in note for note in notes[1].notes)


def test_a_gate_that_cannot_hold_ends_with_3(engines: Engines, tmp_path: Path) -> None:
    if can_build(KINDS[1]):
        pytest.skip(can_build(KINDS[1]))
    assert main(build_command(KINDS[1], tmp_path / "m.engine", "--quiet", "--require", "int8=0.5")) == 3


def test_an_engine_cut_short_is_refused(engines: Engines, tmp_path: Path) -> None:
    source, copy = engines(KINDS[0]), tmp_path / "m.engine"
    copy.write_bytes(source.read_bytes()[:-1000])
    Path(f"{copy}.json").write_bytes(Path(f"{source}.json").read_bytes())
    with pytest.raises(BadModelError, match="cut short"):
        TensorRTRunner(copy)


def test_sizes_shrink_with_the_types(engines: Engines) -> None:
    sizes = [engines(kind).stat().st_size for kind in KINDS[:3]]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < 10e6  # 8.9 to 9.3 MB, by the kernels that TensorRT times as fastest
