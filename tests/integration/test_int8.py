"""calibrate, quantize and the diagnosis of evaluate from the command line, and everything that can be wrong with
their input.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
from mini_googlenet import CLASSES, SIZE, SPECIFICATION, build_mini
from onnx import helper, numpy_helper
from PIL import Image

from googlenet_deploy.calibration.collect import Collector
from googlenet_deploy.calibration.table import CalibrationTable
from googlenet_deploy.calibration.tensorrt_cache import load_cache
from googlenet_deploy.cli.main import main
from googlenet_deploy.device.images.pipeline import ImageBatches
from googlenet_deploy.device.images.sources import find_images
from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner
from googlenet_deploy.errors import OutputError
from googlenet_deploy.export.samples import smooth_pictures
from googlenet_deploy.graph.files import write_model

Run = Callable[..., tuple[str, str]]
LAYERS = 16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GoogLeNet in small, with random weights."""
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    write_model(path, build_mini())
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty seeded pictures."""
    folder = tmp_path_factory.mktemp("images")
    for index, pixels in enumerate(smooth_pictures(60, (20, 24), 3, seed=3)):
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture(scope="module")
def labels(model: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FP32 model's own answers as labels."""
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    with OnnxRuntimeRunner(model) as runner, path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        for batch in ImageBatches(find_images([images]).images, SPECIFICATION, 10):
            answers = runner.run(batch.array)["logits"].argmax(axis=1)
            writer.writerows((Path(name).name, int(best)) for name, best in zip(batch.names, answers, strict=True))
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command, checks its exit status, and gives stdout and stderr; never with a traceback."""

    def command(*arguments: object, status: int = 0) -> tuple[str, str]:
        assert main([str(word) for word in arguments]) == status, capsys.readouterr().err
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return captured.out, captured.err

    return command


@pytest.fixture(scope="module")
def quantised(model: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The INT8 model and its table, calibrated on forty of the pictures."""
    folder = tmp_path_factory.mktemp("quantised")
    result, table = folder / "int8.onnx", folder / "table.json"
    command = ["quantize", model, "--images", images, "--count", "40", "--output", result, "--save-table", table]
    assert main([str(word) for word in (*command, "--quiet")]) == 0
    return result, table


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


