from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from googlenet_deploy.cli.arguments import (
    add_gpu_options,
    add_preprocessing_options,
    add_runner_options,
    check_class_count,
    class_names,
    gpu_options,
    optional_output,
    positive,
    report_skipped,
    resolve_preprocessing,
)
from googlenet_deploy.device.images.pipeline import Skipped
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.options import named_number, read_options
from googlenet_deploy.device.preprocessing_options import PreprocessingOptions, file_preprocessing
from googlenet_deploy.device.runner.protocol import TensorSpec
from googlenet_deploy.device.specification import BVLC, TORCHVISION, Preprocessing
from googlenet_deploy.device.stream.options import FrameOptions
from googlenet_deploy.errors import BadModelError, InputError, UsageError


def parse(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--class-names")
    add_runner_options(parser)
    add_gpu_options(parser)
    add_preprocessing_options(parser)
    return parser.parse_args(options)


def runner(own: Preprocessing | None = None, shape: Any = (None, 3, 224, 224)) -> Any:
    metadata = ModelMetadata(preprocessing=own, class_names=("a", "b"))
    return SimpleNamespace(path="m.onnx", input=TensorSpec("x", shape, "float32"), metadata=metadata)


@pytest.mark.parametrize(
    "option", [["--cuda-backend", "pycuda"], ["--cuda-graph"], ["--zero-copy", "off"], ["--no-manifest"]]
)
def test_options_of_engines_are_not_ignored_silently(option: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    add_runner_options(parser)
    add_gpu_options(parser)
    assert gpu_options(parser.parse_args(["m.engine", *option])).streams == 2
    assert gpu_options(parser.parse_args(["m.bin", "--backend", "tensorrt", *option])).streams == 2
    assert gpu_options(parser.parse_args(["m.onnx"])).streams == 2
    with pytest.raises(UsageError, match=f"{option[0]} is for engines, which m.onnx is not"):
        gpu_options(parser.parse_args(["m.onnx", *option]))


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        (["--cuda-backend", "pycuda"], "cuda_backend", "pycuda"),
        (["--cuda-graph"], "cuda_graph", True),
        (["--zero-copy", "on"], "zero_copy", True),
        (["--zero-copy", "off"], "zero_copy", False),
        (["--zero-copy", "auto"], "zero_copy", None),
        (["--no-manifest"], "checked", False),
        (["--streams", "5"], "streams", 5),
    ],
)
def test_options_of_engines_arrive(option: list[str], name: str, value: object) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    add_runner_options(parser)
    add_gpu_options(parser)
    assert getattr(gpu_options(parser.parse_args(["m.engine", *option])), name) == value


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--streams", "0"], "--streams must be at least 1, is 0"),
        (["--cuda-backend", "opencl"], "--cuda-backend is 'opencl', must be one of cuda-bindings, pycuda"),
        (["--backend", "torch"], "--backend is 'torch', must be one of auto, onnxruntime"),
        (["--threads", "0"], "--threads must be at least 1, is 0"),
    ],
)
def test_options_of_running_out_of_range(option: list[str], message: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    add_runner_options(parser)
    add_gpu_options(parser)
    with pytest.raises(UsageError, match=message):
        gpu_options(parser.parse_args(["m.engine", *option]))


def test_a_model_that_says_how_needs_no_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve_preprocessing(parse(), runner(BVLC)) == BVLC
    assert capsys.readouterr().err == ""


def test_options_win_over_the_model_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    spec = resolve_preprocessing(parse("--resize", "300", "--interpolation", "bicubic"), runner(BVLC))
    assert (spec.resize, spec.interpolation, spec.mean) == (300, "bicubic", BVLC.mean)
    assert capsys.readouterr().err.splitlines() == [
        "note: resize is 300 as the options specify; the model was made for 256",
        "note: interpolation is bicubic as the options specify; the model was made for bilinear",
    ]


def test_resize_modes_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--resize-mode", "letterbox", "--resize", "0", "--fill", "114", "--antialias", "off")
    spec = resolve_preprocessing(parse(*options), runner(BVLC))
    assert (spec.resize_mode, spec.target, spec.fill, spec.antialias) == ("letterbox", (224, 224), (114,), False)
    assert spec.mean == BVLC.mean
    assert (
        "note: resize_mode is letterbox as the options specify; the model was made for short-side"
        in capsys.readouterr().err
    )
    stretched = resolve_preprocessing(parse("--resize-mode", "stretch", "--resize", "240x320"), runner(spec))
    assert (stretched.resize, stretched.fill) == ((240, 320), (0,))
    assert resolve_preprocessing(parse("--resize-mode", "stretch"), runner(BVLC)).target == (256, 256)


@pytest.mark.parametrize(
    "options",
    [
        ("--preprocessing", "imagenet", "--resize", "160"),
        ("--preprocessing", "bvlc"),
        ("--preprocessing", "torchvision", "--resize-mode", "stretch", "--antialias", "off"),
        ("--scale", "0.01", "--mean", "1,2,3"),
    ],
)
def test_a_quantised_model_accepts_the_options_that_it_was_made_with(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    shape = (None, 3, 50, 155)
    stored = resolve_preprocessing(parse(*options), runner(None, shape))
    assert stored.crop == (50, 155)
    assert resolve_preprocessing(parse(*options), runner(stored, shape)) == stored
    assert capsys.readouterr().err == "", "nothing differs, so nothing is said"


def test_what_a_file_states_holds_and_what_it_leaves_out_is_the_models(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"scale": 1.0, "mean": [1, 2, 3], "std": [1, 1, 1], "resize": 70}', encoding="utf-8")
    spec = resolve_preprocessing(parse("--preprocessing", str(path)), runner(None, (None, 3, 64, 64)))
    assert (spec.crop, spec.resize, spec.mean) == ((64, 64), 70, (1, 2, 3))
    path.write_text(BVLC.to_json(), encoding="utf-8")
    with pytest.raises(UsageError, match=r"a crop of \[224, 224\] is not the input of m\.onnx, \[64, 64\]"):
        resolve_preprocessing(parse("--preprocessing", str(path)), runner(None, (None, 3, 64, 64)))


@pytest.mark.parametrize("option", ["--resize-mode=stretch", "--fill=3", "--antialias=off", "--crop=64"])
def test_each_option_counts_as_stated(option: str, colour_model: Path) -> None:
    assert file_preprocessing(read_options(parse(), PreprocessingOptions), str(colour_model)) is None
    arguments = parse(option) if option != "--fill=3" else parse(option, "--resize-mode=letterbox")
    if option == "--crop=64":
        with pytest.raises(UsageError, match="does not fit"):
            file_preprocessing(read_options(arguments, PreprocessingOptions), str(colour_model))
    else:
        assert file_preprocessing(read_options(arguments, PreprocessingOptions), str(colour_model)) is not None


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
def test_a_foreign_model_is_stretched_to_its_input(mode: str) -> None:
    options = parse("--preprocessing", "imagenet", "--resize-mode", mode)
    assert resolve_preprocessing(options, runner(None, (None, 3, 96, 128))).target == (96, 128)


def test_a_model_that_says_nothing_needs_options() -> None:
    with pytest.raises(UsageError, match=r"m\.onnx: the model does not state how its images are prepared") as caught:
        resolve_preprocessing(parse("--resize", "256"), runner())
    assert "--preprocessing imagenet" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("name", "expected"), [("bvlc", BVLC), ("torchvision", TORCHVISION), ("imagenet", Preprocessing())]
)
def test_named_specifications_take_their_size_from_the_models_input(name: str, expected: Preprocessing) -> None:
    assert resolve_preprocessing(parse("--preprocessing", name), runner()) == expected
    spec = resolve_preprocessing(parse("--preprocessing", name), runner(shape=(1, 3, 299, 320)))
    assert (spec.crop, spec.resize) == ((299, 320), 366)
    assert (spec.mean, spec.channels) == (expected.mean, expected.channels)


@pytest.mark.parametrize(
    ("shape", "layout", "crop"),
    [
        ((None, 3, None, None), "NCHW", (224, 224)),
        ((1, 64, 64, 3), "NHWC", (64, 64)),
        ((1, 3, 28, 3), "NCHW", (28, 3)),
    ],
)
def test_layout_is_seen_from_the_models_input(shape: Any, layout: str, crop: tuple[int, int]) -> None:
    spec = resolve_preprocessing(parse("--preprocessing", "imagenet"), runner(shape=shape))
    assert (spec.layout, spec.crop) == (layout, crop)


def test_colour_for_a_grey_model_is_refused() -> None:
    with pytest.raises(UsageError, match=r"accepts images as float32 \(1, 28, 28\), but they would be .*\(3, 28, 28\)"):
        resolve_preprocessing(parse("--preprocessing", "imagenet"), runner(shape=(1, 1, 28, 28)))


def test_everything_by_options() -> None:
    arguments = parse(
        *("--resize", "0", "--crop", "20x30", "--channels", "BGR", "--scale", "0.5", "--layout", "NHWC"),
        *("--mean", "1,2,3", "--std", "4,5,6"),
    )
    assert resolve_preprocessing(arguments, runner(shape=(1, 20, 30, 3))) == Preprocessing(
        resize=None, crop=(20, 30), channels="BGR", scale=0.5, mean=(1, 2, 3), std=(4, 5, 6), layout="NHWC"
    )
    spec = resolve_preprocessing(parse("--scale", "0.1", "--channels", "L", "--crop", "8"), runner(shape=(1, 1, 8, 8)))
    assert (spec.mean, spec.std, spec.crop) == ((0.0,), (1.0,), (8, 8))


def test_a_specification_from_a_file(tmp_path: Any) -> None:
    path = tmp_path / "p.json"
    path.write_text(TORCHVISION.to_json(), encoding="utf-8")
    assert resolve_preprocessing(parse("--preprocessing", str(path)), runner(BVLC)) == TORCHVISION
    path.write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="not JSON"):
        resolve_preprocessing(parse("--preprocessing", str(path)), runner())
    with pytest.raises(InputError, match="nothing: is not a preprocessing: choose bvlc, torchvision, imagenet, plain"):
        resolve_preprocessing(parse("--preprocessing", "nothing"), runner())


