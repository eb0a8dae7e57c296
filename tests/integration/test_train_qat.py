"""`train --qat` from a checkpoint to an INT8 model, on textures drawn in the test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from made_once import made_once
from PIL import Image

from googlenet_deploy.analysis.sparsity import layer_sparsity
from googlenet_deploy.cli.main import main
from googlenet_deploy.graph.files import load_model, read_metadata
from googlenet_deploy.quantization.lint import lint_model

SIZE = 32


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of forty images: stripes one way, the other way, and both."""
    root = tmp_path_factory.mktemp("stripes") / "data"
    generator = np.random.default_rng(0)
    for name in ("columns", "rows", "squares"):
        (root / name).mkdir(parents=True)
        for index in range(40):
            x, y = (np.sin(2 * np.pi * (np.arange(SIZE) / generator.uniform(5, 8) + generator.uniform())) for _ in "xy")
            waves = {"columns": x[np.newaxis, :], "rows": y[:, np.newaxis], "squares": np.outer(y, x)}[name]
            grey = 128 + 90 * np.broadcast_to(waves, (SIZE, SIZE)) + generator.normal(0, 10, (SIZE, SIZE))
            Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(root / name / f"{index:03d}.png")
    return root


@pytest.fixture(scope="module")
def float_model(stripes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FP32 model that tells them apart; its calibration table lies beside it."""
    return (
        made_once(tmp_path_factory, "float-model", lambda folder: learn_and_calibrate(stripes, folder)) / "model.onnx"
    )


def learn_and_calibrate(stripes: Path, folder: Path) -> None:
    weights, model = str(folder / "w.safetensors"), folder / "model.onnx"
    small = ["--width", "0.125", "--input-size", str(SIZE), "--batch-size", "16", "--workers", "1"]
    learn = ["--augmentation", "light", "--epochs", "12", "--quiet"]
    assert main(["train", "--data", str(stripes), "--output", weights, *small, *learn]) == 0
    assert main(["export", "--weights", weights, "--output", str(model), "--quiet"]) == 0
    table = str(model.with_suffix(".json"))
    calibration = ["--images", str(stripes), "--count", "24", "--output", table, "--quiet"]
    assert main(["calibrate", str(model), *calibration]) == 0


def qat(model: Path, data: Path, output: Path, *options: str) -> int:
    table = str(model.with_suffix(".json"))
    files = ["--qat", str(model), "--table", table, "--data", str(data), "--output", str(output)]
    start = [] if "--refine" in options else ["--refine", "none"]  # which saves half a minute of learned rounding
    fixed = ["--batch-size", "16", "--workers", "1", "--augmentation", "none"]
    return main(["train", *files, *fixed, *start, *options])


def test_from_a_float_model_to_a_checked_int8_model(
    float_model: Path, stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, report = tmp_path / "model.int8.onnx", tmp_path / "r.json"
    assert qat(float_model, stripes, output, "--epochs", "2", "--json", str(report), "--refine", "best") == 0
    out, err = capsys.readouterr()
    assert "quantisation-aware: 58 layers" in err
    assert "before training:" in err
    assert "INT8 as calibrated" in out
    model = load_model(output)
    assert lint_model(model) == []
    metadata = read_metadata(output, model)
    assert metadata.class_names == ("columns", "rows", "squares")
    steps = json.loads(metadata.extra["quantization"])["steps"]
    assert "learned scales" in steps["quantisation-aware training"]
    record = json.loads(metadata.extra["quantization_training"])
    assert record["options"]["qat"] == {"scales": "learned", "refine": "weight-scales,rounding"}
    assert record["options"]["distillation"] == 0.5
    assert "learned rounding" in steps
    values = json.loads(report.read_text())
    assert values["fp32"]["top1_percent"] >= 90
    assert {"logit_sqnr_db", "agreement"} <= set(values["validation"])
    assert {path.name for path in tmp_path.iterdir()} == {"model.int8.onnx", "model.int8.last.onnx", "r.json"}


def test_the_accuracy_that_is_told_is_that_of_the_written_model(
    float_model: Path, stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On all images: the validation images as the data set, measured by `evaluate` in ONNX Runtime."""
    held_out = tmp_path / "val"
    for name in ("columns", "rows", "squares"):
        (held_out / name).mkdir(parents=True)
        for path in sorted((stripes / name).iterdir())[:10]:
            shutil.copy(path, held_out / name)
    output, report, evaluation = (tmp_path / name for name in ("m.onnx", "r.json", "e.json"))
    files = ("--validation", str(held_out), "--json", str(report), "--quiet")
    assert qat(float_model, stripes, output, "--epochs", "1", *files) == 0
    assert main(["evaluate", str(output), "--images", str(held_out), "--json", str(evaluation)]) == 0
    told = json.loads(report.read_text())["validation"]
    assert told["images"] == 30
    session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    assert [value.shape[1] for value in session.get_outputs()] == [3]
    measured = json.loads(evaluation.read_text())
    assert abs(measured["figures"]["top1"] - told["top1_percent"]) <= 100 / 30 + 0.1


def test_learning_from_the_float_model_alone_needs_no_right_labels(
    float_model: Path, stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--distillation", "1", "--scales", "fixed", "--epochs", "2")
    assert qat(float_model, stripes, tmp_path / "m.onnx", *options) == 0
    err = capsys.readouterr().err
    assert "fixed scales, learns from the FP32 network" in err


def test_offset_activations_are_kept(
    float_model: Path, stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, report = tmp_path / "m.onnx", tmp_path / "r.json"
    options = ("--refine", "offset,bias", "--distillation", "1", "--epochs", "2", "--json", str(report))
    assert qat(float_model, stripes, output, *options) == 0
    err = capsys.readouterr().err
    assert "offset activations: 25 of 45 quantised tensors, bias correction: 58 layers" in err
    model = load_model(output)
    assert lint_model(model) == []
    assert sum(node.op_type == "Clip" for node in model.graph.node) > 10
    values = json.loads(report.read_text())
    assert values["validation"]["logit_sqnr_db"] > values["before_training"]["logit_sqnr_db"] - 1


def test_a_run_that_goes_on_ends_in_the_same_bytes(
    float_model: Path, stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from googlenet_deploy.training import run as session

    whole, output = tmp_path / "whole.onnx", tmp_path / "m.onnx"
    options = ("--epochs", "2", "--quiet")
    assert qat(float_model, stripes, whole, *options) == 0
    original = session.save_state

    def interrupted(path: Path, state: object) -> None:
        original(path, state)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session, "save_state", interrupted)
        assert qat(float_model, stripes, output, *options, "--save-every", "3") == 130
    assert output.with_suffix(".state.safetensors").exists()
    assert qat(float_model, stripes, output, *options, "--save-every", "3", "--resume") == 0
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "bvlc"], "--weights has no meaning with --qat"),
        (["--freeze", "trunk"], "--freeze has no meaning with --qat"),
        (["--dropout", "0.1"], "--dropout has no meaning with --qat"),
        (["--distillation", "2"], "--distillation must be from 0 to 1"),
        (["--scales", "maybe"], "--scales is 'maybe'"),
        (["--refine", "magic"], "unknown refinement 'magic'"),
        (["--refine", "equalize"], "--refine equalize changes the FP32 model"),
        (["--output", "m.safetensors"], "an INT8 model's name ends in .onnx"),
        (["--exclude", "conv9"], "there is no node named 'conv9'"),
    ],
)
def test_wrong_usage(
    float_model: Path,
    stripes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert qat(float_model, stripes, tmp_path / "m.onnx", *options) == 2
    assert message in capsys.readouterr().err


def test_a_table_is_needed_and_must_be_the_models(
    float_model: Path, stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["train", "--data", str(stripes), "--output", str(tmp_path / "m.onnx")]
    assert main([*files, "--qat", str(float_model)]) == 2
    assert "--qat needs --table" in capsys.readouterr().err
    assert main([*files, "--table", "t.json"]) == 2
    assert "--table belongs to --qat" in capsys.readouterr().err
    assert main([*files, "--refine", "best"]) == 2
    assert "--refine belongs to --qat" in capsys.readouterr().err
    other = tmp_path / "model.onnx"
    other.write_bytes(float_model.read_bytes() + b"\x32\x01x")  # a doc_string
    shutil.copy(float_model.with_suffix(".json"), other.with_suffix(".json"))
    assert qat(other, stripes, tmp_path / "m.onnx") == 1
    assert "made from another model" in capsys.readouterr().err or not other.exists()


def test_images_of_classes_that_the_model_does_not_have(
    float_model: Path, stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(stripes, data)
    (data / "rows").rename(data / "lines")
    assert qat(float_model, data, tmp_path / "m.onnx") == 1
    assert "has classes that the model does not have: lines" in capsys.readouterr().err


def test_some_of_the_models_classes_suffice(
    float_model: Path, stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(stripes, data)
    shutil.rmtree(data / "rows")
    assert qat(float_model, data, tmp_path / "m.onnx", "--epochs", "1") == 0
    assert "1 of the model's 3 classes have no images" in capsys.readouterr().err


def test_half_of_the_weights_stay_zero_from_pruning_to_int8(
    float_model: Path, stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dense, weights = str(float_model.with_name("w.safetensors")), str(tmp_path / "sparse.safetensors")
    tune = ["--weights", dense, "--sparsity", "2:4", "--augmentation", "light", "--epochs", "1", "--batch-size", "16"]
    assert main(["train", "--data", str(stripes), "--output", weights, "--workers", "1", *tune]) == 0
    assert "2:4 sparsity: half of the weights in" in capsys.readouterr().err
    model, quantised, trained = (tmp_path / name for name in ("sparse.onnx", "int8.onnx", "qat.onnx"))
    assert main(["export", "--weights", weights, "--output", str(model), "--quiet"]) == 0
    table = str(model.with_suffix(".json"))
    assert main(["calibrate", str(model), "--images", str(stripes), "--count", "24", "--output", table]) == 0
    assert main(["quantize", str(model), "--table", table, "--output", str(quantised)]) == 0
    assert qat(model, stripes, trained, "--epochs", "1") == 0
    expected = [layer.holds for layer in layer_sparsity(load_model(model))]
    assert sum(expected) > 30
    for path in (quantised, trained):
        assert [layer.holds for layer in layer_sparsity(load_model(path))] == expected
        capsys.readouterr()
        assert main(["inspect", str(path), "--totals"]) == 0
        assert f"2:4 pattern in {sum(expected)} of {len(expected)} layers" in capsys.readouterr().out


def test_a_dense_model_is_pruned_and_quantised_at_once(float_model: Path, stripes: Path, tmp_path: Path) -> None:
    output = tmp_path / "sparse.int8.onnx"
    assert qat(float_model, stripes, output, "--epochs", "1", "--sparsity", "2:4") == 0
    assert all(layer.holds for layer in layer_sparsity(load_model(output)) if layer.fits)


def test_images_that_cannot_be_read_are_said_by_the_data_sets_name(
    float_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("columns", "rows", "squares"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(4):
            (tmp_path / "data" / name / f"{index}.png").write_bytes(b"no image")
    assert qat(float_model, tmp_path / "data", tmp_path / "m.onnx", "--refine", "fast") == 1
    message = f"error: {tmp_path / 'data'}: of its training images none can be used for refinements"
    assert message in capsys.readouterr().err