class TestCalibrate:
    """From images to a table."""

    def test_a_table_and_a_cache(self, run: Run, model: Path, images: Path, tmp_path: Path) -> None:
        table, cache = tmp_path / "t.json", tmp_path / "t.cache"
        out, err = run(
            "calibrate", model, "--images", images, "--count", "8", "--output", table,
            "--cache", cache, "--tensorrt-version", "8.5.2", "--quiet",
        )  # fmt: skip
        assert "calibrated on 8 images, 0 skipped; method auto" in out
        assert f"table: {table}" in out
        assert "only 8 calibration images" in err
        assert "export with --batch N" in err
        assert load_cache(cache).number == 8502
        values = json.loads(table.read_text())
        assert values["images"]["count"] == len(values["images"]["contents"]) == 8

    def test_ctrl_c_keeps_the_counts_and_the_same_command_goes_on(
        self, run: Run, model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        state, first, second = tmp_path / "state", tmp_path / "first.json", tmp_path / "second.json"
        command = ["calibrate", model, "--images", images, "--count", "9", "--quiet"]
        run(*command, "--output", first)
        real, calls = Collector.add, iter(range(100))

        def interrupted(collector: Collector, *arguments: object) -> None:
            if next(calls) == 2:
                raise KeyboardInterrupt
            real(collector, *arguments)  # type: ignore[arg-type]

        with mock.patch.object(Collector, "add", interrupted):
            _, err = run(*command, "--output", second, "--resume", state, status=130)
        assert f"what was counted is in {state}; the same command resumes from it" in err
        assert state.exists()
        assert not second.exists()
        run(*command, "--output", second, "--resume", state)
        assert second.read_bytes() == first.read_bytes()
        assert not state.exists()

    def test_a_table_that_cannot_be_written_loses_nothing(
        self, run: Run, model: Path, images: Path, tmp_path: Path
    ) -> None:
        state = tmp_path / "state"
        command = ["calibrate", model, "--images", images, "--count", "4", "--quiet", "--resume", state]
        with mock.patch.object(CalibrationTable, "save", side_effect=OutputError("t.json", "cannot be written: full")):
            _, err = run(*command, "--output", tmp_path / "t.json", status=1)
        assert "cannot be written" in err
        assert str(state) in err
        with mock.patch.object(Collector, "add", side_effect=AssertionError("all is counted")):
            run(*command, "--output", tmp_path / "t.json")

    @pytest.mark.parametrize("option", ["--output", "--cache", "--resume"])
    def test_a_place_that_cannot_be_written_is_told_before_the_work(
        self, run: Run, model: Path, images: Path, tmp_path: Path, option: str
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        places = {"--output": tmp_path / "t.json", "--cache": tmp_path / "c", option: tmp_path / "file" / "x"}
        options = [word for pair in places.items() for word in pair]
        with mock.patch.object(Collector, "add", side_effect=AssertionError("it calibrates")):
            _, err = run("calibrate", model, "--images", images, *options, "--tensorrt-version", "8.5.2", status=1)
        assert f"{tmp_path / 'file' / 'x'}: cannot be written" in err

    @pytest.mark.parametrize(
        ("arguments", "status", "words"),
        [
            (["--count", "0"], 2, "--count must be at least 1, is 0"),
            (["--percentile", "101"], 2, "--percentile must be above 0 and at most 100"),
            (["--cache", "c"], 2, "--cache needs --tensorrt-version"),
            (["--tensorrt-version", "8.5.2"], 2, "--tensorrt-version describes what --cache writes"),
            (["--algorithm", "MinMaxCalibration"], 2, "--algorithm describes what --cache writes"),
            (["--cache", "c", "--tensorrt-version", "11.4.1"], 2, "no calibration caches"),
            (["--cache", "c", "--tensorrt-version", "eight"], 2, "is not a TensorRT version"),
        ],
    )
    def test_wrong_options(
        self,
        run: Run,
        model: Path,
        images: Path,
        tmp_path: Path,
        arguments: list[str],
        status: int,
        words: str,
    ) -> None:
        command = ["calibrate", model, "--images", images, "--output", tmp_path / "t.json", *arguments]
        _, err = run(*command, status=status)
        assert words in err
        assert not (tmp_path / "t.json").exists()

    def test_images_that_are_missing_unreadable_or_plain(self, run: Run, model: Path, tmp_path: Path) -> None:
        folder, table = tmp_path / "images", tmp_path / "t.json"
        command = ["calibrate", model, "--images", folder, "--output", table, "--quiet"]
        _, err = run(*command, status=1)
        assert f"error: {folder}: no such file or folder" in err
        folder.mkdir()
        _, err = run(*command, status=1)
        assert f"error: {folder}: contains no images" in err
        for index in range(3):
            (folder / f"{index}.jpg").write_bytes(b"\xff\xd8\xff damaged")
        _, err = run(*command, status=1)
        assert "none of 3 can be used (the first:" in err
        for index, colour in enumerate(("red", "blue", "white")):
            Image.new("RGB", (20, 20), colour).save(folder / f"{index}.jpg")
        _, err = run(*command, status=1)
        assert "each of the 3 is of one colour throughout" in err
        assert not table.exists()

    def test_a_model_that_yields_nan(self, run: Run, model: Path, images: Path, tmp_path: Path) -> None:
        broken = onnx.load(model)
        for tensor in broken.graph.initializer:
            if tensor.name == next(node.input[1] for node in broken.graph.node if node.op_type == "Conv"):
                values = numpy_helper.to_array(tensor).copy()
                values[0] = np.nan
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        onnx.save(broken, tmp_path / "nan.onnx")
        _, err = run(
            "calibrate", tmp_path / "nan.onnx", "--images", images, "--output", tmp_path / "t.json", "--quiet", status=1
        )
        assert "contains values that are not numbers (NaN)" in err
        assert not (tmp_path / "t.json").exists()

    def test_a_tensor_that_is_always_zero(self, run: Run, model: Path, images: Path, tmp_path: Path) -> None:
        silent = onnx.load(model)
        node = next(node for node in silent.graph.node if node.name == "inception3a/branch3/0/conv")
        for tensor in silent.graph.initializer:
            if tensor.name in node.input[1:]:
                values = np.full(tuple(tensor.dims), -1.0 if tensor.name == node.input[2] else 0.0, np.float32)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        onnx.save(silent, tmp_path / "silent.onnx")
        table, result = tmp_path / "t.json", tmp_path / "int8.onnx"
        _, err = run("calibrate", tmp_path / "silent.onnx", "--images", images, "--output", table, "--quiet")
        assert "1 tensors are always zero, such as inception3a/branch3/0" in err
        run("quantize", tmp_path / "silent.onnx", "--table", table, "--images", images, "--output", result, "--quiet")
        assert result.exists()

    def test_a_model_without_preprocessing_needs_options(
        self, run: Run, model: Path, images: Path, tmp_path: Path
    ) -> None:
        foreign = onnx.load(model)
        del foreign.metadata_props[:]
        onnx.save(foreign, tmp_path / "foreign.onnx")
        command = ["calibrate", tmp_path / "foreign.onnx", "--images", images, "--count", "3", "--quiet"]
        _, err = run(*command, "--output", tmp_path / "t.json", status=1)
        assert "does not state how its images are prepared" in err
        options = ["--channels", "BGR", "--scale", "1", "--mean", "104,117,123", "--std", "1,1,1"]
        run(*command, *options, "--output", tmp_path / "t.json")
        assert json.loads((tmp_path / "t.json").read_text())["preprocessing"]["crop"] == [SIZE, SIZE]


class TestQuantize:
    """From images or a table to a checked Q/DQ model."""

    def test_from_images(self, run: Run, model: Path, images: Path, tmp_path: Path) -> None:
        result = tmp_path / "int8.onnx"
        out, _ = run("quantize", model, "--images", images, "--count", "40", "--output", result, "--quiet")
        assert "INT8: 16 layers" in out
        assert "lint: nothing that TensorRT would refuse" in out
        assert "against FP32 on 20 images not used for calibration: agreement" in out
        assert operators(result).count("QuantizeLinear") > LAYERS

    def test_from_a_table_is_byte_for_byte_the_same(
        self, run: Run, model: Path, images: Path, quantised: tuple[Path, Path], tmp_path: Path
    ) -> None:
        result, table = quantised
        command = ["quantize", model, "--table", table, "--output", tmp_path / "again.onnx", "--quiet"]
        run(*command, "--refine", "fast", "--images", images, "--count", 40)
        assert (tmp_path / "again.onnx").read_bytes() == result.read_bytes()

    def test_refinements_are_told_and_stored(self, run: Run, model: Path, images: Path, tmp_path: Path) -> None:
        result = tmp_path / "best.onnx"
        command = ["quantize", model, "--images", images, "--count", 40, "--output", result, "--quiet"]
        out, _ = run(*command, "--refine", "best,offset,equalize")
        record = json.loads(
            {entry.key: entry.value for entry in onnx.load(result).metadata_props}["googlenet_deploy.quantization"]
        )
        assert list(record["steps"]) == ["equalisation", "weight scales", "offset activations", "learned rounding"]
        assert all(f"{name}: {note}" in out for name, note in record["steps"].items())
        assert "lint: nothing that TensorRT would refuse" in out
        assert run("quantize", model, "--images", images, "--output", result, "--refine", "better", status=2)[1]
        assert run(*command, "--refine", "equalize", "--save-table", tmp_path / "t.json", status=2)[1]

    def test_a_table_alone_is_not_refined(
        self, run: Run, model: Path, quantised: tuple[Path, Path], tmp_path: Path
    ) -> None:
        run("quantize", model, "--table", quantised[1], "--output", tmp_path / "plain.onnx", "--quiet")
        properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "plain.onnx").metadata_props}
        assert json.loads(properties["googlenet_deploy.quantization"])["steps"] == {}

    def test_what_the_model_carries(self, quantised: tuple[Path, Path], model: Path) -> None:
        properties = {entry.key: entry.value for entry in onnx.load(quantised[0]).metadata_props}
        record = json.loads(properties["googlenet_deploy.quantization"])
        assert (record["calibration_images"], record["quantized_nodes"], record["float_nodes"]) == (40, LAYERS, {})
        assert set(record["saturated"]) >= {"input", "inception3a"}
        assert record["method"] == "auto"
        original = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
        assert properties["googlenet_deploy.preprocessing"] == original["googlenet_deploy.preprocessing"]

    def test_a_table_tells_which_images_calibration_saw(
        self, run: Run, model: Path, images: Path, quantised: tuple[Path, Path], tmp_path: Path
    ) -> None:
        command = ["quantize", model, "--table", quantised[1], "--output", tmp_path / "q.onnx", "--quiet"]
        out, _ = run(*command, "--images", images, "--count", "40", "--seed", "5")
        assert "images not used for calibration" in out
        seen = tmp_path / "seen"
        seen.mkdir()
        unseen = set(json.loads(quantised[1].read_text())["images"]["contents"])
        assert len(unseen) == 40
        for path in images.iterdir():
            from hashlib import sha256

            if sha256(path.read_bytes()).hexdigest()[:8] in unseen:
                shutil.copy(path, seen / f"copy of {path.name}")
        out, _ = run(*command, "--images", seen)
        assert "OF THE CALIBRATION, so optimistic" in out

    def test_all_images_in_calibration_is_said(self, run: Run, model: Path, images: Path, tmp_path: Path) -> None:
        out, err = run(
            "quantize", model, "--images", images, "--count", "99", "--output", tmp_path / "q.onnx", "--quiet"
        )
        assert "99 images were asked for, there are only 60" in err
        assert "OF THE CALIBRATION, so optimistic" in out

    def test_options_of_placement(self, run: Run, model: Path, quantised: tuple[Path, Path], tmp_path: Path) -> None:
        command = ["quantize", model, "--table", quantised[1], "--output", tmp_path / "q.onnx", "--quiet"]
        out, err = run(*command, "--keep-input", "--keep-classifier", "--exclude", "conv3/conv")
        assert "INT8: 13 layers" in out
        assert "in float: conv1/conv (Conv): the network's input is not quantised" in out
        assert "in float: conv3/conv (Conv): excluded by name" in out
        assert "was not compared with the FP32 model" in err
        assert "INT8: 16 layers, 23 activation tensors with 11 scales" in run(*command, "--dla")[0]
        run(*command, "--weights", "int8")
        assert (tmp_path / "q.onnx").stat().st_size < 0.7 * quantised[0].stat().st_size
        _, err = run(*command, "--exclude", "conv9", status=2)
        assert "no node named 'conv9'" in err

    @pytest.mark.parametrize(
        ("gates", "status", "words"),
        [
            (["agreement=1", "sqnr=1"], 0, ""),
            (["agreement=101"], 3, "required was 101.0"),
            (["sqnr=90"], 3, "required was 90.0"),
            (["speed=1"], 2, "--require speed: choose"),
        ],
    )
    def test_gates(
        self, run: Run, model: Path, images: Path, tmp_path: Path, gates: list[str], status: int, words: str
    ) -> None:
        options = [word for gate in gates for word in ("--require", gate)]
        command = ["quantize", model, "--images", images, "--count", "40", "--output", tmp_path / "q.onnx", "--quiet"]
        _, err = run(*command, *options, status=status)
        assert words in err
        assert (tmp_path / "q.onnx").exists() == (status != 2), "a gate does not undo the work"

    def test_a_table_of_another_model_or_preprocessing(
        self, run: Run, model: Path, quantised: tuple[Path, Path], tmp_path: Path
    ) -> None:
        other = onnx.load(model)
        other.producer_name = "somebody else"
        onnx.save(other, tmp_path / "other.onnx")
        command = ["--table", quantised[1], "--output", tmp_path / "q.onnx"]
        _, err = run("quantize", tmp_path / "other.onnx", *command, status=1)
        assert f"{quantised[1]}: was made from another model" in err
        _, err = run("quantize", model, *command, "--channels", "RGB", status=1)
        assert "made with another preprocessing: channels BGR, the model's is RGB" in err
        (tmp_path / "damaged.json").write_bytes(quantised[1].read_bytes()[:-200])
        _, err = run("quantize", model, "--table", tmp_path / "damaged.json", *command[2:], status=1)
        assert "is not a calibration table" in err
        assert not (tmp_path / "q.onnx").exists()

    def test_an_already_quantised_model(
        self, run: Run, images: Path, quantised: tuple[Path, Path], tmp_path: Path
    ) -> None:
        for command in ("calibrate", "quantize"):
            _, err = run(command, quantised[0], "--images", images, "--output", tmp_path / "out", status=1)
            assert f"{quantised[0]}: is already quantised" in err
            assert "FP32 model" in err
        assert not (tmp_path / "out").exists()

    def test_open_height_and_width(self, run: Run, model: Path, images: Path, tmp_path: Path) -> None:
        dynamic = onnx.load(model)
        for value, kept in ((dynamic.graph.input[0], 2), (dynamic.graph.output[0], 2)):
            for index, size in enumerate(value.type.tensor_type.shape.dim):
                if index == 0 or index >= kept:
                    size.ClearField("dim_value")
                    size.dim_param = f"d{index}"
        del dynamic.graph.value_info[:]
        onnx.save(dynamic, tmp_path / "dynamic.onnx")
        result = tmp_path / "q.onnx"
        out, _ = run(
            "quantize", tmp_path / "dynamic.onnx", "--images", images, "--count", "20", "--output", result, "--quiet"
        )
        assert "INT8: 16 layers" in out
        assert "images not used for calibration" in out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["MODEL"], "pass the FP32 model, and --output"),
            (["MODEL", "--output", "q.onnx"], "pass --images to calibrate on, or --table"),
            (["MODEL", "--output", "q", "--table", "t", "--save-table", "u"], "there is a --table already"),
            (["MODEL", "--output", "q", "--images", "i", "--check-images", "-1"], "--check-images must be at least 0"),
            (["MODEL", "--output", "q", "--table", "t", "--require", "sqnr=3"], "needs --images"),
            (["--repair", "q.onnx"], "--repair needs --output"),
        ],
    )
    def test_options_that_do_not_fit_together(self, run: Run, arguments: list[str], words: str) -> None:
        _, err = run("quantize", *arguments, status=2)
        assert words in err


