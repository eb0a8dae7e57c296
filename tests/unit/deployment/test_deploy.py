"""The whole way on a small net: what comes of it, what is skipped, and how it goes on after an interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from googlenet_deploy.calibration.table import CalibrationTable, load_table
from googlenet_deploy.cli.main import main
from googlenet_deploy.deployment import pipeline
from googlenet_deploy.deployment.job import Job
from googlenet_deploy.deployment.pipeline import STEPS, deploy
from googlenet_deploy.deployment.state import DeploymentState
from googlenet_deploy.deployment.steps.benchmark import BenchmarkHere
from googlenet_deploy.deployment.steps.images import DivideImages
from googlenet_deploy.device.files import _temporary_for
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import BadModelError, GateError, InputError, OutputError, UsageError, VerificationError
from googlenet_deploy.export import pipeline as export_pipeline
from googlenet_deploy.graph.edit import copy_model
from googlenet_deploy.packaging.content import verify_bundle
from googlenet_deploy.quantization.accuracy_probe import Measure
from googlenet_deploy.report.results import load_results
from tests.unit.deployment.conftest import Finished, Ground, outcomes, run
from tests.unit.device.benchmark.conftest import make_result

__all__ = ["make_result"]  # a fixture

NAMES = [step.name for step in STEPS]


def test_everything_is_made(finished: Finished) -> None:
    folder = finished.result.folder
    for name in ("model.onnx", "model.fp16.onnx", "model.int8.onnx", "table.json", "bundle.zip", "report.html"):
        assert (folder / name).stat().st_size > 0, name
    assert outcomes(finished) == {**dict.fromkeys(NAMES, "done"), "benchmark": "left out"}
    manifest = verify_bundle(folder / "bundle.zip")
    assert (manifest.target, manifest.precision) == ("orin-nano", "int8")
    assert not [path for path in folder.iterdir() if path.name.startswith(".") and path.name != ".lock"]


def test_every_step_is_listed_as_it_ends(finished: Finished) -> None:
    listed = [line for line in finished.lines if "note:" not in line]
    assert [line.split()[2] for line in listed if " s  " in line][:5] == NAMES[:5]
    assert any("left out  benchmark  it was switched off" in line for line in listed)


def test_results_say_what_was_found(finished: Finished) -> None:
    results = load_results(finished.result.folder / "results.json")
    assert [variant.name for variant in results.variants] == ["fp32", "fp16", "int8"]
    fp32, _, int8 = results.variants
    assert fp32.top1 is not None
    assert fp32.top1.percent == 100
    assert int8.agreement is not None
    assert int8.difference is not None
    assert int8.latency is not None
    assert int8.shares["int8"] > 0.9
    # Eight images are too few to calibrate on, and the diagnosis says so.
    doubtful = [check for check in results.checks if not check.ok]
    assert [check.name for check in doubtful] in ([], ["INT8 is as near to FP32 as INT8 usually is"])
    names = {check.name for check in results.checks}
    assert {"FP32 ONNX equals PyTorch", "Bundle's self-test", "Calibration and evaluation images differ"} <= names
    assert results.layers
    assert results.histograms
    assert results.memory
    assert {bound.mode.name for bound in results.bounds["int8"]} >= {"7W", "15W"}
    assert results.commands[0].startswith("googlenet-deploy deploy --weights ")
    reasons = {entry.part: entry.reason for entry in results.missing}
    assert "no device is available here" in reasons["latency on the device"]
    assert "switched off" in reasons["latency"]


def test_doubts_of_few_images_are_in_the_banner(finished: Finished) -> None:
    folder = finished.result.folder
    results = load_results(folder / "results.json")
    assert any(doubt.text.startswith("only 8 images calibrated") for doubt in results.doubts)
    assert any("12 evaluation images show" in doubt.text for doubt in results.doubts)
    assert any(check.inconclusive for check in results.checks if check.name.startswith("No more is lost"))
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert 'class="verdict care"' in text or 'class="verdict bad"' in text
    assert 'class="verdict good"' not in text


def test_no_path_of_this_machine_is_in_what_is_passed_on(ground: Ground, finished: Finished) -> None:
    folder = finished.result.folder
    foreign = [str(ground.folder), str(folder.parent), str(Path.home()), str(Path.cwd())]
    for name in ("results.json", "report.html", "report.md", "model.onnx", "model.int8.onnx", "table.json"):
        content = (folder / name).read_bytes()
        assert not [path for path in foreign if path.encode() in content], name
    with zipfile.ZipFile(folder / "bundle.zip") as bundle:
        for name in bundle.namelist():
            content = bundle.read(name)
            assert not [path for path in foreign if path.encode() in content], name


def test_the_device_s_own_figures_come_into_the_report(
    ground: Ground, copy_of: Callable[[], Path], make_result: Any, tmp_path: Path
) -> None:
    folder = copy_of()
    weights = load_results(folder / "results.json").subject.weights_sha256
    measured = make_result()
    measured["model"].update(source_sha256=weights, precision="int8")
    file = tmp_path / "benchmark.json"
    file.write_text(json.dumps(measured))
    finished = run(ground.config(folder, device_results=str(file)))
    assert {name for name, outcome in outcomes(finished).items() if outcome == "done"} == set()
    results = load_results(folder / "results.json")
    latency = results.deployed.latency if results.deployed else None
    assert latency is not None
    chosen = measured["configurations"][0]
    assert (latency.kind, latency.value) == (
        "measured",
        chosen["milliseconds"]["run"]["p50"]["value"] / chosen["batch"],
    )
    fp32 = results.variant("fp32")
    assert fp32 is not None
    assert fp32.latency is not None
    assert fp32.latency.kind == "predicted"
    assert "measured on" in results.device
    assert not [entry for entry in results.missing if entry.part == "latency on the device"]
    assert str(tmp_path) not in (folder / "report.html").read_text(encoding="utf-8")
    measured["model"]["source_sha256"] = "f" * 64
    file.write_text(json.dumps(measured))
    with pytest.raises(InputError, match="measured a model of other weights"):
        run(ground.config(folder, device_results=str(file)))
    for damage in ("configurations", "state"):
        broken = {**measured, damage: []}
        broken["model"] = {**measured["model"], "source_sha256": weights}
        file.write_text(json.dumps(broken))
        with pytest.raises(InputError, match="is damaged"):
            run(ground.config(folder, device_results=str(file)))


def test_no_image_both_calibrates_and_evaluates(finished: Finished) -> None:
    images = json.loads((finished.result.folder / "images.json").read_text())
    assert len(images["calibration"]) == 8
    assert len(images["evaluation"]) == 12
    assert not set(images["calibration"]) & set(images["evaluation"])


def test_a_second_run_does_nothing(
    ground: Ground, copy_of: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of()
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != ".lock"}
    for step in STEPS:
        monkeypatch.setattr(type(step), "run", lambda *_: pytest.fail("a step was done again"))
    finished = run(ground.config(folder))
    assert set(outcomes(finished).values()) == {"unchanged", "left out"}
    assert any(line.startswith("unchanged  report") for line in finished.lines)
    assert times == {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != ".lock"}


def record_once(capture: Callable[..., Any]) -> Callable[..., Any]:
    """torch's exporter takes most of the step; the second time its graph is that of the first."""
    recorded: list[Any] = []

    def once(*arguments: Any) -> Any:
        if not recorded:
            recorded.append(capture(*arguments))
        return copy_model(recorded[0])

    return once


