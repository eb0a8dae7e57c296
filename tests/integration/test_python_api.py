"""The steps as Python functions, from an ONNX file to figures, against what the commands write."""

from __future__ import annotations

import json
import logging
import urllib.request
from pathlib import Path
from threading import Event, Thread

import pytest
from mini_googlenet import SPECIFICATION, build_mini
from PIL import Image

import googlenet_deploy as gd
from googlenet_deploy.cli.main import main
from googlenet_deploy.errors import GateError, UsageError
from googlenet_deploy.export.samples import smooth_pictures
from googlenet_deploy.graph.files import write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GoogLeNet as net.onnx, and 24 pictures."""
    place = tmp_path_factory.mktemp("api")
    write_model(place / "net.onnx", build_mini())
    (place / "images").mkdir()
    for index, pixels in enumerate(smooth_pictures(24, (20, 24), 3, seed=3)):
        Image.fromarray(pixels).save(place / "images" / f"{index:02d}.png")
    return place


def test_functions_write_what_the_commands_write(folder: Path, tmp_path: Path) -> None:
    model, images = folder / "net.onnx", folder / "images"
    result = gd.calibrate(model, images, tmp_path / "table.json", count=12, options=gd.CalibrationOptions(quiet=True))
    assert result.table.images.count == 12
    words = ["calibrate", str(model), "--images", str(images), "--count", "12", "--quiet", "--output"]
    assert main([*words, str(tmp_path / "command.json")]) == 0
    assert (tmp_path / "table.json").read_bytes() == (tmp_path / "command.json").read_bytes()
    made = gd.quantize(model, tmp_path / "int8.onnx", table=tmp_path / "table.json")
    assert (
        main(["quantize", str(model), "--table", str(tmp_path / "table.json"), "--output", str(tmp_path / "c.onnx")])
        == 0
    )
    assert (tmp_path / "int8.onnx").read_bytes() == (tmp_path / "c.onnx").read_bytes()
    assert made.measure is None  # without images nothing is compared
    assert any("not compared with the FP32 model" in warning for warning in made.warnings)


def test_without_an_output_nothing_is_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    simplified = gd.export(onnx=folder / "net.onnx", options=gd.ExportOptions(batch=1), target="orin-nano")
    assert simplified.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    calibration = gd.CalibrationOptions(quiet=True)
    made = gd.quantize(folder / "net.onnx", images=folder / "images", count=12, calibration=calibration, refine="none")
    assert made.measure is not None
    assert made.measure.agreement.images == 12
    assert made.unseen
    assert not list(tmp_path.iterdir())


def test_a_requirement_that_does_not_hold_raises_after_the_model_is_written(folder: Path, tmp_path: Path) -> None:
    calibration, check = gd.CalibrationOptions(quiet=True), gd.CheckOptions(require={"sqnr": 200.0})
    arguments = {"images": folder / "images", "count": 12, "calibration": calibration, "check": check, "refine": "none"}
    with pytest.raises(GateError, match=r"sqnr is [\d.]+, required was 200"):
        gd.quantize(folder / "net.onnx", tmp_path / "int8.onnx", **arguments)  # type: ignore[arg-type]
    assert (tmp_path / "int8.onnx").exists()
    result = gd.quantize(folder / "net.onnx", **arguments, enforce=False)  # type: ignore[arg-type]
    assert result.measure is not None
    assert result.measure.sqnr < 200


def test_evaluation_against_itself_agrees(folder: Path) -> None:
    running = gd.RunnerOptions(backend="onnxruntime")
    found = gd.evaluate(
        folder / "net.onnx", folder / "images", reference=folder / "net.onnx", limit=10, layers=0, running=running
    )
    assert len(found.result.names) == 10
    assert found.figures["agreement"] == 100
    assert json.loads(json.dumps(found.to_dict()))["figures"]["agreement"] == 100
    with pytest.raises(GateError, match="top1 was required to be 50"):
        found.check({"top1": 50})


def test_benchmark_estimate_and_notes(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = gd.BenchmarkOptions(rounds=1, seconds=0.0, min_runs=2, warm_up_seconds=0.0, power="none", trtexec=False)
    changed = gd.PreprocessingOptions(interpolation="bicubic")
    with caplog.at_level(logging.WARNING, "googlenet_deploy"):
        result = gd.benchmark(
            folder / "net.onnx",
            options=options,
            running=gd.RunnerOptions(backend="onnxruntime", threads=1),
            preprocessing=changed,
        )
    assert result["configurations"][0]["milliseconds"]["end_to_end"]["runs"] == 2
    assert f"interpolation is bicubic as the options specify; the model was made for {SPECIFICATION.interpolation}" in (
        caplog.text
    )
    assert gd.estimate(folder / "net.onnx", "orin-nano").weight_bytes > 0
    with pytest.raises(UsageError, match="unknown target 'toaster'"):
        gd.estimate(folder / "net.onnx", "toaster")


def test_serving_from_a_thread(folder: Path) -> None:
    stop, ready, lines = Event(), Event(), []

    def report(line: str) -> None:
        lines.append(line)
        ready.set()

    counts: list[int] = []

    def work() -> None:
        options, running = gd.ServeOptions(power="none"), gd.RunnerOptions(backend="onnxruntime")
        counts.append(
            gd.serve(
                folder / "net.onnx", address="127.0.0.1:0", options=options, running=running, stop=stop, report=report
            )
        )

    thread = Thread(target=work)
    thread.start()
    try:
        assert ready.wait(20)
        address = lines[0].partition("http://")[2].partition("/")[0]
        body = (folder / "images" / "00.png").read_bytes()
        with urllib.request.urlopen(f"http://{address}/classify", body, timeout=10) as answer:
            shown = json.load(answer)["classes"][0]["class"]
    finally:
        stop.set()
        thread.join(20)
    assert counts == [1]
    with gd.Classifier(folder / "net.onnx", backend="onnxruntime") as classify:
        assert classify(folder / "images" / "00.png").best.index == shown