class TestMixedPrecision:
    """Layers that stay in float."""

    def test_the_sensitivity_of_all_layers(
        self, run: Run, model: Path, images: Path, quantised: tuple[Path, Path], tmp_path: Path
    ) -> None:
        result, ranking = tmp_path / "q.onnx", tmp_path / "s.json"
        command = ["quantize", model, "--table", quantised[1], "--output", result, "--quiet", "--refine", "fast"]
        out, _ = run(*command, "--images", images, "--count", "40", "--sensitivity", ranking)
        assert "most sensitive of 16 layers, each quantised alone" in out
        values = json.loads(ranking.read_text())
        assert (len(values["layers"]), values["unseen"], values["budget"]) == (LAYERS, True, None)
        assert result.read_bytes() == quantised[0].read_bytes(), "ranking changes nothing"

    def test_a_budget_that_is_kept(
        self, run: Run, model: Path, images: Path, quantised: tuple[Path, Path], tmp_path: Path
    ) -> None:
        result, ranking = tmp_path / "q.onnx", tmp_path / "s.json"
        command = ["quantize", model, "--table", quantised[1], "--check-from", images, "--output", result, "--quiet"]
        out, _ = run(*command, "--budget", "sqnr=33", "--budget", "agreement=50", "--sensitivity", ranking)
        assert "kept in float: " in out
        assert "budget sqnr=33: met: logit SQNR 3" in out
        assert "budget agreement=50: met: agreement" in out
        assert "kept in float by the budget: " in out
        assert "on 20 images not used for calibration" in out
        values = json.loads(ranking.read_text())
        kept = {layer["name"] for layer in values["layers"] if layer["float"]}
        properties = {entry.key: entry.value for entry in onnx.load(result).metadata_props}
        record = json.loads(properties["googlenet_deploy.quantization"])
        assert set(record["float_nodes"]) == kept
        assert record["budget"]["holds"]
        assert run("quantize", "--lint", result)
        first = result.read_bytes()
        run(*command, "--budget", "sqnr=33", "--budget", "agreement=50")
        assert result.read_bytes() == first, "the same search finds the same"

    def test_a_budget_that_cannot_be_kept_writes_the_best_and_fails(
        self, run: Run, model: Path, images: Path, quantised: tuple[Path, Path], tmp_path: Path
    ) -> None:
        result = tmp_path / "q.onnx"
        command = ["quantize", model, "--table", quantised[1], "--images", images, "--count", "40", "--quiet"]
        out, err = run(*command, "--output", result, "--budget", "sqnr=150", status=3)
        assert "NOT MET" in out
        assert "the budget cannot be kept with any layer in INT8: sqnr=150, best logit SQNR" in err
        assert "QuantizeLinear" in operators(result)

    def test_a_budget_on_top1(
        self, run: Run, model: Path, images: Path, labels: Path, quantised: tuple[Path, Path], tmp_path: Path
    ) -> None:
        command = ["quantize", model, "--table", quantised[1], "--output", tmp_path / "q.onnx", "--quiet"]
        out, err = run(*command, "--check-from", images, "--labels", labels, "--budget", "top1=0.1")
        assert "budget top1=0.1: met: top-1 +0.00 points (95 % interval" in out
        assert "finer than 20 images can resolve: one image is 5 points" in err
        _, err = run(*command, "--check-from", images, "--budget", "top1=0.1", status=1)
        assert "has no folder per class" in err

    def test_ctrl_c_in_the_search_leaves_the_old_file(
        self, run: Run, model: Path, images: Path, quantised: tuple[Path, Path], tmp_path: Path
    ) -> None:
        result = tmp_path / "q.onnx"
        result.write_bytes(b"old")
        command = ["quantize", model, "--table", quantised[1], "--images", images, "--output", result, "--quiet"]
        with mock.patch(
            "googlenet_deploy.quantization.mixed_precision.search.BudgetSearch.run", side_effect=KeyboardInterrupt
        ):
            _, err = run(*command, "--budget", "sqnr=33", status=130)
        assert "interrupted" in err
        assert result.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [result]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--budget", "speed=1"], "unknown budget 'speed'"),
            (["--budget", "agreement=101"], "a budget of agreement=101 makes no sense"),
            (["--budget", "sqnr=1", "--budget", "sqnr=2"], "each name may be given once"),
            (["--budget", "sqnr=1", "--check-images", "0"], "--check-images 0 leaves none"),
            (["--labels", "l.csv", "--budget", "sqnr=1"], "--labels is for a budget on top1"),
        ],
    )
    def test_wrong_options(
        self, run: Run, model: Path, images: Path, tmp_path: Path, options: list[str], words: str
    ) -> None:
        command = ["quantize", model, "--images", images, "--output", tmp_path / "q.onnx"]
        _, err = run(*command, *options, status=2)
        assert words in err

    @pytest.mark.parametrize("option", [["--percentile", "90"], ["--tensors", "quantized"], ["--resume", "state"]])
    def test_a_table_is_not_calibrated_again(
        self, run: Run, model: Path, quantised: tuple[Path, Path], tmp_path: Path, option: list[str]
    ) -> None:
        command = ["quantize", model, "--table", quantised[1], "--output", tmp_path / "q.onnx", *option]
        _, err = run(*command, status=2)
        assert f"{option[0]} is for calibrating, but --table has a calibration" in err

    def test_images_are_needed(self, run: Run, model: Path, quantised: tuple[Path, Path], tmp_path: Path) -> None:
        command = ["quantize", model, "--table", quantised[1], "--output", tmp_path / "q.onnx"]
        _, err = run(*command, "--budget", "sqnr=1", status=2)
        assert "need images: pass --images or --check-from" in err
        _, err = run(*command, "--budget", "sqnr=1", "--check-from", tmp_path / "none", status=1)
        assert "no such file or folder" in err


