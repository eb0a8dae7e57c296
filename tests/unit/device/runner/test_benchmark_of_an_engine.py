"""The benchmark on a fake GPU: the scopes that only a GPU has, concurrent slots, memory of the device, trtexec."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fake_cuda import FakeGpu

from googlenet_deploy.device.benchmark import trtexec
from googlenet_deploy.device.benchmark.options import BenchmarkOptions
from googlenet_deploy.device.benchmark.run import Benchmark
from googlenet_deploy.device.benchmark.table import result_lines
from googlenet_deploy.device.runner.select import GpuOptions, open_runner
from googlenet_deploy.device.specification import Preprocessing

QUICK = BenchmarkOptions(batches=(1, 4), streams=(1, 3), rounds=2, seconds=0.0, warm_up_seconds=0.0)


def benchmark(engine: Path, root: Path, options: BenchmarkOptions = QUICK, **gpu: Any) -> dict[str, Any]:
    return Benchmark(
        lambda slots, threads, batch: open_runner(engine, gpu=GpuOptions(streams=slots, **gpu)),
        lambda _: Preprocessing(resize=4, crop=(4, 4)),
        options,
        quiet=True,
        root=root,
    ).run()


@pytest.fixture
def program(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trtexec that prints a recorded summary, and its arguments into a file."""
    path = tmp_path / "bin" / "trtexec"
    path.parent.mkdir()
    recorded = repository / "tests" / "data" / "trtexec" / "10.3.txt"
    path.write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/arguments"\nexec cat "{recorded}"\n')
    path.chmod(0o755)
    monkeypatch.setattr(trtexec, "find_trtexec", lambda: str(path))
    return tmp_path / "arguments"


def test_scopes_slots_memory_and_trtexec(
    gpu: FakeGpu, make_engine: Callable[..., Path], tmp_path: Path, repository: Path, program: Path
) -> None:
    result = benchmark(make_engine(), tmp_path)
    schema = json.loads((repository / "docs" / "benchmark.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(result)))
    assert result["backend"]["device"] == "GPU"
    assert result["model"]["precision"] == "fp16"
    parts = {(part["batch"], part["streams"]): part for part in result["configurations"]}
    assert list(parts) == [(1, 1), (1, 3), (4, 1), (4, 3)]
    scopes = parts[1, 1]["milliseconds"]
    assert scopes["copy_in"]["p50"]["value"] == pytest.approx(1.0)
    assert scopes["compute"]["p50"]["value"] == pytest.approx(5.0)
    assert scopes["copy_out"]["p50"]["value"] == pytest.approx(1.0)
    assert scopes["preprocess"]["runs"] == scopes["end_to_end"]["runs"] == 20
    assert parts[4, 3]["milliseconds"]["run"]["runs"] == 20
    assert parts[4, 3]["threads"] is None
    device = result["memory"]["device"]
    assert device["execution_context"] == 3 * 2**20
    assert device["all_processes_with_model"] is not None
    assert result["trtexec"]["compute"]["p50"] == 1.15918
    assert "--shapes=input:1x3x4x4" in program.read_text()
    assert any("trtexec: GPU compute median 1.159 ms, ours 5.000 ms" in line for line in result_lines(result))
    assert not gpu.live


def test_zero_copy_has_no_copies_and_says_why(gpu: FakeGpu, make_engine: Callable[..., Path], tmp_path: Path) -> None:
    options = BenchmarkOptions(rounds=1, seconds=0.0, warm_up_seconds=0.0, trtexec=False)
    (part,) = benchmark(make_engine(), tmp_path, options, zero_copy=True)["configurations"]
    reason = {"not_measured": "the GPU reads the host's memory (zero-copy)"}
    assert part["milliseconds"]["copy_in"] == part["milliseconds"]["copy_out"] == reason
    assert part["milliseconds"]["compute"]["p50"]["value"] == pytest.approx(5.0)
