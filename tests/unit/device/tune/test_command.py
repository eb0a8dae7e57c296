"""`tune` as a user types it, on this CPU, with small nets in ONNX Runtime and OpenVINO; and what takes its choice."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mini_googlenet import SIZE, Net, build_tiny
from PIL import Image

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.bundle.golden import Golden, GoldenImage, GoldenModel
from googlenet_deploy.device.tune.tuned_file import load_tuned
from googlenet_deploy.graph.files import write_model
from googlenet_deploy.packaging.content import BundleContent, verify_bundle, write_bundle

pytest.importorskip("onnxruntime")
QUICK = ["--first-seconds", "0.02", "--seconds", "0.05", "--rounds", "3", "--warm-up", "0.1", "--quiet"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an FP32 and an INT8 net, photographs beside it, and a damaged model."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "model.onnx", build_tiny())
    net = Net()
    pooled = net.max_pool(net.conv(net.pair("input", scale=1.0), "conv1", 6, 3), "maxpool1")
    net.classifier(net.conv(net.pair(pooled, scale=0.5), "conv2", 8, 3))
    write_model(folder / "model.int8.onnx", net.model())
    (folder / "broken.onnx").write_bytes(b"\x08\x07 no model")
    generator = np.random.default_rng(1)
    (folder / "photos").mkdir()
    for index in range(6):
        pixels = generator.integers(0, 255, (SIZE + 4, SIZE + 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def tuned_file(models: Path) -> Path:
    """What a search of that folder wrote."""
    path = models / "out" / "tuned.json"
    words = ["tune", str(models), "--images", str(models / "photos"), "--batch", "1,2", "--threads", "1"]
    assert main([*words, "--min-agreement", "1", "--output", str(path), *QUICK]) == 0
    return path


def test_every_backend_and_batch_was_tried(tuned_file: Path) -> None:
    tuned = load_tuned(tuned_file)
    tried = {(each.setting.model, each.setting.backend) for each in tuned.results}
    assert {("model.onnx", "onnxruntime"), ("model.int8.onnx", "onnxruntime")} <= tried
    assert {each.setting.batch for each in tuned.results} == {1, 2}
    assert {model.precision for model in tuned.models} == {"fp32", "int8"}
    assert [item.what for item in tuned.left_out] == ["broken.onnx"]
    assert tuned.images == 6
    fp32 = [each for each in tuned.results if each.setting.model == "model.onnx"]
    assert all(each.agreement == 100.0 for each in fp32)
    assert tuned.choice is not None
    assert tuned.choice.latency_ms.value > 0
    # The rate and the latency of one stream are of the same runs.
    for each in tuned.results:
        assert each.images_per_second.value == pytest.approx(each.setting.batch * 1000 / each.latency_ms.value, rel=0.9)


def test_openvino_is_tried_where_it_is_installed(models: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = tmp_path / "tuned.json"
    words = ["tune", str(models / "model.onnx"), "--backend", "openvino,onnxruntime", "--threads", "1", "--batch", "2"]
    assert main([*words, "--output", str(path), *QUICK]) == 0
    tuned = load_tuned(path)
    assert {each.setting.backend for each in tuned.results} == {"openvino", "onnxruntime"}
    assert {(each.setting.batch, each.setting.threads) for each in tuned.results} == {(2, 1)}


def test_infer_runs_the_model_as_it_was_tuned(
    models: Path, tuned_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = load_tuned(tuned_file).choice
    assert choice is not None
    answers = tmp_path / "answers.jsonl"
    words = [str(models / "photos"), "--tuned", str(tuned_file), "--json", str(answers)]
    assert main(["infer", str(models / choice.setting.model), *words]) == 0
    err = capsys.readouterr().err
    assert {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}[choice.setting.backend] in err
    assert len(answers.read_text().splitlines()) == 6
    # The folder that was tuned stands for the chosen model in it.
    assert main(["infer", str(models), *words]) == 0


def test_benchmark_measures_the_batch_that_was_tuned(models: Path, tuned_file: Path, tmp_path: Path) -> None:
    choice = load_tuned(tuned_file).choice
    assert choice is not None
    brief = ["--rounds", "2", "--seconds", "0", "--min-runs", "2", "--warm-up", "0", "--no-trtexec", "--quiet"]
    path = tmp_path / "b.json"
    assert main(["benchmark", str(models), "--tuned", str(tuned_file), "--json", str(path), *brief]) == 0
    result = json.loads(path.read_text())
    assert result["configurations"][0]["batch"] == choice.setting.batch
    assert result["options"]["threads"] == choice.setting.threads
    assert result["backend"]["options"]["backend"] == choice.setting.backend


def test_options_beside_it_win_and_that_is_said(
    models: Path, tuned_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(models), str(models / "photos"), "--tuned", str(tuned_file), "--batch", "5", "--quiet"]
    assert main(["infer", *words]) == 0
    assert "note: batch size is 5 as given; " in capsys.readouterr().err


def test_another_model_is_refused(models: Path, tuned_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choice = load_tuned(tuned_file).choice
    assert choice is not None
    other = "model.onnx" if choice.setting.model == "model.int8.onnx" else "model.int8.onnx"
    for command in (["infer", str(models / other), str(models / "photos")], ["benchmark", str(models / other)]):
        assert main([*command, "--tuned", str(tuned_file)]) == 1
        err = capsys.readouterr().err
        assert f"chose {choice.setting.model}, which" in err
        assert "Traceback" not in err


def test_a_path_out_of_the_folder_is_refused(
    models: Path, tuned_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = json.loads(tuned_file.read_text())
    chosen = values["results"][0]["setting"]["model"]
    hostile = tmp_path / "hostile.json"
    hostile.write_text(json.dumps(values).replace(f'"{chosen}"', '"../../etc/passwd"'))
    assert main(["infer", str(models), str(models / "photos"), "--tuned", str(hostile)]) == 1
    assert "is not inside the folder" in capsys.readouterr().err


def test_another_machine_is_noted(
    models: Path, tuned_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = json.loads(tuned_file.read_text())
    values["machine"]["processor"] = "another CPU"
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps(values))
    assert main(["infer", str(models), str(models / "photos"), "--tuned", str(path), "--quiet"]) == 0
    assert "is of another machine (processor another CPU, here" in capsys.readouterr().err


def test_a_budget_that_cannot_be_met_names_the_nearest_and_is_not_used(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tuned.json"
    words = [
        "tune",
        str(models / "model.onnx"),
        "--backend",
        "onnxruntime",
        "--threads",
        "1",
        "--max-latency",
        "0.00001",
    ]
    assert main([*words, "--output", str(path), *QUICK]) == 3
    captured = capsys.readouterr()
    assert "nothing meets: latency at most 1e-05 ms; the nearest is model.onnx, onnxruntime, batch 1" in captured.err
    tuned = load_tuned(path)
    assert (tuned.chosen, tuned.nearest) == (None, 0)
    assert main(["benchmark", str(models / "model.onnx"), "--tuned", str(path)]) == 1
    assert "contains no choice: nothing met the limits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["no-such.onnx"], 1, "no such file or folder"),
        (["{empty}"], 1, "contains no model"),
        (["{models}/broken.onnx"], 1, "broken.onnx"),
        (["{models}/model.onnx", "--objective", "energy", "--power", "none"], 1, "there is no power meter"),
        (["{models}/model.onnx", "--min-agreement", "99"], 2, "--min-agreement needs images"),
        (["{models}/model.onnx", "--min-agreement", "101"], 2, "--min-agreement must be above 0 and at most 100"),
        (["{models}/model.onnx", "--batch", "1,1"], 2, "names a value twice"),
        (["{models}/model.onnx", "--backend", "tensorrt"], 2, "runs no ONNX models"),
        (["{models}/model.onnx", "--power-modes"], 2, "this machine is not a Jetson"),
        (["{models}/model.onnx", "--images", "{models}/broken.onnx"], 1, "no image can be used (1 skipped)"),
        (["{models}/model.onnx", "--output", "{models}"], 1, "cannot be written"),
    ],
)
def test_wrong_input_is_one_line(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    given = [word.format(models=models, empty=tmp_path / "empty") for word in words]
    output = [] if "--output" in words else ["--output", str(tmp_path / "tuned.json")]
    assert main(["tune", *given, *output, *QUICK]) == status
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "tuned.json").exists()


def test_no_candidate_that_runs_is_an_error(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(models / "broken.onnx", folder / "a.onnx")
    (folder / "b.engine").write_bytes(b"no engine")
    assert main(["tune", str(folder), "--output", str(tmp_path / "tuned.json"), *QUICK]) == 1
    err = capsys.readouterr().err
    assert "not one of the models runs here: a.onnx: " in err
    assert "b.engine: the engine's manifest cannot be read" in err


def test_the_same_content_is_tried_once(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    (folder / "models").mkdir(parents=True)
    shutil.copy(models / "model.onnx", folder / "a.onnx")
    shutil.copy(models / "model.onnx", folder / "models" / "b.onnx")
    path = tmp_path / "tuned.json"
    assert main(["tune", str(folder), "--backend", "onnxruntime", "--output", str(path), *QUICK]) == 0
    tuned = load_tuned(path)
    assert [model.path for model in tuned.models] == ["a.onnx"]
    assert [(item.what, item.reason) for item in tuned.left_out] == [("models/b.onnx", "is the same file as a.onnx")]


def test_the_result_of_a_bundle_does_not_count_as_an_alteration(models: Path, tmp_path: Path) -> None:
    """The golden images serve where none are given."""
    content = BundleContent()
    content.add_model("models/model.onnx", models / "model.onnx")
    for index in range(2):
        content.add_file(f"golden/{index}.png", models / "photos" / f"{index}.png", "golden image")
    golden = Golden(
        tuple(GoldenImage(f"golden/{index}.png", 0, "") for index in range(2)),
        (GoldenModel("models/model.onnx", "fp32", "golden/0.png", 45.0),),
        45.0,
        1.0,
        "",
    )
    content.add_text("golden/golden.json", golden.to_text(), "golden outputs")
    write_bundle(tmp_path / "bundle", content, content.manifest("jetson", "orin-nano", "fp32", {}))
    words = ["tune", str(tmp_path / "bundle"), "--backend", "onnxruntime", "--threads", "1", "--batch", "1"]
    assert main([*words, *QUICK]) == 0
    tuned = load_tuned(tmp_path / "bundle" / "on-device" / "tuned.json")
    assert tuned.images == 2
    assert tuned.choice is not None
    assert tuned.choice.setting.model == "models/model.onnx"
    verify_bundle(tmp_path / "bundle")
    (tmp_path / "bundle/models/model.onnx").write_bytes(b"altered")
    assert main([*words, *QUICK]) == 1


def test_batches_of_a_model_of_one_image_are_shared_out(tmp_path: Path) -> None:
    write_model(tmp_path / "one.onnx", build_tiny(batch=1))
    path = tmp_path / "tuned.json"
    words = ["tune", str(tmp_path / "one.onnx"), "--objective", "rate", "--threads", "1", "--batch", "1,3"]
    assert main([*words, "--output", str(path), *QUICK]) == 0
    tuned = load_tuned(path)
    assert {each.setting.batch for each in tuned.results if each.setting.backend == "onnxruntime"} == {1, 3}
    assert not tuned.left_out


def test_a_fixed_batch_is_the_only_one(tmp_path: Path) -> None:
    write_model(tmp_path / "three.onnx", build_tiny(batch=3))
    path = tmp_path / "tuned.json"
    words = ["tune", str(tmp_path / "three.onnx"), "--objective", "rate", "--backend", "onnxruntime", "--threads", "1"]
    assert main([*words, "--output", str(path), *QUICK]) == 0
    assert [each.setting.batch for each in load_tuned(path).results] == [3]


def test_a_signal_ends_it_with_nothing_written(models: Path, tmp_path: Path) -> None:
    words = ["tune", str(models / "model.onnx"), "--backend", "onnxruntime", "--seconds", "20", "--warm-up", "0"]
    command = [sys.executable, "-m", "googlenet_deploy", *words, "--first-seconds", "0.1", "--output", "tuned.json"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        assert process.stderr.readline().startswith("tune: stage 1: 2 settings")
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)  # the second does not wait for the round's end
        rest = process.stderr.read()
        assert process.wait(20) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert "interrupted; nothing was written" in rest
    assert "Traceback" not in rest
    assert not list(tmp_path.iterdir())
