"""The files to mutate: valid files of every kind that the commands read, and the commands that read them."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mutate_model import mutate_model
from mutate_values import mutate_json_text, mutate_lines, mutate_safetensors
from onnx import ModelProto, TensorProto, helper, load, numpy_helper, save
from PIL import Image
from safetensors.torch import save_file
from small_nets import build_net

from googlenet_deploy.calibration.table import load_table
from googlenet_deploy.calibration.tensorrt_cache import cache_from_table
from googlenet_deploy.cli.main import main
from googlenet_deploy.device.engine import manifest as engine_manifest
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.graph.files import load_classifier
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.checkpoint import Checkpoint, save_checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet

NAMES = ("red", "green", "blue", "noise")
Mutator = Callable[[bytes, random.Random, int], bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: Its name in the record.
        files: Valid files, relative to the corpus.
        mutate: Makes a damaged file from a valid one.
        commands: What reads it; ``{}`` is the damaged file, ``{corpus}`` the folder of valid ones, ``{out}`` a new one.
        weight: How often it is chosen.
        beside: Path that the command expects the damaged file at, relative to ``{out}``; "" keeps its name.
        parts: Files and folders of the corpus that belong to it, copied to ``{out}``.
    """

    name: str
    files: tuple[str, ...]
    mutate: Mutator
    commands: tuple[str, ...]
    weight: int
    beside: str = ""
    parts: tuple[str, ...] = ()


def _mutate_bundle_manifest(content: bytes, rng: random.Random, steps: int) -> bytes:
    return seal_bundle_manifest(mutate_json_text(content, rng, steps))


def seal_bundle_manifest(content: bytes) -> bytes:
    """A bundle's manifest with its own hash anew, as `seal_manifest`."""
    try:
        values = json.loads(content)
        values.pop("sha256", None)
        values["sha256"] = hashlib.sha256(_bundle_text(values)).hexdigest()
        return _bundle_text(values)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return content


def _bundle_text(values: object) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def _mutate_manifest(content: bytes, rng: random.Random, steps: int) -> bytes:
    return seal_manifest(mutate_json_text(content, rng, steps))


def seal_manifest(content: bytes) -> bytes:
    """An engine's manifest with a valid seal, since anybody can write one; other content is left as it is."""
    try:
        values = json.loads(content)
        values.pop(engine_manifest.SEAL, None)
        values[engine_manifest.SEAL] = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
        return json.dumps(values).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return content


INFER = "infer {} {corpus}/red.png --quiet --threads 1 --json - --top-k 4"
KINDS = (
    Kind(
        "model",
        ("float.onnx", "int8.onnx", "codes.onnx", "data.onnx", "branch.onnx"),
        mutate_model,
        (
            *(f"{INFER} --backend onnxruntime",) * 4,
            *(f"{INFER} --backend openvino",) * 2,
            INFER,
            "inspect {}",
            "quantize --lint {}",
            "quantize --repair {} --output {out}/repaired.onnx",
            "estimate {} --target orin-nano",
            "build {} --dry-run --target orin-nano",
        ),
        70,
        parts=("weights.bin",),
    ),
    Kind(
        "table",
        ("table.json",),
        mutate_json_text,
        ("quantize {corpus}/float.onnx --table {} --refine none --output {out}/q.onnx --quiet --threads 1",),
        8,
    ),
    Kind(
        "cache",
        ("model.cache",),
        mutate_lines,
        ("build {corpus}/float.onnx --dry-run --target jetpack-5.1 --precision int8 --calibration-cache {}",),
        6,
    ),
    Kind("checkpoint", ("weights.safetensors",), mutate_safetensors, ("inspect --weights {}",), 8),
    Kind(
        "manifest", ("m.engine.json",), _mutate_manifest, ("inspect {out}/m.engine",), 8, beside="m.engine.json",
        parts=("m.engine",),
    ),
    Kind(
        "accepted checkpoint", ("whole.safetensors",), mutate_safetensors,
        (*("inspect --weights {}",) * 5, "export --weights {} --output {out}/e.onnx --no-simplify --quiet"), 6,
    ),
    Kind(
        "bundle manifest", ("bundle/manifest.json",), _mutate_bundle_manifest,
        ("bundle --verify {out}/bundle", "selftest {out}/bundle --files-only"),
        8, beside="bundle/manifest.json", parts=("bundle",),
    ),
)  # fmt: skip


