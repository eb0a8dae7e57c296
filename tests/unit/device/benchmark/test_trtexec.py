from __future__ import annotations

from pathlib import Path

import pytest

from googlenet_deploy.device.benchmark import trtexec
from googlenet_deploy.device.benchmark.trtexec import find_trtexec, parse_trtexec, run_trtexec, why_not_trtexec

DATA = Path(__file__).resolve().parents[3] / "data" / "trtexec"


def golden(version: str) -> str:
    return (DATA / f"{version}.txt").read_text()


def script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "trtexec"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_the_summary_of_tensorrt_10() -> None:
    figures = parse_trtexec(golden("10.3"))
    assert figures is not None
    assert figures["queries_per_second"] == 858.971
    assert figures["compute"] == {
        "lowest": 1.12231,
        "highest": 1.99365,
        "mean": 1.16186,
        "p50": 1.15918,
        "p90": 1.17041,
        "p95": 1.17554,
        "p99": 1.19501,
    }
    assert figures["latency"]["p50"] == 1.56714
    assert figures["copy_in"]["mean"] == 0.166099
    assert figures["copy_out"]["highest"] == 0.25293
    assert figures["enqueue"]["lowest"] == 0.0640869


def test_the_summary_of_tensorrt_8_2() -> None:
    figures = parse_trtexec(golden("8.2"))
    assert figures is not None
    assert figures["queries_per_second"] == 8702.62
    assert figures["latency"] == {
        "lowest": 0.106445,
        "highest": 0.14566,
        "mean": 0.10741,
        "p50": 0.106934,
        "p99": 0.12204,
    }
    assert "p90" not in figures["compute"]


@pytest.mark.parametrize("cut", [0, 100, 400, 700])
def test_output_that_was_cut_short_gives_nothing_or_whole_figures(cut: int) -> None:
    text = golden("10.3")
    start = text.index("=== Performance summary ===")
    figures = parse_trtexec(text[: start + cut])
    assert figures is None or "p50" in figures["compute"]


def test_an_engine_with_open_shapes(tmp_path: Path) -> None:
    program = script(tmp_path, f'echo "$@" >"{tmp_path}/arguments"\ncat "{DATA}/10.3.txt"')
    figures = run_trtexec("model.engine", (8, 3, 224, 224), "input", 10.0, program)
    assert figures["compute"]["p50"] == 1.15918
    words = (tmp_path / "arguments").read_text().split()
    assert words == ["--loadEngine=model.engine", "--duration=10", "--warmUp=1000", "--shapes=input:8x3x224x224"]
    assert figures["command"] == [program, *words]


def test_an_engine_with_fixed_shapes(tmp_path: Path) -> None:
    program = script(tmp_path, f'cat "{DATA}/10.3.txt"')
    assert not any("shapes" in word for word in run_trtexec("m.engine", None, "input", 0.1, program)["command"])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo '[E] Error[1]: cannot deserialize'; echo done; exit 1", "exit status 1): [E] Error[1]: cannot"),
        ("exit 3", "exit status 3): it printed nothing"),
        ("echo hello", "exit status 0): hello"),
    ],
)
def test_a_trtexec_that_fails(body: str, words: str, tmp_path: Path) -> None:
    answer = run_trtexec("model.engine", None, "input", 1.0, script(tmp_path, body))
    assert words in answer["not_measured"]


def test_a_trtexec_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trtexec, "SECONDS_TO_START", 0.1)
    answer = run_trtexec("model.engine", None, "input", 0.0, script(tmp_path, "exec sleep 600"))
    assert answer["not_measured"].startswith("trtexec did not end")


def test_a_trtexec_that_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "trtexec").write_bytes(b"\0")
    answer = run_trtexec("model.engine", None, "input", 1.0, str(tmp_path / "trtexec"))
    assert "cannot be started" in answer["not_measured"]


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trtexec, "USUAL", tmp_path / "trtexec")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert find_trtexec() is None
    assert run_trtexec("model.engine", None, "input", 1.0)["not_measured"] == "trtexec is not installed"
    script(tmp_path, "")
    assert find_trtexec() == str(tmp_path / "trtexec")


@pytest.mark.parametrize(
    ("path", "backend", "can"),
    [
        ("model.engine", "TensorRT 10.3.0 (Orin, cuda-bindings)", True),
        ("model.engine", "TensorRT-RTX 1.7 (RTX 5090, cuda-bindings)", False),
        ("model.onnx", "ONNX Runtime 1.32.0 (CPU)", False),
    ],
)
def test_what_it_can_run(path: str, backend: str, can: bool) -> None:
    assert (why_not_trtexec(path, backend) is None) == can
