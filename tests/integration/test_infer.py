"""The infer command from the command line to the answer."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from googlenet_deploy.cli.main import main

Infer = Callable[..., str]


@pytest.fixture
def infer(colour_model: Path, capsys: pytest.CaptureFixture[str]) -> Infer:
    """Runs the command with the colour classifier and gives what it printed."""

    def run(*arguments: object, model: Path = colour_model, status: int = 0) -> str:
        assert main(["infer", str(model), *map(str, arguments)]) == status
        return capsys.readouterr().out

    return run


def answers(json_lines: str) -> dict[str, str]:
    """Best class of each image, by the file's name."""
    rows = [json.loads(line) for line in json_lines.splitlines()]
    return {Path(row["image"]).name: row["classes"][0]["name"] for row in rows}


EXPECTED = {f"{name}.png": name for name in ("blue", "green", "red")}


def test_table_for_people(infer: Infer, colour_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(colour_images / "red.png", "--top-k", "2").splitlines() == [
        str(colour_images / "red.png"),
        "    99.98%  red (0)",
        "     0.01%  green (1)",
    ]


def test_a_folder_and_what_is_said_of_the_run(
    infer: Infer, colour_model: Path, colour_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (colour_images / "broken.jpg").write_bytes(b"no image")
    (colour_images / "notes.txt").write_text("x", encoding="utf-8")
    assert main(["infer", str(colour_model), str(colour_images), "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert answers(captured.out) == EXPECTED
    assert captured.err.splitlines()[:2] == [
        f"skipped: {colour_images / 'broken.jpg'}: is not an image of a known format",
        f"note: not images: 1 other file in the folders ({colour_images / 'notes.txt'})",
    ]
    assert captured.err.splitlines()[2].startswith("3 images, 1 skipped, ")
    assert re.search(r"images/s, (ONNX Runtime|OpenVINO) \d", captured.err)


def test_json_lines(infer: Infer, colour_images: Path) -> None:
    (row,) = [json.loads(line) for line in infer(colour_images / "blue.png", "--json", "-").splitlines()]
    assert row["image"] == str(colour_images / "blue.png")
    assert [(entry["class"], entry["name"]) for entry in row["classes"]] == [(2, "blue"), (1, "green"), (0, "red")]
    assert sum(entry["probability"] for entry in row["classes"]) == pytest.approx(1, abs=1e-6)


def test_csv(infer: Infer, colour_images: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(infer(colour_images, "--csv", "-", "--top-k", "1"))))
    assert [(Path(row["image"]).stem, row["rank"], row["class"], row["name"]) for row in rows] == [
        ("blue", "1", "2", "blue"),
        ("green", "1", "1", "green"),
        ("red", "1", "0", "red"),
    ]
    assert all(float(row["probability"]) > 0.9 for row in rows)


def test_both_files_at_once_and_nothing_on_stdout(infer: Infer, colour_images: Path, tmp_path: Path) -> None:
    lines, table = tmp_path / "a.jsonl", tmp_path / "new" / "a.csv"
    assert infer(colour_images, "--json", lines, "--csv", table) == ""
    assert answers(lines.read_text(encoding="utf-8")) == EXPECTED
    assert len(table.read_text(encoding="utf-8").splitlines()) == 1 + 3 * 3


@pytest.mark.parametrize("options", [["--batch", "1"], ["--batch", "2", "--workers", "1"], ["--threads", "1"]])
def test_answers_do_not_depend_on_batches_and_threads(options: list[str], infer: Infer, colour_images: Path) -> None:
    assert infer(colour_images, "--json", "-", *options) == infer(colour_images, "--json", "-")


@pytest.mark.parametrize("options", [{"batch": 2}, {"softmax": True}, {"uint8": True}], ids=str)
def test_models_of_every_form_give_the_same_answers(
    options: dict[str, Any], infer: Infer, colour_classifier: Callable[..., Path], colour_images: Path, tmp_path: Path
) -> None:
    other = infer(colour_images, "--csv", "-", model=colour_classifier(tmp_path / "m.onnx", **options))
    assert other == infer(colour_images, "--csv", "-")


def test_patterns_and_several_paths(infer: Infer, colour_images: Path) -> None:
    text = infer(colour_images / "gr*.png", colour_images / "red.png", "--json", "-")
    assert list(answers(text)) == ["green.png", "red.png"]


def test_standard_input(infer: Infer, colour_images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = "\n".join(str(colour_images / f"{name}.png") for name in ("red", "blue"))
    for data, expected in (
        (listing.encode(), ["red", "blue"]),
        ((colour_images / "green.png").read_bytes(), ["green"]),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert list(answers(infer("-", "--json", "-")).values()) == expected


def test_models_of_other_tools_with_options(
    infer: Infer, colour_classifier: Callable[..., Path], colour_images: Path, tmp_path: Path
) -> None:
    foreign = colour_classifier(tmp_path / "m.onnx", metadata=False)
    names = tmp_path / "names.txt"
    names.write_text("RED\nGREEN\nBLUE\n", encoding="utf-8")
    text = infer(colour_images, "--scale", "0.004", "--class-names", names, "--json", "-", model=foreign)
    assert answers(text) == {key: value.upper() for key, value in EXPECTED.items()}
    text = infer(colour_images, "--preprocessing", "imagenet", "--json", "-", model=foreign)
    assert answers(text) == {"blue.png": "2", "green.png": "1", "red.png": "0"}


def test_long_class_names_are_cut_in_the_table_only(
    infer: Infer, colour_classifier: Callable[..., Path], colour_images: Path, tmp_path: Path
) -> None:
    model = colour_classifier(tmp_path / "m.onnx", names=("red" * 20, "green", "blue"))
    red = colour_images / "red.png"
    assert f"99.98%  {('red' * 20)[:37]}... (0)" in infer(red, model=model)
    assert "red" * 20 in infer(red, "--json", "-", model=model)


def test_file_names_that_are_not_text(infer: Infer, colour_images: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        shutil.copy(colour_images / "red.png", tmp_path / name)
    except OSError:
        pytest.skip("this file system has no such names")
    infer(tmp_path / name, "--json", tmp_path / "a.jsonl", "--csv", tmp_path / "a.csv")
    assert answers((tmp_path / "a.jsonl").read_text(encoding="utf-8")) == {name: "red"}


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("P", "png"), ("P", "gif"), ("CMYK", "jpg"), ("RGBA", "png"), ("RGB", "webp")]
)
def test_images_of_every_kind(mode: str, suffix: str, infer: Infer, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (9, 9), (30, 200, 30)).convert(mode).save(path)
    expected = "red" if mode == "L" else "green"  # grey: all equal, and of equal ones the first
    assert answers(infer(path, "--json", "-")) == {path.name: expected}


def test_opencv_gives_the_same_answers(infer: Infer, colour_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    assert answers(infer(colour_images, "--image-backend", "opencv", "--json", "-")) == EXPECTED


def test_no_usable_image_is_a_failure_that_writes_nothing(
    infer: Infer, colour_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    answers = tmp_path / "answers.jsonl"
    answers.write_text("old", encoding="utf-8")
    assert main(["infer", str(colour_model), str(tmp_path / "a.png"), "--json", str(answers)]) == 1
    assert "error: no image could be used (1 skipped)" in capsys.readouterr().err
    assert answers.read_text(encoding="utf-8") == "old"


def test_the_googlenet_of_2018_in_the_onnx_package(infer: Infer, tmp_path: Path) -> None:
    """Opset 9, IR version 3, a fixed batch of one, probabilities of a thousand classes; its weights are constants."""
    import onnx

    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_inception_v1.onnx"
    image = tmp_path / "image.png"
    Image.effect_noise((300, 260), 80).convert("RGB").save(image)
    options = [image, image, "--preprocessing", "bvlc", "--class-names", "imagenet", "--json", "-"]
    first, second = (json.loads(line) for line in infer(*options, model=light).splitlines())
    assert first == second
    assert [entry["probability"] for entry in first["classes"]] == pytest.approx([0.001] * 5, abs=0.02)
    assert all(entry["name"] for entry in first["classes"])


def test_published_weights_know_a_tench(
    bvlc_onnx: Path, sample_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", str(bvlc_onnx), str(sample_images / "n01440764.jpg")]) == 0
    best = capsys.readouterr().out.splitlines()[1]
    assert best.endswith("tench, Tinca tinca (0)")
    assert float(best.split("%")[0]) == pytest.approx(99.97, abs=0.05)


def test_probabilities_are_those_of_onnx_runtime_alone(infer: Infer, colour_model: Path, colour_images: Path) -> None:
    """The whole chain against a few lines of NumPy and onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(colour_model), providers=["CPUExecutionProvider"])
    for line in infer(colour_images, "--json", "-").splitlines():
        row = json.loads(line)
        pixels = np.asarray(Image.open(row["image"]).convert("RGB"), np.float32)[1:9, 2:10] / 255
        (logits,) = session.run(None, {"x": pixels.transpose(2, 0, 1)[np.newaxis]})
        expected = np.exp(logits[0]) / np.exp(logits[0]).sum()
        got = {entry["class"]: entry["probability"] for entry in row["classes"]}
        np.testing.assert_allclose([got[i] for i in range(3)], expected, rtol=1e-5)
