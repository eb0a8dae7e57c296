"""The inspect command on networks of PyTorch and on ONNX files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from googlenet_deploy.cli.main import main

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_inception_v1.onnx"
Inspect = Callable[..., str]


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]) -> Inspect:
    """Runs the command, which must say nothing on stderr, and gives what it printed."""

    def run(*arguments: object) -> str:
        assert main(["inspect", *map(str, arguments)]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return run


def numbers(text: str, row: str) -> list[str]:
    """The words of the one line that begins with `row`."""
    (line,) = [line for line in text.splitlines() if re.match(rf"\s*{re.escape(row)}\s", line)]
    return line.split()


@pytest.mark.parametrize(
    ("model", "parameters", "multiply_adds"),
    [("bvlc", "6,998,552", "1,582,671,872"), ("torchvision", "6,624,904", "1,498,376,192")],
)
def test_both_networks(model: str, parameters: str, multiply_adds: str, inspect: Inspect) -> None:
    text = inspect("--model", model)
    assert text.startswith(f"GoogLeNet {model}, 1000 classes, input 224x224, one image, activations in float32\n")
    assert numbers(text, "parameters")[1] == parameters
    assert numbers(text, "multiply-adds")[1] == multiply_adds
    assert numbers(text, "inception3a")[2] == "256x28x28"
    assert len(text.splitlines()) < 30


def test_every_layer(inspect: Inspect) -> None:
    text = inspect("--model", "bvlc", "--by-layer")
    assert numbers(text, "inception3a.branch1")[1:6] == ["convolution", "1x1/1", "64x28x28", "12,352", "9,633,792"]
    assert len(text.splitlines()) > 70


def test_other_classes_and_sizes(inspect: Inspect) -> None:
    text = inspect("--model", "bvlc", "--classes", 10, "--input-size", 64)
    assert "10 classes, input 64x64" in text
    assert numbers(text, "fc")[3] == "10,250"


def test_network_as_json(inspect: Inspect, tmp_path: Path) -> None:
    inspect("--model", "torchvision", "--json", tmp_path / "t.json")
    values = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert values["parameters"] == 6_624_904 == sum(layer["parameters"] for layer in values["layers"])
    assert values["multiply_adds"] == sum(layer["multiply_adds"] for layer in values["layers"])
    assert values["peak_live_bytes"] == max(layer["live_bytes"] for layer in values["layers"])
    assert values["input_size"] == 224


def test_published_weights(bvlc_weights: Path, inspect: Inspect) -> None:
    text = inspect("--weights", bvlc_weights)
    assert text.startswith(f"{bvlc_weights}: GoogLeNet bvlc, 1000 classes, input 224x224")


def test_an_onnx_file(colour_model: Path, inspect: Inspect, tmp_path: Path) -> None:
    text = inspect(colour_model, "--json", tmp_path / "m.json", "--batch", 4)
    assert f"{colour_model}: opset 17, IR version 8" in text
    assert numbers(text, "fc")[:6] == ["fc", "Gemm", "4x3", "float32", "9", "36"]
    assert "at batch 4:" in text
    assert "class_names" in text
    values = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert values["totals"]["parameters"] == 9
    assert [layer["operator"] for layer in values["layers"]] == ["GlobalAveragePool", "Flatten", "Gemm"]


def test_totals_alone(colour_model: Path, inspect: Inspect) -> None:
    text = inspect(colour_model, "--totals")
    assert "Gemm" in text.splitlines()[3]
    assert not re.search(r"^fc\s", text, re.MULTILINE)


def test_the_googlenet_of_2018_in_the_onnx_package(inspect: Inspect) -> None:
    text = inspect(LIGHT)
    assert "opset 9, IR version 3" in text
    assert numbers(text, "parameters")[1] == "6,998,552"
    assert numbers(text, "multiply-adds")[1] == "1,431,556,352"  # its pools round down: 55, 27, 13 and 6 pixels


@pytest.mark.parametrize(
    "arguments", [[], ["m.onnx", "--model", "bvlc"], ["--model", "bvlc", "--weights", "w"]], ids=["none", "two", "both"]
)
def test_exactly_one_thing_is_inspected(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *arguments]) == 2
    assert "accepts exactly one of MODEL, --model and --weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["m.onnx", "--by-layer"], "--by-layer is for --model and --weights"),
        (["m.onnx", "--input-size", "64"], "--input-size is for --model and --weights"),
        (["--model", "bvlc", "--totals"], "--totals is for a file"),
        (["--model", "bvlc", "--batch", "4"], "--batch is for a file"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_nonsense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--model", "bvlc", "--input-size", "8"]) == 2
    assert "at least 32" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["inspect", "--model", "alexnet"])
