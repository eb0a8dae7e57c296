"""What users and the world do wrong: each is one line that names the file, never a traceback, never half a file."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save_file

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.specification import BVLC
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.googlenet import GoogLeNet

Captured = pytest.CaptureFixture[str]
RED = (250, 10, 10)


def failing(capsys: Captured, *arguments: object, status: int = 1, names: object = None) -> str:
    """Runs a command that must fail: one error line, and at most a remedy below it, that name the file."""
    assert main([str(argument) for argument in arguments]) == status
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if "error: " in line]
    assert len(errors) == 1, captured.err
    assert "Traceback" not in captured.err
    if names is not None:
        assert str(names) in errors[0]
    return captured.err


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def rotated() -> bytes:
    """An image that its EXIF entry turns; that it is turned rightly, test_images.py shows."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.new("RGB", (30, 10), RED), "JPEG", exif=exif, quality=95)


def bomb() -> bytes:
    """A PNG of a kilobyte that would unpack to 30 GB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
SIXTEEN_BIT = Image.fromarray(np.full((9, 9), 60_000, np.uint16))
USABLE: dict[str, Callable[[], bytes]] = {
    "animated.gif": lambda: encoded(
        Image.new("RGB", (9, 9), RED), "GIF", save_all=True, append_images=[Image.new("RGB", (9, 9), "blue")]
    ),
    "cmyk.jpg": lambda: encoded(Image.new("CMYK", (9, 9), (0, 240, 240, 10)), "JPEG"),
    "exif.jpg": rotated,
    "palette.png": lambda: encoded(Image.new("RGB", (9, 9), RED).convert("P"), "PNG", transparency=0),
    "sixteen.png": lambda: encoded(SIXTEEN_BIT, "PNG"),
}
UNUSABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "bomb.png": (bomb, "pixels"),
    "empty.jpg": (lambda: b"", "is empty"),
    "text.jpg": (lambda: b"hello", "is not an image of a known format"),
    "truncated.jpg": (lambda: encoded(NOISE, "JPEG")[:1500], "truncated"),
    "truncated.png": (lambda: encoded(NOISE, "PNG")[:3000], "truncated"),
}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of every kind of image, and other files."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name, make in USABLE.items():
        (folder / name).write_bytes(make())
    for name, (make, _) in UNUSABLE.items():
        (folder / name).write_bytes(make())
    (folder / "notes.txt").write_text("x", encoding="utf-8")
    return folder


def test_usable_images_are_classified_and_the_others_counted(mixed: Path, colour_model: Path, capsys: Captured) -> None:
    assert main(["infer", str(colour_model), str(mixed), "--json", "-", "--top-k", "1"]) == 0
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert {Path(row["image"]).name: row["classes"][0]["name"] for row in rows} == dict.fromkeys(USABLE, "red")
    for name, (_, reason) in UNUSABLE.items():
        (line,) = [line for line in captured.err.splitlines() if line.startswith(f"skipped: {mixed / name}: ")]
        assert reason in line
    assert "note: not images: 1 other file in the folders" in captured.err
    assert "5 images, 5 skipped" in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_image_alone_is_a_failure(name: str, mixed: Path, colour_model: Path, capsys: Captured) -> None:
    text = failing(capsys, "infer", colour_model, mixed / name)
    assert f"skipped: {mixed / name}: " in text


def test_libraries_write_nothing_of_their_own(mixed: Path, colour_model: Path) -> None:
    """In a process of its own, where pytest catches no warnings and C libraries write to the real stderr."""
    (mixed / "odd.tif").write_bytes(encoded(NOISE, "TIFF", compression="tiff_lzw")[:-300])
    command = [sys.executable, "-m", "googlenet_deploy", "infer", str(colour_model), str(mixed), "--csv", "-"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0
    lines = result.stderr.splitlines()
    assert all(line.startswith(("skipped: ", "note: ", "5 images, 6 skipped")) for line in lines), lines
    assert all(line.startswith(("image,rank", str(mixed))) for line in result.stdout.splitlines())


def test_evaluation_counts_what_it_leaves_out(
    mixed: Path, colour_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    rows = "".join(f"{name},red\n" for name in (*USABLE, *UNUSABLE))
    (tmp_path / "labels.csv").write_text(rows, encoding="utf-8")
    report = tmp_path / "report.json"
    command = ["evaluate", colour_model, "--images", mixed, "--labels", tmp_path / "labels.csv", "--json", report]
    assert main([str(word) for word in command]) == 0
    values = json.loads(report.read_text(encoding="utf-8"))
    assert (values["images"], len(values["skipped"]), values["figures"]["top1"]) == (5, 5, 100.0)
    assert "5 images, 5 skipped" in capsys.readouterr().out


@pytest.mark.parametrize("argument", ["none.jpg", "none-*.jpg", "x" * 300])
def test_paths_that_lead_nowhere(argument: str, colour_model: Path, capsys: Captured) -> None:
    failing(capsys, "infer", colour_model, argument, names=argument)


def test_a_folder_without_images(colour_model: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    failing(capsys, "infer", colour_model, tmp_path, names=tmp_path)
    failing(capsys, "evaluate", colour_model, "--images", tmp_path, names=tmp_path)


def two_inputs() -> bytes:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 8, 8]) for name in ("image", "mask")]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 8, 8])
    graph = helper.make_graph([helper.make_node("Add", ["image", "mask"], ["y"], "add")], "two", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def changed(model: Path, change: Callable[[onnx.ModelProto], object]) -> bytes:
    proto = onnx.load(model)
    change(proto)
    data: bytes = proto.SerializeToString()
    return data


BAD_MODELS: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"hello, this is not a model",
    "png": lambda _: encoded(NOISE, "PNG"),
    "zeros": lambda _: bytes(1000),
    "truncated": lambda model: model.read_bytes()[:-100],
    "two inputs": lambda _: two_inputs(),
    "unknown operator": lambda model: changed(model, lambda proto: setattr(proto.graph.node[0], "op_type", "Magic")),
    "reads nothing": lambda model: changed(model, lambda proto: proto.graph.node[0].input.__setitem__(0, "nothing")),
    "future opset": lambda model: changed(model, lambda proto: setattr(proto.opset_import[0], "version", 999)),
    "no output": lambda model: changed(model, lambda proto: proto.graph.output.pop()),
    "damaged metadata": lambda model: changed(
        model, lambda proto: helper.set_model_props(proto, {"googlenet_deploy.preprocessing": '{"crop": 1}'})
    ),
}
COMMANDS: dict[str, Callable[[Path, Path], list[object]]] = {
    "infer": lambda model, images: ["infer", model, images, "--backend", "onnxruntime"],
    "infer in OpenVINO": lambda model, images: ["infer", model, images, "--backend", "openvino"],
    "evaluate": lambda model, images: [
        *("evaluate", model, "--images", images, "--labels", images.parent / "labels.csv"),
        *("--backend", "onnxruntime"),
    ],
    "evaluate --reference": lambda model, images: [
        *("evaluate", images.parent / "good.onnx", "--reference", model),
        *("--images", images, "--labels", images.parent / "labels.csv", "--backend", "onnxruntime"),
    ],
    "inspect": lambda model, _: ["inspect", model],
    "export": lambda model, images: ["export", "--onnx", model, "--output", images.parent / "out.onnx"],
}
# What can be looked at or computed all the same.
HARMLESS = {"inspect": {"two inputs"}}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", [*BAD_MODELS, "missing", "folder"])
def test_bad_models(
    kind: str, command: str, colour_model: Path, colour_images: Path, tmp_path: Path, capsys: Captured
) -> None:
    if "OpenVINO" in command:
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    path = tmp_path / "bad.onnx"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(BAD_MODELS[kind](colour_model))
    (tmp_path / "good.onnx").write_bytes(colour_model.read_bytes())
    (tmp_path / "labels.csv").write_text("red.png,0\n", encoding="utf-8")
    arguments = COMMANDS[command](path, colour_images)
    if kind in HARMLESS.get(command, ()):
        assert main([str(argument) for argument in arguments]) == 0
        return
    failing(capsys, *arguments, names=path)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_damaged_models_never_give_a_traceback(
    backend: str, draw: st.DataObject, colour_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    (tmp_path / "red.png").write_bytes(encoded(Image.new("RGB", (9, 9), RED), "PNG"))
    content = bytearray(colour_model.read_bytes())
    if draw.draw(st.booleans()):
        del content[draw.draw(st.integers(1, len(content))) :]
    for _ in range(draw.draw(st.integers(0, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    path = tmp_path / "damaged.onnx"
    path.write_bytes(bytes(content))
    for command in (["infer", path, tmp_path / "red.png", "--backend", backend, "--quiet"], ["inspect", path]):
        status = main([str(word) for word in command])
        captured = capsys.readouterr()
        assert status in (0, 1, 2)
        assert (status == 0) == ("error: " not in captured.err)
        assert "Traceback" not in captured.err


PLACES: dict[str, tuple[Callable[[Path], Path], bool]] = {
    "a folder": (lambda folder: folder, True),
    "under a file": (lambda folder: folder / "file" / "out", True),
    "where nobody may write": (lambda _: Path("/proc/out"), Path("/proc/version").exists()),
    "a full disk": (lambda _: Path("/dev/full"), Path("/dev/full").is_char_device()),
}
WRITERS: dict[str, Callable[[Path, Path, Path], list[object]]] = {
    "infer --json": lambda model, images, out: ["infer", model, images, "--json", out],
    "infer --csv": lambda model, images, out: ["infer", model, images, "--csv", out],
    "evaluate --json": lambda model, images, out: [
        *("evaluate", model, "--images", images, "--labels", images.parent / "labels.csv", "--json", out)
    ],
    "inspect --json": lambda model, _, out: ["inspect", model, "--json", out],
    "export --output": lambda model, _, out: ["export", "--onnx", model, "--no-simplify", "--output", out],
    "export --json": lambda model, images, out: [
        *("export", "--onnx", model, "--no-simplify", "--output", images.parent / "o.onnx", "--json", out)
    ],
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("place", PLACES)
def test_places_that_cannot_be_written(
    place: str, writer: str, colour_model: Path, colour_images: Path, tmp_path: Path, capsys: Captured
) -> None:
    where, there = PLACES[place]
    if not there:
        pytest.skip("this system has no such place")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_bytes(b"")
    (tmp_path / "labels.csv").write_text("red.png,red\n", encoding="utf-8")
    out = where(tmp_path / "out")
    text = failing(capsys, *WRITERS[writer](colour_model, colour_images, out), names=out)
    assert f"{out}: cannot be written: " in text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


@pytest.mark.parametrize("command", ["infer", "evaluate"])
def test_wrong_number_of_class_names(
    command: str, colour_model: Path, colour_images: Path, tmp_path: Path, capsys: Captured
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a\nb\n", encoding="utf-8")
    paths = [colour_images] if command == "infer" else ["--images", colour_images, "--labels", tmp_path / "labels.csv"]
    (tmp_path / "labels.csv").write_text("red.png,0\n", encoding="utf-8")
    text = failing(capsys, command, colour_model, *paths, "--class-names", names, names=colour_model)
    assert "has 3 classes, but there are 2 class names" in text
    assert "no such file" in failing(capsys, command, colour_model, *paths, "--class-names", tmp_path / "none")


def test_models_of_another_size_than_the_options_say(colour_model: Path, colour_images: Path, capsys: Captured) -> None:
    text = failing(capsys, "infer", colour_model, colour_images, "--crop", "4", status=2, names=colour_model)
    assert "accepts images as float32 (3, 8, 8), but they would be prepared as float32 (3, 4, 4)" in text


def small_tensors() -> dict[str, torch.Tensor]:
    """The state dict of a narrow net."""
    return GoogLeNet(ARCHITECTURES["bvlc"], 4, width=0.125).state_dict()


BAD_TENSORS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "missing": (lambda tensors: tensors.pop("fc.bias"), "lacks tensor fc.bias"),
    "extra": (lambda tensors: tensors.update({"fc.scale": torch.ones(3)}), "has the unknown tensor fc.scale"),
    "wrong shape": (
        lambda tensors: tensors.update({"fc.bias": torch.ones(5)}),
        "wrong shape: fc.bias is (5,) instead of (4,)",
    ),
    "not finite": (lambda tensors: tensors["fc.bias"].fill_(float("nan")), "values that are not finite in tensor fc.b"),
}


@pytest.mark.parametrize("kind", BAD_TENSORS)
@pytest.mark.parametrize("command", ["export", "inspect", "train"])
def test_checkpoints_whose_tensors_do_not_fit(kind: str, command: str, tmp_path: Path, capsys: Captured) -> None:
    change, words = BAD_TENSORS[kind]
    tensors = {name: tensor.clone() for name, tensor in small_tensors().items()}
    change(tensors)
    path, output = tmp_path / "bad.safetensors", tmp_path / "out.safetensors"
    metadata = {"format": "googlenet_deploy", "architecture": "bvlc", "width": "0.125", "num_classes": "4"}
    save_file(tensors, path, {**metadata, "preprocessing": BVLC.to_json()})
    options: dict[str, list[object]] = {
        "export": ["--output", output],
        "inspect": [],
        "train": ["--data", write_two_classes(tmp_path / "data"), "--output", output],
    }
    text = failing(capsys, command, "--weights", path, *options[command], names=path)
    assert words in text
    assert not output.exists()


def write_two_classes(folder: Path) -> Path:
    for name, colour in (("a", "red"), ("b", "blue")):
        (folder / name).mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", (40, 40), colour).save(folder / name / f"{index}.png")
    return folder


def test_a_wrong_class_count(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "four.safetensors"
    metadata = {"format": "googlenet_deploy", "architecture": "bvlc", "width": "0.125", "num_classes": "4"}
    save_file(small_tensors(), path, {**metadata, "preprocessing": BVLC.to_json()})
    arguments = ["export", "--weights", path, "--num-classes", 1000, "--output", tmp_path / "out.onnx"]
    assert "has 4 classes, not 1000" in failing(capsys, *arguments, names=path)


def test_a_corrupt_caffemodel(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"\x0a\x09GoogleNet" + bytes(range(256)) * 40)
    assert "damaged" in failing(capsys, "export", "--weights", path, "--output", tmp_path / "out.onnx", names=path)