def test_another_resize_than_trainings_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    resolve_preprocessing(parse("--image-backend", "opencv"), runner(BVLC))
    assert "OpenCV's resize differs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["--crop", "0"], ["--crop", "300"], ["--mean", "1,2"], ["--std", "0,1,1"], ["--mean", "nan,1,1"],
     ["--dtype", "uint8"], ["--resize", "-5"]],
)  # fmt: skip
def test_options_that_make_no_sense_together_are_refused(options: list[str]) -> None:
    with pytest.raises(UsageError, match="preprocessing: "):
        resolve_preprocessing(parse(*options), runner(BVLC))


@pytest.mark.parametrize(
    "options", [["--crop", "a"], ["--mean", "1;2"], ["--workers", "x"], ["--max-latency", "-1"], ["--zero-copy", "2"]]
)
def test_words_that_are_no_values_are_refused_by_the_parser(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(*options)
    assert options[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "0"], "--batch must be at least 1, is 0"),
        (["--workers", "-3"], "--workers must be at least 1, is -3"),
        (["--image-backend", "skimage"], "--image-backend is 'skimage', must be one of pillow, opencv"),
    ],
)
def test_frames_out_of_range_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_options(parse(*options), FrameOptions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resize-mode", "squash"], "--resize-mode is 'squash', must be one of short-side, stretch, letterbox"),
        (["--channels", "RGBA"], "--channels is 'RGBA', must be one of RGB, BGR, L"),
        (["--interpolation", "cubic"], "--interpolation is 'cubic', must be one of nearest, bilinear"),
        (["--dtype", "int8", "--preprocessing", "bvlc"], "--dtype is 'int8', must be one of float32, uint8"),
    ],
)
def test_choices_of_preprocessing_are_held(options: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_preprocessing(parse(*options), runner(BVLC))


def test_skipped_images_are_named_and_the_rest_counted(capsys: pytest.CaptureFixture[str]) -> None:
    report_skipped([Skipped(f"{i}.jpg", "is empty") for i in range(12)], ["a.txt", "b.txt"])
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0] == "skipped: 0.jpg: is empty"
    assert lines[10:] == ["skipped: ... and 2 more", "note: not images: 2 other files in the folders (a.txt, ...)"]
    report_skipped([], [])
    assert capsys.readouterr().err == ""


def test_class_names_from_the_options_or_the_model(tmp_path: Any) -> None:
    assert class_names(parse(), ("a", "b")) == ("a", "b")
    assert len(class_names(parse("--class-names", "imagenet"), ("a", "b"))) == 1000
    (tmp_path / "names").write_text("x\ny\n", encoding="utf-8")
    assert class_names(parse("--class-names", str(tmp_path / "names")), ("a", "b")) == ("x", "y")


def test_names_must_fit_the_classes() -> None:
    check_class_count((), 5, "m")
    check_class_count(("a", "b"), 2, "m")
    with pytest.raises(BadModelError, match="m: has 3 classes, but there are 2 class names"):
        check_class_count(("a", "b"), 3, "m")


def test_types_for_argparse() -> None:
    assert positive("3") == 3
    assert named_number("top1 = 74.5") == ("top1", 74.5)
    for call, text in ((positive, "0"), (named_number, "top1")):
        with pytest.raises(argparse.ArgumentTypeError):
            call(text)
    with pytest.raises(ValueError, match="could not convert"):
        named_number("top1=high")


def test_dash_is_standard_output() -> None:
    assert [optional_output(path) for path in (None, "-", "file")] == [False, False, True]
