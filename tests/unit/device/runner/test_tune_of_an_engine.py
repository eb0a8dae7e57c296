"""`tune` on a fake GPU, through TensorRT's runner: engines before ONNX models, slots, CUDA graphs, the choice run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_cuda import FakeGpu
from mini_googlenet import build_tiny
from PIL import Image

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.tune.tuned_file import load_tuned
from googlenet_deploy.graph.files import write_model

QUICK = [
    "--first-seconds",
    "0.001",
    "--seconds",
    "0.002",
    "--rounds",
    "3",
    "--warm-up",
    "0",
    "--power",
    "none",
    "--quiet",
]
PREPARED = ["--preprocessing", "plain", "--resize", "4"]


def test_engines_slots_and_graphs(
    gpu: FakeGpu, make_engine: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_engine("fp16.engine")
    make_engine(
        "int8.engine", engine={"scale": 2.0}, precision="int8", precision_shares={"multiply_adds": {"int8": 0.9}}
    )
    make_engine("other.engine", tensorrt_version="8.5.2", engine={"scale": 3.0})
    write_model(tmp_path / "model.onnx", build_tiny())
    output = tmp_path / "out" / "tuned.json"
    words = ["--objective", "rate", "--batch", "1,4,64", "--streams", "1,2", "--output", str(output)]
    assert main(["tune", str(tmp_path), *words, *PREPARED, *QUICK]) == 0
    tuned = load_tuned(output)
    tried = {(e.setting.model, e.setting.batch, e.setting.streams, e.setting.cuda_graph) for e in tuned.results}
    models = ("fp16.engine", "int8.engine")
    assert tried == {(m, b, s, g) for m in models for b in (1, 4) for s in (1, 2) for g in (False, True)}
    assert {each.setting.device for each in tuned.results} == {"GPU"}
    assert [model.int8_share for model in tuned.models] == [None, 0.9]
    assert {model.context_bytes for model in tuned.models} == {3 * 2**20}
    reasons = {item.what: item.reason for item in tuned.left_out}
    assert "it was built by tensorrt 8.5.2" in reasons["other.engine in tensorrt"]
    assert reasons["model.onnx"] == "engines run here; --backend tries it as well"
    assert reasons["fp16.engine, batch 64"] == "it accepts batches of 1 to 4"
    assert "FP16" in capsys.readouterr().out
    choice = tuned.choice
    assert choice is not None
    Image.new("RGB", (6, 6)).save(tmp_path / "a.png")
    assert main(["infer", str(tmp_path), str(tmp_path / "a.png"), "--tuned", str(output), *PREPARED]) == 0
    err = capsys.readouterr().err
    assert "TensorRT 10.3.0" in err