class TestLint:
    """Models of other tools."""

    def test_a_float_and_a_sound_model(self, run: Run, model: Path, quantised: tuple[Path, Path]) -> None:
        assert "is not quantised" in run("quantize", "--lint", model)[0]
        assert "nothing that TensorRT would refuse" in run("quantize", "--lint", quantised[0])[0]

    def test_a_model_that_tensorrt_refuses_is_mended(
        self, run: Run, quantised: tuple[Path, Path], tmp_path: Path
    ) -> None:
        model = onnx.load(quantised[0])
        for tensor in model.graph.initializer:
            if tensor.name == "conv2/zero_point":
                tensor.CopyFrom(numpy_helper.from_array(np.array(4, np.int8), tensor.name))
        onnx.save(model, tmp_path / "theirs.onnx")
        out, err = run("quantize", "--lint", tmp_path / "theirs.onnx", status=3)
        assert out.count("error: ") == 2
        assert "2 errors, 0 warnings; --repair repairs 2" in out
        assert "TensorRT would refuse it" in err
        fixed = tmp_path / "fixed.onnx"
        out, _ = run("quantize", "--repair", tmp_path / "theirs.onnx", "--output", fixed)
        assert "repaired: 1 asymmetric pairs made symmetric" in out
        assert "SQNR" in out
        assert run("quantize", "--lint", fixed)

    def test_what_cannot_be_repaired_is_said_and_nothing_is_written(self, run: Run, tmp_path: Path) -> None:
        nodes = [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], "quantise"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "dequantise"),
        ]
        values = [helper.make_tensor_value_info("x", 1, [4])], [helper.make_tensor_value_info("y", 1, [4])]
        opsets = [helper.make_opsetid("", 13)]
        onnx.save(
            helper.make_model(helper.make_graph(nodes, "g", *values), opset_imports=opsets, ir_version=8),
            tmp_path / "dynamic.onnx",
        )
        _, err = run("quantize", "--repair", tmp_path / "dynamic.onnx", "--output", tmp_path / "q.onnx", status=1)
        assert "nothing in it can be repaired" in err
        assert "integer-operator" in err
        assert not (tmp_path / "q.onnx").exists()

    def test_no_model(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "text.onnx").write_text("no model")
        for mode in (["--lint"], ["--output", tmp_path / "q.onnx", "--repair"]):
            _, err = run("quantize", *mode, tmp_path / "text.onnx", status=1)
            assert "is not an ONNX model" in err

    def test_a_float_model_has_nothing_to_mend(self, run: Run, model: Path, tmp_path: Path) -> None:
        _, err = run("quantize", "--repair", model, "--output", tmp_path / "q.onnx")
        assert "is not quantised, so there is nothing to repair" in err

    @pytest.mark.parametrize(
        ("mode", "others", "words"),
        [
            ("--lint", ["--output", "q.onnx"], "not --output, since it writes nothing"),
            ("--lint", ["--images", "photos"], "not --images"),
            ("--lint", ["--refine", "best"], "not --refine"),
            ("--repair", ["float.onnx", "--output", "q.onnx"], "not a second model"),
            ("--repair", ["--table", "t.json", "--output", "q.onnx"], "not --table"),
        ],
    )
    def test_options_that_would_be_ignored_are_refused(
        self, run: Run, mode: str, others: list[str], words: str
    ) -> None:
        _, err = run("quantize", mode, "theirs.onnx", *others, status=2)
        assert words in err