def make_corpus(folder: Path) -> Path:
    """Writes the valid files."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (24, 20, 3), np.uint8)).save(folder / "red.png")
    for name, options in (
        ("float", {"quantized": False}),
        ("int8", {"quantized": True}),
        ("codes", {"quantized": True, "stored": True}),
    ):
        _describe(build_net(folder / f"{name}.onnx", **options))
    model = load(folder / "float.onnx")
    save(model, folder / "data.onnx", save_as_external_data=True, location="weights.bin", size_threshold=16)
    _write_branch(folder / "branch.onnx", model)
    _write_table(folder)
    _write_checkpoint(folder / "weights.safetensors")
    _write_engine(folder)
    small = GoogLeNet(ARCHITECTURES["bvlc"], len(NAMES), width=1 / 16).eval()
    spec = Preprocessing(resize=64, crop=(64, 64))
    save_checkpoint(folder / "whole.safetensors", Checkpoint(small, small.architecture, spec, NAMES))
    packed = ["--kind", "jetson", "--target", "orin-nano", "--fp32", str(folder / "float.onnx")]
    packed += ["--images", str(folder / "images"), "--output", str(folder / "bundle")]
    assert main(["bundle", *packed]) == 0
    return folder


def _describe(path: Path) -> None:
    model = load(path)
    spec = Preprocessing(resize=16, crop=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
    helper.set_model_props(model, ModelMetadata("net", spec, NAMES).to_properties())
    save(model, path)


def _write_branch(path: Path, model: ModelProto) -> None:
    """Writes the float net, wrapped in an If and a model-local function."""
    model = ModelProto.FromString(model.SerializeToString())
    function = model.functions.add(name="Double", domain="custom", input=["a"], output=["b"])
    function.opset_import.add(domain="", version=17)
    function.node.add(op_type="Add", input=["a", "a"], output=["b"])
    model.opset_import.add(domain="custom", version=1)
    output = model.graph.output[0].name
    branches = [
        helper.make_graph(
            [helper.make_node(operator, ["scores"], [f"{operator}/out"])],
            operator,
            [],
            [helper.make_tensor_value_info(f"{operator}/out", TensorProto.FLOAT, None)],
        )
        for operator in ("Identity", "Neg")
    ]
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == output:
                node.output[index] = "halves"
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    model.graph.node.append(helper.make_node("Double", ["halves"], ["scores"], "double", domain="custom"))
    condition = helper.make_node("If", ["condition"], [output], "if", then_branch=branches[0], else_branch=branches[1])
    model.graph.node.append(condition)
    save(model, path)


def _write_table(folder: Path) -> None:
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 255, (24, 20, 3), np.uint8)
        Image.fromarray(pixels).save(images / f"{index}.png")
    command = ["calibrate", str(folder / "float.onnx"), "--images", str(images), "--quiet", "--threads", "1"]
    assert main([*command, "--output", str(folder / "table.json")]) == 0
    model = load_classifier(folder / "float.onnx")
    cache, _ = cache_from_table(load_table(folder / "table.json"), model, "8.5.2")
    (folder / "model.cache").write_text(cache.to_text())


def _write_checkpoint(path: Path) -> None:
    shapes = {name: tuple(value.shape) for name, value in GoogLeNet(ARCHITECTURES["bvlc"]).state_dict().items()}
    kept = {name: torch.zeros(shape) for name, shape in list(shapes.items())[:6]}
    save_file(kept, path, {"format": "googlenet_deploy", "architecture": "bvlc"})


def _write_engine(folder: Path) -> None:
    engine = folder / "m.engine"
    engine.write_bytes(b"x" * 50)
    layer = {
        "name": "c", "kind": "convolution", "dtype": "fp16", "multiply_adds": 10, "inputs": [["x", "fp32"]],
        "outputs": [["c", "fp16"]], "tactic": "t", "nodes": ["c"],
    }  # fmt: skip
    values = {
        "engine_sha256": hashlib.sha256(engine.read_bytes()).hexdigest(), "engine_bytes": 50, "backend": "tensorrt",
        "tensorrt_version": "8.5.2", "compute_capabilities": ["8.7"], "gpu": "x", "dialect": "weakly typed",
        "precision": "fp16", "flags": ["fp16"], "options": {},
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 3, 8, 8]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [1, 3]}], "batch": [1, 1, 1], "layers": [layer],
        "layers_note": "", "precision_shares": {"layers": {"fp16": 1.0}, "multiply_adds": {"fp16": 1.0}},
        "device_memory_bytes": 1, "timing_cache_sha256": "", "calibration": {}, "build_seconds": 1.0, "notes": [],
        "source": {"name": "m.onnx", "metadata": {}}, "rebuild": "x", "dla": {}, "layers_from": "engine inspector",
        "format": 1,
    }  # fmt: skip
    (folder / "m.engine.json").write_bytes(seal_manifest(json.dumps(values).encode()))
