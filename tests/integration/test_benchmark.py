"""The benchmark command from the command line to the JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.benchmark.options import BenchmarkOptions
from googlenet_deploy.device.power.meter import METERS
from googlenet_deploy.device.power.select import open_meter
from googlenet_deploy.errors import DeviceError

QUICK = ("--rounds", "2", "--seconds", "0", "--min-runs", "3", "--warm-up", "0", "--quiet", "--power", "none")
Run = Callable[..., str]


@pytest.fixture
def bench(colour_model: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command briefly and gives what it printed on both streams."""

    def run(*arguments: object, model: Path | None = colour_model, status: int = 0) -> str:
        words = ["benchmark", *([str(model)] if model else []), *map(str, arguments)]
        assert main([*words, *(QUICK if model else ())]) == status
        captured = capsys.readouterr()
        return captured.out + captured.err

    return run


@pytest.fixture
def measured(bench: Run, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the command and gives its JSON file."""

    def run(*arguments: object, **options: Any) -> dict[str, Any]:
        path = tmp_path / "result.json"
        bench(*arguments, "--json", path, **options)
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return result

    return run


def test_the_file_fits_the_schema(measured: Any, repository: Path, colour_images: Path) -> None:
    schema = json.loads((repository / "docs" / "benchmark.schema.json").read_text())
    result = measured("--images", colour_images, "--batch", "1,2", "--streams", "1,2", "--threads", "1")
    jsonschema.Draft202012Validator(schema).validate(result)
    assert result["images"]["kind"] == "real"
    assert result["images"]["count"] == 3
    assert [(part["batch"], part["streams"]) for part in result["configurations"]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert result["backend"]["device"] == "CPU"
    assert result["memory"]["process"]["resident_with_model"] > result["memory"]["process"]["resident_before_model"]


def test_the_table(bench: Run) -> None:
    text = bench()
    for words in ("8 synthetic images", "preprocess", "end to end", "throughput: ", "power: not measured: it was"):
        assert words in text
    assert "Traceback" not in text


def test_without_a_meter_the_reason_is_told(colour_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/sys/class/powercap/intel-rapl:0").exists():
        pytest.skip("this machine has a power meter")
    assert main(["benchmark", str(colour_model), *QUICK[:-2]]) == 0
    assert "power: not measured: the kernel shows no RAPL counters" in capsys.readouterr().out


def test_gates(bench: Run, tmp_path: Path) -> None:
    assert "required" not in bench("--require", "p50=100s,throughput=0.001/s,memory=900GB")
    text = bench("--require", "p50=0.001us,energy=20mJ", "--json", tmp_path / "kept.json", status=3)
    assert "p50 is " in text
    assert "energy=20mJ is required, but was not measured: it was switched off" in text
    assert (tmp_path / "kept.json").exists()


def test_compare(bench: Run, measured: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text(json.dumps(measured()))
    second.write_text(json.dumps(measured("--seed", "1")))
    text = bench("--compare", first, second, "--json", tmp_path / "c.json", model=None)
    assert "run p50, ms" in text
    assert "warning: the images differ" in text
    assert json.loads((tmp_path / "c.json").read_text())["rows"]
    assert "throughput" in bench("--compare", first, first, model=None)


def test_a_comparison_refuses_what_it_cannot_do(bench: Run, measured: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    result = measured()
    first.write_text(json.dumps(result))
    result["machine"]["processor"] = "another"
    second.write_text(json.dumps(result))
    assert "--across-machines" in bench("--compare", first, second, model=None, status=2)
    assert "run p50" in bench("--compare", first, second, "--across-machines", model=None)
    second.write_text("{}")
    assert "is not a result of a benchmark" in bench("--compare", first, second, model=None, status=1)
    assert "no such file" in bench("--compare", first, tmp_path / "gone", model=None, status=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--require", "p99=5"), "is not NAME=NUMBER and a unit"),
        (("--require", "energy=5ms"), "the unit 'ms' is none of"),
        (("--batch", "5000"), "--batch must be from 1 to 4096, is 5000"),
        (("--batch", "2,2"), "names a size twice"),
        (("--streams", "65"), "--streams must be from 1 to 64, is 65"),
        (("--batch", "0"), "--batch must be from 1 to 4096, is 0"),
        (("--streams", "-1"), "--streams must be from 1 to 64, is -1"),
        (("--idle", "1e9"), "--idle"),
    ],
)
def test_absurd_options_before_anything_is_measured(arguments: Any, words: str, bench: Run) -> None:
    assert words in bench(*arguments, status=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--batch", "1,"),
        ("--batch", "one"),
        ("--power-rails", "A,,B"),
    ],
)
def test_what_argparse_refuses(arguments: Any, colour_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["benchmark", str(colour_model), *arguments])
    assert end.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_an_unknown_meter(colour_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", str(colour_model), "--power", "voltmeter"]) == 2
    assert "--power is 'voltmeter', must be one of auto, ina" in capsys.readouterr().err


def test_rails_by_name(measured: Any) -> None:
    assert measured("--power-rails", "VDD_IN, VDD_SOC")["options"]["power_rails"] == ["VDD_IN", "VDD_SOC"]


def test_neither_model_nor_comparison(bench: Run) -> None:
    assert "a MODEL is needed, or --compare A B" in bench(model=None, status=2)


def test_a_comparison_takes_no_model(bench: Run, tmp_path: Path) -> None:
    assert "accepts no MODEL" in bench("--compare", "a", "b", status=2)


def test_zero_images(bench: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no images found" in bench("--images", tmp_path / "empty", status=1)
    assert "no such file or folder" in bench("--images", tmp_path / "gone", status=1)


def test_broken_images_are_counted(bench: Run, colour_images: Path) -> None:
    (colour_images / "a.jpg").write_bytes(b"\xff\xd8\xff")
    assert "3 real images, 1 skipped" in bench("--images", colour_images)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07\x12\x00"])
def test_models_that_are_none(content: bytes, bench: Run, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    text = bench(model=path, status=1)
    assert "broken.onnx: " in text
    assert "Traceback" not in text


def test_a_model_that_breaks_while_it_runs(bench: Run, tmp_path: Path) -> None:
    # Reshape to a size that no batch has: ONNX Runtime finds out only when it runs.
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["input", "size"], ["logits"])],
        "broken",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [helper.make_tensor("size", TensorProto.INT64, [2], np.array([7, 11]))],
    )
    path = tmp_path / "breaks.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    options = ("--preprocessing", "imagenet", "--crop", "8", "--resize", "8", "--backend", "onnxruntime")
    text = bench(*options, model=path, status=1)
    assert "breaks.onnx: ONNX Runtime cannot run it" in text


def test_an_output_that_cannot_be_written(bench: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    text = bench("--json", tmp_path / "folder", status=1)
    assert "cannot be written" in text
    assert "throughput: " in text


@pytest.mark.parametrize("name", METERS)
def test_every_meter_that_is_offered_is_known(name: str) -> None:
    with suppress(DeviceError):  # this machine may lack it; an unknown name would be a UsageError
        open_meter(BenchmarkOptions(power=name).power)