class TestDiagnosis:
    """evaluate INT8 --reference FP32."""

    def evaluated(self, run: Run, int8: Path, fp32: Path, images: Path, labels: Path, *options: object) -> str:
        command = ["evaluate", int8, "--reference", fp32, "--images", images, "--labels", labels, "--quiet"]
        return run(*command, "--backend", "onnxruntime", *options)[0]

    def test_everything_is_printed_and_written(
        self, run: Run, model: Path, quantised: tuple[Path, Path], images: Path, labels: Path, tmp_path: Path
    ) -> None:
        out = self.evaluated(run, quantised[0], model, images, labels, "--json", tmp_path / "e.json")
        assert "top-1 change" in out
        assert "McNemar p = " in out
        assert "inside, on 32 images" in out
        values = json.loads((tmp_path / "e.json").read_text())
        assert set(values["paired"]["top1"]) == {"points", "interval_95", "gained", "lost", "images", "p_value"}
        assert values["paired"]["top1"]["images"] == 60
        assert {"agreement", "sqnr", "kl_divergence", "reference_top1"} <= set(values["intervals_95"])
        inside = values["inside"]
        assert inside["images"] == 32
        assert inside["record"]["images"] == 40
        assert {"name", "operator", "tensor", "sqnr", "before", "unrounded"} == set(inside["layers"][0])
        assert {"tensor", "saturated", "expected", "sqnr", "used"} < set(inside["ranges"][0])
        assert {"severity", "cause", "text"} == set(values["diagnosis"][0])

    def test_a_fault_is_named(
        self, run: Run, model: Path, quantised: tuple[Path, Path], images: Path, labels: Path, tmp_path: Path
    ) -> None:
        broken = onnx.load(quantised[0])
        for tensor in broken.graph.initializer:
            if tensor.name == "inception3a/scale":
                scale = numpy_helper.to_array(tensor) * np.float32(0.04)
                tensor.CopyFrom(numpy_helper.from_array(scale, tensor.name))
        onnx.save(broken, tmp_path / "broken.onnx")
        out = self.evaluated(run, tmp_path / "broken.onnx", model, images, labels)
        assert "problem: values are clipped: inception3a" in out
        assert "[saturated tensor]" in out

    def test_labels_in_another_order(self, run: Run, model: Path, images: Path, labels: Path, tmp_path: Path) -> None:
        shifted = tmp_path / "shifted.csv"
        rows = [row.rsplit(",", 1) for row in labels.read_text().split()]
        shifted.write_text("".join(f"{name},{(int(label) + 2) % CLASSES}\n" for name, label in rows))
        out = self.evaluated(run, model, model, images, shifted)
        assert "problem: the reference itself gets" in out
        assert "[label order]" in out

    def test_inner_tensors_can_be_left_out(
        self, run: Run, model: Path, quantised: tuple[Path, Path], images: Path, labels: Path, tmp_path: Path
    ) -> None:
        out = self.evaluated(run, quantised[0], model, images, labels, "--layers", "0", "--json", tmp_path / "e.json")
        assert "inside" not in out
        assert json.loads((tmp_path / "e.json").read_text())["inside"] is None
        _, err = run("evaluate", model, "--images", images, "--layers", "-1", status=2)
        assert "--layers cannot be below 0" in err

    def test_a_model_that_shares_no_names_is_compared_by_its_answers(
        self, run: Run, model: Path, images: Path, labels: Path, tmp_path: Path
    ) -> None:
        renamed = onnx.load(model)
        made = {name for node in renamed.graph.node for name in node.output} - {"logits"}
        for node in renamed.graph.node:
            for names in (node.input, node.output):
                names[:] = [f"their {name}" if name in made else name for name in names]
        renamed.graph.node[-1].output[0] = renamed.graph.output[0].name = "scores"
        del renamed.graph.value_info[:]
        onnx.save(renamed, tmp_path / "renamed.onnx")
        out = self.evaluated(run, tmp_path / "renamed.onnx", model, images, labels)
        assert "note: inner tensors were not compared: reference: has no inner tensor in common" in out
        assert "fine: the model is as near" in out
