"""The build command: what it prints, writes and ends with. TensorRT is plain Python; contract tests use real ones."""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import onnx
import pytest
from fake_builder import Behaviour, FakeDriver, builder_module
from small_models import write_small_model

from googlenet_deploy.cli import build as command
from googlenet_deploy.cli.main import main
from googlenet_deploy.device.engine.manifest import load_manifest


@pytest.fixture
def behaviour(monkeypatch: pytest.MonkeyPatch) -> Behaviour:
    """TensorRT 10.3 on an Orin."""
    fake, real = Behaviour(), ctypes.CDLL
    driver = FakeDriver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name, *rest: driver if name == "libcuda.so.1" else real(name, *rest))
    monkeypatch.setitem(sys.modules, "tensorrt", builder_module(fake))
    return fake


def failing(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    assert main(["build", *arguments]) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err


def test_engine_beside_the_model_and_the_command_that_rebuilds_it(
    behaviour: Behaviour, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_small_model(tmp_path / "m v1.onnx", "qdq")
    behaviour.warnings = ["Check verbose logs"]
    options = ["--batch", "1,2,4", "--require", "int8=0.9", "--also-trtexec", "--timing-cache", str(tmp_path / "t")]
    assert main(["build", model, *options]) == 0
    captured = capsys.readouterr()
    engine = tmp_path / "m v1.engine"
    manifest = load_manifest(engine)
    assert f"{engine}: " in captured.out
    assert "multiply-adds: int8 100.0%, by the engine inspector" in captured.out
    assert "TensorRT 10.3.0: trtexec '--onnx=" in captured.out
    for part in (
        "TensorRT 10.3.0: weakly typed int8 build of",
        "note: LRN stays in FP32",
        "new, so every kernel is timed",
        "note: timing cache",
        "TensorRT 10.3.0 warns: Check verbose logs",
    ):
        assert part in captured.err
    assert manifest.rebuild == f"googlenet-deploy build '{model}' --batch 1,2,4 --timing-cache {tmp_path / 't'}"
    assert manifest.notes[-1].endswith("bytes written")


def test_the_rebuild_command_parses_to_the_same_options(behaviour: Behaviour, tmp_path: Path) -> None:
    import argparse
    import shlex

    model = write_small_model(tmp_path / "m.onnx")
    options = ["--precision", "fp16", "--no-tf32", "--sparsity", "--workspace", "64M", "--keep-fp32", "LRN,conv1"]
    assert main(["build", model, "--quiet", "--optimization-level", "2", *options]) == 0
    words = shlex.split(load_manifest(tmp_path / "m.engine").rebuild)
    assert words[:2] == ["googlenet-deploy", "build"]
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    again, first = parser.parse_args(words[2:]), parser.parse_args([model, "--optimization-level", "2", *options])
    assert again == first


def test_quiet_says_nothing(behaviour: Behaviour, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = write_small_model(tmp_path / "m.onnx")
    assert main(["build", model, "--quiet", "--also-trtexec", "--json", str(tmp_path / "m.json")]) == 0
    assert main(["build", model, "--quiet", "--dry-run"]) == 0
    assert capfd.readouterr() == ("", "")
    assert json.loads((tmp_path / "m.json").read_text())["precision"] == "fp32"


def test_warnings_beyond_a_dozen_are_counted(
    behaviour: Behaviour, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    behaviour.warnings = [f"warning {number}" for number in range(15)]
    assert main(["build", str(write_small_model(tmp_path / "m.onnx")), "--precision", "fp16"]) == 0
    printed = capfd.readouterr().err
    assert "warns: warning 11\n" in printed
    assert "warning 12" not in printed
    assert "TensorRT 10.3.0 warns 3 times more\n" in printed


def test_a_gate_that_does_not_hold(behaviour: Behaviour, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_small_model(tmp_path / "m.onnx", "qdq")
    behaviour.fp16_layers = {"conv1", "conv2"}
    error = failing(capsys, 3, model, "--require", "int8=0.5")
    assert "int8: 0.0% of the multiply-adds, 50.0% required" in error
    assert "conv1 computes in fp16" in error
    assert (tmp_path / "m.engine").exists()


def test_a_jetson_with_python_3_6_gets_a_model_and_a_trtexec_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, stripped = write_small_model(tmp_path / "m.int8.onnx", "qdq"), tmp_path / "m.fp16.onnx"
    arguments = ["--target", "nano", "--dry-run", "--also-trtexec", "--write-onnx", str(stripped)]
    assert main(["build", model, *arguments]) == 0
    printed = capsys.readouterr().out
    assert "compute capability 5.3 has no INT8: the Q/DQ nodes are removed" in printed
    assert f"TensorRT 8.2 of nano: trtexec --onnx={stripped}" in printed
    assert "--fp16" in printed
    assert "--int8" not in printed
    assert [node.op_type for node in onnx.load(stripped).graph.node] == ["Conv", "LRN", "Conv"]


def test_a_model_that_keeps_its_pairs_is_written_as_it_is(tmp_path: Path) -> None:
    model, written = write_small_model(tmp_path / "m.onnx", "qdq"), tmp_path / "w.onnx"
    assert main(["build", model, "--target", "orin-nano", "--dry-run", "--quiet", "--write-onnx", str(written)]) == 0
    assert written.read_bytes() == Path(model).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--batch", "3,2,1"], 2, "not a batch profile"),
        (["--require", "int4=1"], 2, "not TYPE=SHARE"),
        (["--workspace", "lots"], 2, "is not a size"),
        (["--target", "toaster"], 2, "unknown target"),
        (["--compute-capability", "8.6"], 2, "--compute-capability is for --backend tensorrt-rtx"),
        (["--calibration-count", "0"], 2, "at least 1"),
        (["--precision", "int8"], 1, "INT8 has no scales"),
        (["--calibration-cache", "/nowhere/c.cache"], 1, "cannot be read"),
        (["--target", "jetpack-5.1"], 1, "has TensorRT 8.5, here is TensorRT 10.3.0"),
        (["--tactic-sources", "magic"], 1, "no tactic source magic"),
    ],
)
def test_what_cannot_be_built(
    behaviour: Behaviour,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    words: str,
) -> None:
    model = write_small_model(tmp_path / "m.onnx")
    assert words in failing(capsys, status, model, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_place_that_cannot_be_written(
    behaviour: Behaviour, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_small_model(tmp_path / "m.onnx")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in failing(capsys, 1, model, "--output", str(tmp_path / "file" / "m.engine"))
