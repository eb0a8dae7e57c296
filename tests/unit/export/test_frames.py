"""A model that takes frames: what is verified, what is stored, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mini_googlenet import SPECIFICATION, build_mini
from PIL import Image
from small_models import small_model, write_small_model

from googlenet_deploy.calibration.calibrate import open_source
from googlenet_deploy.cli.main import main
from googlenet_deploy.device.classifier import Classifier
from googlenet_deploy.device.hosts import find_host, host_input
from googlenet_deploy.device.onnx_model.header import read_onnx
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.errors import BadModelError, UsageError
from googlenet_deploy.export import frames as module
from googlenet_deploy.export.half_precision.types import FP16
from googlenet_deploy.export.options import ExportOptions, HalfOptions
from googlenet_deploy.export.passes import frame_input
from googlenet_deploy.export.pipeline import ExportResult, export_onnx
from googlenet_deploy.export.samples import seeded_samples, smooth_pictures
from googlenet_deploy.graph.files import write_model

FRAME = (90, 160)


@pytest.fixture(scope="module")
def export_mini(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ExportResult]:
    """Exports the small GoogLeNet of the tests of calibration, whose images are 16 x 16 and BGR."""
    model = build_mini()
    path = tmp_path_factory.mktemp("mini") / "mini.onnx"
    write_model(path, model)

    def export(**options: Any) -> ExportResult:
        return export_onnx(path, model, ExportOptions(simplify=False, **options), seeded_samples(SPECIFICATION, 2))

    return export


@pytest.fixture(scope="module")
def exported(export_mini: Callable[..., ExportResult]) -> ExportResult:
    return export_mini(frame_input=FRAME)


def test_metadata_says_what_the_model_takes(exported: Any) -> None:
    spec = exported.metadata.preprocessing
    assert (spec.frame, spec.input_shape, spec.channels, spec.dtype) == (FRAME, (90, 160, 3), "RGB", "uint8")
    assert (spec.resize, spec.crop) == (16, (16, 16)), "what the graph does"
    stored = {entry.key.partition(".")[2]: entry.value for entry in exported.model.metadata_props}
    found = json.loads(stored["frame_input"])
    assert found["resize"] == "fp32"
    assert found["largest_steps"] <= 1
    assert 0 < found["mean_steps"] < 0.3
    assert "frame-input" in json.loads(stored["passes"])
    last = json.loads(stored["verification"])[-1]
    assert last["same_class"] + last["ties"] == last["images"] == 8
    assert any("steps on average" in note for note in exported.notes)


def test_the_command_the_classifier_and_the_cpus_path_agree(
    exported: Any, export_mini: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    framed, plain = tmp_path / "framed.onnx", tmp_path / "plain.onnx"
    write_model(framed, exported.model)
    write_model(plain, build_mini())
    picture = smooth_pictures(1, FRAME, 3, seed=6)[0]
    Image.fromarray(picture).save(tmp_path / "frame.png")
    Image.fromarray(picture).resize((130, 90)).save(tmp_path / "photo.png")
    with Classifier(framed) as ours, Classifier(plain) as theirs:
        assert ours(picture).best.name == theirs(picture).best.name
        assert ours(picture).best.value == pytest.approx(theirs(picture).best.value, abs=0.02)
        assert not [note for note in ours.notes if "resized" in note]
        photo = str(tmp_path / "photo.png")  # resized twice on its way to a net that nobody trained
        assert ours(photo).best.value == pytest.approx(theirs(photo).best.value, abs=0.02)
        assert [note for note in ours.notes if "90 x 160" in note and "resized" in note]
    assert main(["infer", str(framed), str(tmp_path / "frame.png"), str(tmp_path / "photo.png"), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert "note: the model accepts RGB frames of 90 x 160" in printed.err
    assert "note: resized 1 frame, the first of 90 x 130, to the 90 x 160 that the model accepts" in printed.err
    assert main(["infer", str(framed), str(tmp_path / "frame.png"), "--mean", "0,0,0", "--quiet"]) != 0
    assert "would change nothing" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"top_k": 3, "batch": 2}, {"softmax": True, "frame_format": "nv12"}])
def test_other_outputs_and_formats(export_mini: Any, options: dict[str, Any]) -> None:
    result = export_mini(frame_input=FRAME, **options)
    assert result.comparisons[-1].holds
    assert "resized by the CPU" in result.comparisons[-1].against
    wanted = (135, 160, 1) if "frame_format" in options else (90, 160, 3)
    assert result.metadata.preprocessing.input_shape == wanted


def test_a_wrong_resize_is_refused(export_mini: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = frame_input.resize_matrices

    def moved(frames: Any) -> Any:
        matrices = right(frames)
        return frame_input.ResizeMatrices(np.roll(matrices.rows, 1, axis=1), matrices.columns, matrices.bars)

    monkeypatch.setattr(frame_input, "resize_matrices", moved)
    with pytest.raises(BadModelError, match="the resize in the graph is not the CPU's: pixels differ"):
        export_mini(frame_input=(91, 160))


def test_fp16_matrices_only_within_a_step(export_mini: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = export_mini(frame_input=(45, 80), half=HalfOptions(FP16))
    kinds = {tensor.name: tensor.data_type for tensor in result.model.graph.initializer if "/frame/rows" in tensor.name}
    assert set(kinds.values()) == {10}
    found: list[Any] = []
    judge = module.PixelDifference.holds.fget

    def strict(difference: Any) -> bool:
        found.append(difference)
        return len(found) > 1 and judge(difference)

    monkeypatch.setattr(module.PixelDifference, "holds", property(strict))
    result = export_mini(frame_input=(45, 82), half=HalfOptions(FP16))
    kinds = {tensor.name: tensor.data_type for tensor in result.model.graph.initializer if "/frame/rows" in tensor.name}
    assert set(kinds.values()) == {1}
    assert any(note.startswith("the resize of frames stays in FP32") for note in result.notes)


def test_a_repeat_gives_the_same_bytes(exported: Any, export_mini: Any) -> None:
    again = export_mini(frame_input=FRAME)
    assert again.model.SerializeToString(deterministic=True) == exported.model.SerializeToString(deterministic=True)


def test_options_that_contradict_each_other(export_mini: Any) -> None:
    with pytest.raises(UsageError, match="normalises inside already"):
        ExportOptions(frame_input=FRAME, uint8_input=True)
    with pytest.raises(UsageError, match="--frame-format belongs to --frame-input"):
        ExportOptions(frame_format="nv12")
    with pytest.raises(UsageError, match="even sides"):
        export_mini(frame_input=(45, 80), frame_format="nv12")
    with pytest.raises(UsageError, match="carries its preprocessing"):
        module.frame_specification(None, FRAME, "rgb")


@pytest.mark.parametrize("text", ["1080", "1080x", "axb", "-1x5"])
def test_frames_are_height_x_width(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["export", "--onnx", "m.onnx", "--output", "o.onnx", f"--frame-input={text}"])
    assert caught.value.code == 2
    assert "is not HEIGHTxWIDTH" in capsys.readouterr().err


def test_frames_come_last(exported: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "framed.onnx"
    write_model(path, exported.model)
    assert read_onnx(path).metadata.preprocessing.frame == FRAME
    with pytest.raises(BadModelError, match="resizes frames inside, which must stay out of INT8") as caught:
        open_source(path)
    assert "export --onnx FILE --frame-input" in str(caught.value.remedy)
    command = ["build", str(path), "--target", "tensorrt-8.5", "--precision", "int8", "--dry-run"]
    assert main(command) == 1
    assert "INT8 without Q/DQ nodes would take in the resize" in capsys.readouterr().err
    assert main(["export", "--onnx", str(path), "--output", str(tmp_path / "x.onnx"), "--frame-input", "90x160"]) == 2
    assert "accepts RGB frames of 90 x 160 (height x width) already" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"imagenet program|jetson-inference"):
        host_input(find_host("jetson-inference"), exported.metadata.preprocessing)


def test_a_quantised_model_gets_frames_in_front(tmp_path: Path) -> None:
    path = tmp_path / "q.onnx"
    write_small_model(path, "qdq")
    assert small_model("qdq").graph.node[0].op_type == "QuantizeLinear"
    command = ["export", "--onnx", str(path), "--output", str(tmp_path / "f.onnx"), "--frame-input", "18x32", "--quiet"]
    assert main(command) == 0
    header = read_onnx(tmp_path / "f.onnx")
    assert header.quantized
    spec = header.metadata.preprocessing
    assert spec.frame == (18, 32)
    assert preprocess(Image.new("RGB", (32, 18), (1, 2, 3)), spec)[5, 6].tolist() == [1, 2, 3]
