"""The command `bundle`, as a user types it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.onnx_model.header import read_onnx
from googlenet_deploy.graph.files import load_model, write_model
from googlenet_deploy.packaging.content import verify_bundle
from tests.unit.packaging.conftest import NAMES, SPECIFICATION, Classifier, changed_byte


def options(classifier: Classifier, *more: str) -> list[str]:
    images = str(classifier.folder / "images")
    return ["bundle", "--int8", str(classifier.int8), "--fp32", str(classifier.fp32), "--images", images, *more]


def test_packs_verifies_and_unpacks_for_a_jetson(
    classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle.zip"
    more = ("--kind", "jetson", "--target", "xavier-nx", "--batch", "2", "--table", str(classifier.table))
    assert main(options(classifier, *more, "--output", str(bundle))) == 0
    assert main(["bundle", "--verify", str(bundle)]) == 0
    assert main(["bundle", "--unpack", str(bundle), "--output", str(tmp_path / "folder")]) == 0
    assert main(["bundle", "--verify", str(tmp_path / "folder")]) == 0
    out = capsys.readouterr().out
    assert "jetson bundle for xavier-nx, INT8" in out
    assert "was verified and unpacked" in out
    assert "--batch 2,2,2" in (tmp_path / "folder/build.sh").read_text()
    changed_byte(tmp_path / "folder/models/model.onnx")
    assert main(["bundle", "--verify", str(tmp_path / "folder")]) == 1
    assert "models/model.onnx was altered" in capsys.readouterr().err


def test_packs_for_triton(classifier: Classifier, tmp_path: Path) -> None:
    more = ("--kind", "triton", "--name", "birds", "--max-batch", "4", "--precision", "fp32")
    assert main(options(classifier, *more, "--output", str(tmp_path / "triton"))) == 0
    assert verify_bundle(tmp_path / "triton").precision == "fp32"
    config = (tmp_path / "triton/model_repository/birds/config.pbtxt").read_text(encoding="utf-8")
    assert "max_batch_size: 4" in config


def test_packs_for_deepstream(classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--kind", "deepstream", "--target", "jetpack-6.2", "--table", str(classifier.table), "--frame", "640x480")
    assert main(options(classifier, *more, "--output", str(tmp_path / "ds"))) == 0
    assert verify_bundle(tmp_path / "ds").precision == "int8"
    assert "semicolon" in capsys.readouterr().err
    assert main(options(classifier, *more[:4], "--streams", "3", "--output", str(tmp_path / "ds"))) == 0
    assert "network-mode=2" in (tmp_path / "ds/config_infer_primary.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--kind", "jetson", "--output", "x"], "needs --target"),
        (["--kind", "jetson", "--target", "orin-nano"], "no output is given"),
        (["--kind", "jetson", "--target", "toaster", "--output", "x"], "unknown target 'toaster'"),
        (["--kind", "jetson", "--target", "orin-nano", "--output", "x"], "no model to pack"),
        (["--kind", "jetson", "--target", "orin-nano", "--fp32", "m.onnx", "--output", "x"], "needs --images"),
        (["--kind", "triton", "--output", "x"], "no model to pack"),
        (["--kind", "deepstream", "--output", "x"], "needs --fp32"),
        (["--unpack", "x.zip"], "no output is given"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], match: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", *arguments]) == 2
    assert match in capsys.readouterr().err


def test_int8_on_a_module_without_it_is_refused_with_advice(
    classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--kind", "jetson", "--target", "nano", "--output", str(tmp_path / "x"))
    assert main(options(classifier, *more)) == 2
    assert "pass --precision fp16" in capsys.readouterr().err


@pytest.mark.parametrize("frame", ["1920", "0x5", "axb"])
def test_a_frame_is_width_by_height(frame: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bundle", "--kind", "deepstream", "--frame", frame])
    assert caught.value.code == 2


def test_one_task_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bundle"])
    assert "--device-only" in capsys.readouterr().err


def test_a_bundle_from_a_newer_version_is_refused(
    jetson_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(jetson_folder, tmp_path / "bundle"))
    text = (folder / "manifest.json").read_text().replace('"version": 1', '"version": 7')
    (folder / "manifest.json").write_text(text)
    assert main(["bundle", "--verify", str(folder)]) == 1
    assert "update googlenet-deploy" in capsys.readouterr().err


def bare(classifier: Classifier, path: Path) -> Path:
    """The classifier as another tool would write it: without a word about images and classes."""
    model = load_model(classifier.fp32)
    del model.metadata_props[:]
    write_model(path, model)
    return path


OTHERS = ["--scale", "0.003921568627450980", "--mean", "0.4,0.5,0.6", "--std", "0.5,0.25,0.75", "--resize", "72"]


@pytest.mark.parametrize(
    "kind",
    [["jetson", "--target", "orin-nano"], ["triton"], ["deepstream", "--target", "jetpack-6.2"], ["jetson-inference"]],
)
def test_models_of_other_tools_are_packed(
    classifier: Classifier, tmp_path: Path, kind: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    model = bare(classifier, tmp_path / "other.onnx")
    images = ["--images", str(classifier.folder / "images")]
    command = ["bundle", "--kind", *kind, "--fp32", str(model), *images, "--output", str(tmp_path / "b")]
    assert main(command) == 1
    assert "pass --preprocessing" in capsys.readouterr().err
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{name}\n" for name in NAMES), encoding="utf-8")
    assert main([*command, *OTHERS, "--class-names", str(names)]) == 0
    assert verify_bundle(tmp_path / "b").precision in ("fp32", "fp16")
    (packed,) = list((tmp_path / "b").rglob("*.onnx"))
    metadata = read_onnx(packed).metadata
    assert metadata.preprocessing is not None
    assert metadata.class_names == NAMES
    if kind[0] in ("jetson", "triton"):
        assert metadata.preprocessing == SPECIFICATION


def test_what_is_said_of_a_model_has_to_fit(
    classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bare(classifier, tmp_path / "other.onnx")
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    command = ["bundle", "--kind", "triton", "--fp32", str(model), "--images", str(classifier.folder / "images")]
    command += ["--output", str(tmp_path / "b"), "--preprocessing", "imagenet"]
    assert main([*command, "--class-names", str(tmp_path / "two.txt")]) != 0
    assert "2" in capsys.readouterr().err
    assert main([*command, "--table", str(classifier.table)]) == 2
    assert "store it first" in capsys.readouterr().err
    assert main(["bundle", "--verify", "x", "--preprocessing", "imagenet"]) == 2
    assert not (tmp_path / "b").exists()


def test_export_stores_what_is_said_of_a_model(classifier: Classifier, tmp_path: Path) -> None:
    model, output = bare(classifier, tmp_path / "other.onnx"), tmp_path / "known.onnx"
    assert main(["export", "--onnx", str(model), "--no-simplify", "--output", str(output), *OTHERS]) == 0
    assert read_onnx(output).metadata.preprocessing == SPECIFICATION
    assert main(["export", "--weights", "bvlc", "--output", str(output), "--preprocessing", "imagenet"]) == 2
