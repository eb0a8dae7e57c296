"""TensorRT-RTX builds both nets in FP32, FP16, BF16 and INT8 for the GPUs that it knows, by the users' own commands.

No GPU is needed. What each convolution computes in is read from the engines themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.engine.manifest import check_fit, load_manifest
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadModelError
from googlenet_deploy.export.samples import smooth_pictures
from googlenet_deploy.model.architecture import get_architecture
from googlenet_deploy.model.checkpoint import Checkpoint, save_checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (the extra rtx brings it)")

CAPABILITIES = ("8.0", "8.6", "8.9", "12.0")
# Kind of model: the type that its convolutions compute in.
TYPES = {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "int8", "int8-over-fp16": "int8"}
SPECIFICATIONS = {
    "bvlc": Preprocessing(resize=72, crop=(64, 64), channels="BGR", scale=1.0, mean=(104, 117, 123), std=(1, 1, 1)),
    "torchvision": Preprocessing(resize=72, crop=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
}
Make = Callable[[str, str], Path]


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index, picture in enumerate(smooth_pictures(12, (72, 72), 3, 1)):
        Image.fromarray(picture).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Make:
    """A small net as an ONNX model of one kind; each is made once."""
    folder = tmp_path_factory.mktemp("models")

    def checkpoint(net: str) -> Path:
        torch.manual_seed(5)
        model = GoogLeNet(get_architecture(net), 10, width=0.125).eval()
        path = folder / f"{net}.safetensors"
        save_checkpoint(path, Checkpoint(model, model.architecture, SPECIFICATIONS[net]))
        return path

    def build(net: str, kind: str) -> Path:
        path = folder / f"{net}.{kind}.onnx"
        if path.exists():
            return path
        plain = ("--output", path, "--no-simplify", "--quiet")
        if kind == "fp32":
            run("export", "--weights", checkpoint(net), *plain)
        elif kind == "int8":
            options = ("--count", 8, "--check-images", 0, "--tensors", "quantized", "--quiet")
            run("quantize", build(net, "fp32"), "--images", pictures, "--output", path, *options)
        elif kind == "int8-over-fp16":
            run("export", "--onnx", build(net, "int8"), "--fp16", *plain)
        else:
            run("export", "--onnx", build(net, "fp32"), f"--{kind}", *plain)
        return path

    return build


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("net", SPECIFICATIONS)
def test_both_nets_in_every_type_for_every_gpu(
    make: Make, net: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = tmp_path / "m.engine"
    options = ("--compute-capability", ",".join(CAPABILITIES), "--batch", "1,4,8")
    gate = ("--require", f"{TYPES[kind]}=1")
    run("build", make(net, kind), "--backend", "tensorrt-rtx", "--output", engine, *options, *gate)
    manifest = load_manifest(engine)
    assert manifest.compute_capabilities == CAPABILITIES
    assert manifest.precision_shares["multiply_adds"] == {TYPES[kind]: pytest.approx(1.0)}
    assert (manifest.dialect, manifest.layers_from, manifest.batch) == ("strongly typed", "program", (1, 4, 8))
    assert manifest.metadata["googlenet_deploy.architecture"] == net
    printed = capsys.readouterr()
    assert f"multiply-adds: {TYPES[kind]} 100.0%, by the engine's own program" in printed.out


@pytest.mark.parametrize(
    ("capability", "kind"), list(zip(CAPABILITIES, ("fp32", "fp16", "int8", "int8-over-fp16"), strict=True))
)
@pytest.mark.parametrize("net", SPECIFICATIONS)
def test_a_fixed_batch_for_one_gpu(make: Make, net: str, kind: str, capability: str, tmp_path: Path) -> None:
    model, engine = tmp_path / "m.onnx", tmp_path / "m.engine"
    run("export", "--onnx", make(net, kind), "--batch", 2, "--output", model, "--no-simplify", "--quiet")
    options = ("--compute-capability", capability, "--json", tmp_path / "m.json", "--quiet")
    run("build", model, "--backend", "tensorrt-rtx", "--output", engine, *options)
    manifest = load_manifest(engine)
    assert (manifest.batch, manifest.inputs[0]["shape"]) == (None, [2, 3, 64, 64])
    assert manifest.device_memory_bytes is not None
    assert json.loads((tmp_path / "m.json").read_text())["engine_sha256"] == manifest.engine_sha256
    major, minor = map(int, capability.split("."))
    check_fit(engine, manifest, "tensorrt-rtx", manifest.tensorrt_version, (major, minor))
    with pytest.raises(BadModelError, match=r"here is 7\.5.*") as caught:
        check_fit(engine, manifest, "tensorrt-rtx", manifest.tensorrt_version, (7, 5))
    assert f"--compute-capability {capability}" in (caught.value.remedy or "")


def test_a_gate_that_does_not_hold_ends_with_3_and_keeps_the_engine(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = tmp_path / "m.engine"
    command = ["build", make("torchvision", "fp16"), "--backend", "tensorrt-rtx", "--compute-capability", "8.9"]
    assert main([str(word) for word in [*command, "--output", engine, "--require", "int8=0.95"]]) == 3
    error = capsys.readouterr().err
    assert "int8: 0.0% of the multiply-adds, 95.0% required" in error
    assert "computes in fp16" in error
    assert load_manifest(engine).precision == "fp16"


@pytest.mark.parametrize(
    ("capability", "words"),
    [("8.7", "cannot build for compute capability 8.7"), ("9.9", "9.9"), ("11.0", "Jetson engines are built on")],
)
def test_gpus_that_it_does_not_know(
    make: Make, capability: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(make("torchvision", "fp32"))
    options = ["--compute-capability", capability, "--output", str(tmp_path / "m.engine")]
    assert main(["build", model, "--backend", "tensorrt-rtx", *options]) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_its_own_words_where_it_refuses_a_graph(
    model_with_a_strange_operator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build", str(model_with_a_strange_operator), "--backend", "tensorrt-rtx", "--compute-capability", "8.9"]
    assert main([*command, "--output", str(tmp_path / "m.engine")]) == 1
    error = capsys.readouterr().err
    assert "refuses it at node strange (Foo)" in error
    assert "Foo does not exist in this TensorRT" in error
    assert "Traceback" not in error


@pytest.fixture
def model_with_a_strange_operator(tmp_path: Path) -> Path:
    from small_models import write_small_model

    return Path(write_small_model(tmp_path / "m.onnx", "foo"))


def test_a_dry_run_parses_for_a_device_that_is_not_here(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "plan.json"
    command = ["build", str(make("bvlc", "int8")), "--target", "jetpack-5.1", "--dry-run", "--json", str(report)]
    assert main([*command, "--also-trtexec"]) == 0
    printed = capsys.readouterr().out
    for part in ("for TensorRT 8.5 of jetpack-5.1", "flags FP16 and INT8", "parsed by TensorRT-RTX", "trtexec --onnx="):
        assert part in printed
    assert json.loads(report.read_text())["plan"]["precision"] == "int8"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.slow
def test_the_published_net_shrinks_with_its_types(bvlc_onnx: Path, sample_images: Path, tmp_path: Path) -> None:
    models = {"fp32": bvlc_onnx, **{kind: tmp_path / f"{kind}.onnx" for kind in ("fp16", "int8", "int8-over-fp16")}}
    half = ("--fp16", "--no-simplify", "--quiet", "--images", sample_images, "--image-count", 4)
    run("export", "--onnx", models["fp32"], "--output", models["fp16"], *half)
    few = ("--count", 8, "--check-images", 0, "--tensors", "quantized", "--quiet")
    run("quantize", models["fp32"], "--images", sample_images, "--output", models["int8"], *few)
    run("export", "--onnx", models["int8"], "--output", models["int8-over-fp16"], *half)
    sizes = {}
    for kind, model in models.items():
        engine = tmp_path / f"{kind}.engine"
        options = ("--compute-capability", "8.9", "--require", f"{TYPES[kind]}=1", "--quiet")
        run("build", model, "--backend", "tensorrt-rtx", "--output", engine, *options)
        sizes[kind] = load_manifest(engine).engine_bytes
    parameters = 6_998_552
    assert 4 * parameters < sizes["fp32"] < 4.2 * parameters
    assert 2 * parameters < sizes["fp16"] < 2.3 * parameters
    # Weights of one byte each; the rest is the source of 35 kernels that requantise, 130 kB each.
    assert parameters < sizes["int8-over-fp16"] <= sizes["int8"] < 1.8 * parameters
    assert sizes["fp32"] > sizes["fp16"] > sizes["int8"]


def test_models_of_which_the_commands_make_no_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x00" * 100)
    command: list[Any] = ["build", str(path), "--backend", "tensorrt-rtx", "--compute-capability", "8.9"]
    assert main(command) == 1
    assert "is not an ONNX model" in capsys.readouterr().err