@pytest.mark.parametrize("number", range(len(STEPS)))
def test_killed_at_any_step_it_goes_on_from_there(
    ground: Ground, copy_of: Callable[[], Path], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed behind the step's work, ahead of its record, which is the worst moment; then run again.

    Later steps keep their records, which count again once the same bytes have come back.
    """
    step = STEPS[number]
    if step.name == "benchmark":
        pytest.skip("it is left out here")
    folder = copy_of()
    DeploymentState(folder).forget(step.name, remove=True)
    original = DeploymentState.add

    def killed(self: DeploymentState, name: str, record: object) -> None:
        if name == step.name:
            raise KeyboardInterrupt
        original(self, name, record)  # type: ignore[arg-type]

    if step.name == "export":
        monkeypatch.setattr(export_pipeline, "capture", record_once(export_pipeline.capture))
    monkeypatch.setattr(DeploymentState, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        run(ground.config(folder))
    monkeypatch.setattr(DeploymentState, "add", original)
    again = outcomes(run(ground.config(folder)))
    assert [name for name, outcome in again.items() if outcome == "done"] == [step.name]
    verify_bundle(folder / "bundle.zip")


def test_a_process_that_is_killed_for_good_leaves_what_was_finished(
    ground: Ground, finished: Finished, tmp_path: Path
) -> None:
    """What it had finished is taken over, and in the end every model has the bytes of an undisturbed run."""
    folder = tmp_path / "orin"
    config = ground.config(folder)
    command = [
        sys.executable,
        "-m",
        "googlenet_deploy",
        "deploy",
        "--weights",
        config.weights,
        "--images",
        config.images,
    ]
    command += ["--target", "orin-nano", "--output", str(folder), "--calibration-images", "8", "--no-benchmark"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and "export" not in DeploymentState(folder).records:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGSTOP)
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert refused.returncode == 1
    assert "another deployment is at work in it" in refused.stderr.splitlines()[0]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = run(replace(config, labels="", golden_images=6, gates={}))
    assert outcomes(again)["images"] == "unchanged"
    assert outcomes(again)["export"] == "unchanged"
    verify_bundle(folder / "bundle.zip")
    for name in ("model.onnx", "model.fp16.onnx", "model.int8.onnx"):
        assert (folder / name).read_bytes() == (finished.result.folder / name).read_bytes(), name


def test_unfinished_files_of_a_killed_run_go_away(ground: Ground, copy_of: Callable[[], Path]) -> None:
    """As the writer of files and the self-test of the bundle call them, which SIGKILL leaves no time to remove."""
    folder = copy_of()
    for name in ("model.int8.onnx", "bundle.zip", "state.json"):
        _temporary_for(folder / name, False).write_bytes(b"half")
    (folder / ".self-test.a1b2c3d4/bundle").mkdir(parents=True)
    kept = (".notes", ".model.onnx.txt", "model.onnx.a1b2c3d4.onnx")
    for name in kept:
        (folder / name).write_text("the user's own")
    finished = run(ground.config(folder))
    assert finished.lines[0] == "note: 4 unfinished files of a run that was killed went away"
    assert {path.name for path in folder.iterdir() if path.name.startswith(".")} == {".lock", *kept[:2]}
    assert (folder / kept[2]).exists()


def test_a_damaged_output_is_made_again(ground: Ground, copy_of: Callable[[], Path]) -> None:
    folder = copy_of()
    (folder / "model.int8.onnx").write_bytes(b"damaged")
    again = outcomes(run(ground.config(folder)))
    assert again["quantize"] == "done"
    assert again["evaluate"] == again["bundle"] == "unchanged"  # the same bytes came back


def test_a_lost_report_comes_back_as_it_was(ground: Ground, copy_of: Callable[[], Path]) -> None:
    folder = copy_of()
    text = (folder / "report.md").read_text(encoding="utf-8")
    (folder / "report.md").unlink()
    run(ground.config(folder))
    assert (folder / "report.md").read_text(encoding="utf-8").splitlines()[:4] == text.splitlines()[:4]


def test_other_options_redo_only_what_they_change(ground: Ground, copy_of: Callable[[], Path]) -> None:
    again = outcomes(run(ground.config(copy_of(), golden_images=3)))
    assert {name for name, outcome in again.items() if outcome == "done"} == {"bundle"}


def test_another_method_changes_what_follows_from_it(ground: Ground, copy_of: Callable[[], Path]) -> None:
    again = outcomes(run(ground.config(copy_of(), method="max")))
    assert [name for name, outcome in again.items() if outcome == "unchanged"] == ["images", "export", "fp16"]


def test_a_damaged_state_is_said_and_begun_anew(ground: Ground, copy_of: Callable[[], Path]) -> None:
    folder = copy_of()
    for text in (
        "{",
        "[]",
        '{"format": "other", "steps": {}}',
        '{"format": "googlenet-deploy deployment 1", "steps": 3}',
    ):
        (folder / "state.json").write_text(text)
        assert "everything is done again" in DeploymentState(folder).note


def test_a_gate_that_does_not_hold_stops_it(ground: Ground, copy_of: Callable[[], Path]) -> None:
    folder = copy_of()
    lines: list[str] = []
    config = ground.config(folder, gates={"agreement": 50.0, "sqnr": 90.0})
    with pytest.raises(GateError, match=r"SQNR is .* dB, required is at least 90 dB") as caught:
        deploy(config, lines.append, quiet=True)
    assert "it was calibrated on 8 images only" in str(caught.value.remedy)
    assert not (folder / "bundle.zip").exists()
    results = load_results(folder / "results.json")
    assert [gate.holds for gate in results.gates] == [True, False]
    assert "Do not ship" in (folder / "report.html").read_text(encoding="utf-8")
    assert {"bundle", "bounds"} <= {entry.part for entry in results.missing}
    again = outcomes(run(ground.config(folder)))
    assert again["evaluate"] == "unchanged"
    assert again["bundle"] == "done"


@pytest.fixture
def ruin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrated ranges a million times too wide, so that every value is rounded to 0."""

    def widened(path: Path) -> CalibrationTable:
        table = load_table(path)
        records = [
            replace(record, amax={name: 1e6 * value for name, value in record.amax.items()}) for record in table.records
        ]
        return replace(table, records=tuple(records))

    monkeypatch.setattr("googlenet_deploy.calibration.table.load_table", widened)


def int8_files(folder: Path) -> set[str]:
    return {"model.int8.onnx", "bundle.zip"} & {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("ruin")
def test_a_ruined_quantisation_stops_it_and_leaves_nothing_of_int8(
    ground: Ground, copy_of: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two hold-out images do not show it, the evaluation images do."""
    folder = copy_of()
    config = ground.config(folder, refine="none", gates={})
    options = ["--quiet", "--no-gates", "--no-benchmark", "--refine", "none"]
    options += ["--calibration-images", "8", "--golden-images", "2"]
    for name in ("weights", "images", "labels", "target", "output"):
        options += [f"--{name}", getattr(config, name)]
    for _ in range(2):
        assert main(["deploy", *options]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert "error: the INT8 model is ruined: 0.0 % agreement, " in lines[0]
        assert "on 12 images; it was removed" in lines[0]
        assert "--keep-doubtful" in lines[1]
        assert int8_files(folder) == set()
    assert (folder / "model.onnx").exists()


def test_a_ruined_model_that_is_to_be_kept_is_packed_with_a_warning(
    ground: Ground, copy_of: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "is_ruined", lambda *_: True)
    folder = copy_of()
    kept = run(ground.config(folder, keep_doubtful=True))
    assert any(note.startswith("the INT8 model is ruined: ") for note in kept.result.notes)
    assert int8_files(folder) == {"model.int8.onnx", "bundle.zip"}


def test_what_the_hold_out_images_show_to_be_ruined_is_not_written(
    ground: Ground, copy_of: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Measure, "is_ruined", True)
    folder = copy_of()
    with pytest.raises(VerificationError, match=r"the INT8 model is ruined: .*; nothing was written") as caught:
        run(ground.config(folder, refine="none"))
    assert caught.value.message.startswith("step quantize: ")
    assert int8_files(folder) == set()


def test_a_budget_leaves_the_fewest_layers_in_floating_point(ground: Ground, copy_of: Callable[[], Path]) -> None:
    folder = copy_of()
    before = load_results(folder / "results.json")
    assert len(before.sensitivity) > 20
    assert not before.kept_in_float
    wanted = sorted(layer.sqnr for layer in before.sensitivity)[3]
    finished = run(ground.config(folder, budget={"sqnr": wanted}, calibration_images=6))
    images = json.loads((folder / "images.json").read_text())
    sets = [set(images[name]) for name in ("calibration", "choosing", "evaluation")]
    assert [len(each) for each in sets] == [6, 7, 7]
    assert len(set.union(*sets)) == 20
    assert finished.result.gates[0].name == "budget"
    assert finished.result.gates[0].holds
    results = load_results(folder / "results.json")
    kept = results.kept_in_float
    assert kept
    assert {layer.name for layer in results.layers if layer.kind == "int8"} & set(kept) == set()


def test_a_budget_that_cannot_be_kept_stops_it(ground: Ground, copy_of: Callable[[], Path]) -> None:
    folder = copy_of()
    with pytest.raises(GateError, match=r"budget is logit SQNR .*, required is sqnr=150") as caught:
        run(ground.config(folder, budget={"sqnr": 150.0}))
    assert "ask for less" in str(caught.value.remedy)
    with pytest.raises(UsageError) as refused:
        run(ground.config(folder, budget={"top1": 1.0}, labels=""))
    assert "a budget of top1 needs labels" in refused.value.message


def test_without_labels_accuracy_is_left_out_and_that_is_said(ground: Ground, copy_of: Callable[[], Path]) -> None:
    folder = copy_of()
    finished = run(ground.config(folder, labels=""))
    assert any("accuracy is not measured" in note for note in finished.result.notes)
    results = load_results(folder / "results.json")
    assert all(variant.top1 is None for variant in results.variants)
    assert results.why_missing("accuracy") == "the images have no labels"
    with pytest.raises(GateError, match="top-1 is not measured") as caught:
        run(ground.config(folder, labels="", gates={"top1": 1.0}))
    assert "--labels" in str(caught.value.remedy)


def test_a_module_without_int8_gets_fp16_and_that_is_said(ground: Ground, copy_of: Callable[[], Path]) -> None:
    folder = copy_of()
    finished = run(ground.config(folder, target="nano"))
    assert finished.lines[0] == "note: Jetson Nano has no INT8 instructions: FP16 is deployed instead"
    assert outcomes(finished)["calibrate"] == outcomes(finished)["quantize"] == "left out"
    manifest = verify_bundle(folder / "bundle.zip")
    assert manifest.precision == "fp16"
    assert "models/model.fp16.onnx" not in {item.path for item in manifest.files}
    results = load_results(folder / "results.json")
    assert results.subject.precision == "fp16"
    assert results.subject.title == "GoogLeNet (torchvision), width 0.125"
    assert results.subject.calibration_images == 0
    assert any("has no INT8" in note for note in results.notes)


def test_a_network_that_fp16_does_not_suit_is_deployed_in_int8_with_a_warning(
    ground: Ground, copy_of: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_pipeline, "tolerance_of", lambda *_, **__: 1e-7)
    folder = copy_of()
    (folder / "model.fp16.onnx").unlink()
    config = ground.config(folder)
    made = run(config)
    assert outcomes(made)["fp16"] == outcomes(made)["bundle"] == "done"
    assert any(note.startswith("no FP16 ONNX, since it differs from the float32 model: ") for note in made.result.notes)
    assert not (folder / "model.fp16.onnx").exists()
    results = load_results(folder / "results.json")
    assert [variant.name for variant in results.variants] == ["fp32", "int8"]
    assert "FP16 does not suit the network" in [doubt.name for doubt in results.doubts]
    assert not any(check.name.startswith("FP16") for check in results.checks)
    assert "models/model.fp16.onnx" not in {item.path for item in verify_bundle(folder / "bundle.zip").files}
    with pytest.raises(BadModelError, match="pass fp16: differs from the float32 model") as caught:
        run(replace(config, precision="fp16"))
    assert caught.value.message.startswith("step fp16: ")


def test_fp32_has_nothing_to_be_compared_with(ground: Ground, copy_of: Callable[[], Path]) -> None:
    folder = copy_of()
    finished = run(ground.config(folder, precision="fp32", gates={"top1": 99.0, "agreement": 99.0}))
    assert [gate.name for gate in finished.result.gates] == ["top-1"]
    assert not (folder / "model.int8.onnx").exists()  # of the earlier deployment, whose place this one takes
    assert load_results(folder / "results.json").why_missing("agreement").startswith("FP32 is what")


def test_rtx_is_built_ahead_of_time(ground: Ground, copy_of: Callable[[], Path]) -> None:
    pytest.importorskip("tensorrt_rtx")
    folder = copy_of()
    finished = run(ground.config(folder, target="tensorrt-rtx", compute_capabilities=("8.9",)))
    assert outcomes(finished)["build"] == "done"
    assert outcomes(finished)["bundle"] == "left out"
    assert (folder / "model.engine").stat().st_size > 0
    results = load_results(folder / "results.json")
    assert "has no speed of its own" in results.why_missing("bounds")
    assert results.layers
    assert all(layer.bound_us is None for layer in results.layers)


def test_a_target_without_published_rates_keeps_the_layers(ground: Ground, copy_of: Callable[[], Path]) -> None:
    folder = copy_of()
    run(ground.config(folder, target="jetpack-6.2"))
    results = load_results(folder / "results.json")
    assert results.layers
    assert not results.bounds
    assert "software" in results.why_missing("bounds")


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ("filename,label\nnone.png,class 1\n", "names 1 file missing from"),
        ("filename,label\n00.png,unheard of\n", "label of no single class"),
        ("filename,label\n00.png\n", "row without a label"),
        ("", "contains no labels"),
    ],
)
def test_labels_that_do_not_match_are_refused(ground: Ground, tmp_path: Path, rows: str, match: str) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(rows)
    with pytest.raises(InputError) as caught:
        run(ground.config(tmp_path / "out", labels=str(labels)))
    assert caught.value.message.startswith("step images: ")
    assert match in caught.value.message


def test_an_unknown_target_is_refused_before_anything_is_made(ground: Ground, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown target 'toaster'"):
        run(ground.config(tmp_path / "out", target="toaster"))
    assert not (tmp_path / "out").exists()


def test_images_are_needed(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="contains no images"):
        run(ground.config(tmp_path / "out", images=str(tmp_path / "empty"), labels=""))
    one = shutil.copy(next(ground.images.iterdir()), tmp_path / "empty")
    with pytest.raises(InputError, match="is a file"):
        run(ground.config(tmp_path / "out", images=str(one), labels=""))
    with pytest.raises(InputError, match="too few images"):
        run(ground.config(tmp_path / "out", images=str(tmp_path / "empty"), labels=""))


def test_copies_of_an_image_do_not_stand_on_both_sides(ground: Ground, tmp_path: Path) -> None:
    shutil.copytree(ground.images, tmp_path / "images")
    for path in list((tmp_path / "images").iterdir()):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    config = ground.config(tmp_path / "out", images=str(tmp_path / "images"), labels="")
    (tmp_path / "out").mkdir()
    outcome = DivideImages().run(Job(config, load_target("orin-nano"), quiet=True))
    assert any("20 images that only repeat others" in note for note in outcome.notes)
    assert len(outcome.data["calibration"]) + len(outcome.data["evaluation"]) == 20


def test_a_folder_per_class_gives_the_labels(ground: Ground, tmp_path: Path) -> None:
    for index, path in enumerate(sorted(ground.images.iterdir())):
        folder = tmp_path / "images" / f"class {index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    config = ground.config(tmp_path / "out", images=str(tmp_path / "images"), labels="", evaluation_images=5)
    (tmp_path / "out").mkdir()
    outcome = DivideImages().run(Job(config, load_target("orin-nano"), quiet=True))
    assert len(outcome.data["evaluation"]) == 5
    assert set(outcome.data["labels"].values()) <= {0, 1, 2}


def test_unlabelled_images_calibrate_first(ground: Ground, tmp_path: Path) -> None:
    rows = ground.labels.read_text().splitlines()
    (tmp_path / "labels.csv").write_text("\n".join(rows[:13]) + "\n")
    config = ground.config(tmp_path / "out", labels=str(tmp_path / "labels.csv"))
    (tmp_path / "out").mkdir()
    outcome = DivideImages().run(Job(config, load_target("orin-nano"), quiet=True))
    assert not set(outcome.data["calibration"]) & set(outcome.data["labels"])
    assert len(outcome.data["evaluation"]) == 12


def test_images_that_cannot_be_read_are_counted(ground: Ground, tmp_path: Path, copy_of: Callable[[], Path]) -> None:
    shutil.copytree(ground.images, tmp_path / "images")
    for index in range(6):
        (tmp_path / "images" / f"broken{index}.png").write_bytes(b"\x89PNG broken" + bytes([index]))
    finished = run(ground.config(copy_of(), images=str(tmp_path / "images"), labels=""))
    skipped = [note for note in finished.result.notes if "skipped" in note]
    assert len(skipped) == 6


def test_no_space_leaves_a_clear_error_and_goes_on_later(
    ground: Ground, copy_of: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of()
    DeploymentState(folder).forget("quantize", remove=True)

    def full(*_: object) -> None:
        raise OutputError(folder / "model.int8.onnx", "cannot be written: no space left on device", "free some space")

    monkeypatch.setattr("googlenet_deploy.graph.files.write_bytes", full)
    with pytest.raises(OutputError) as caught:
        run(ground.config(folder))
    assert caught.value.message.startswith("step quantize: ")
    assert "no space left on device" in caught.value.message
    monkeypatch.undo()
    assert outcomes(run(ground.config(folder)))["quantize"] == "done"


def test_two_at_once_do_not_share_a_folder(ground: Ground, copy_of: Callable[[], Path]) -> None:
    config = ground.config(copy_of())
    with pipeline._lock(Path(config.output)), pytest.raises(OutputError, match="another deployment is at work"):
        run(config)


def test_an_output_that_cannot_be_made_is_said(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        run(ground.config(tmp_path / "file" / "out"))


def test_this_machines_latency_is_measured(
    ground: Ground, copy_of: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ROUNDS", 2), ("SECONDS", 0.0), ("WARM_UP", 0.0)):
        monkeypatch.setattr(f"googlenet_deploy.deployment.steps.benchmark.{name}", value)
    folder = copy_of()
    finished = run(ground.config(folder, benchmark=True))
    assert outcomes(finished)[BenchmarkHere.name] == "done"
    results = load_results(folder / "results.json")
    assert {(entry.variant, entry.scope) for entry in results.latencies} >= {("fp32", "run"), ("int8", "end_to_end")}
