"""The ONNX package's light models through the commands: architectures of opset 9 whose weights are made in the graph.

Their weights are constants, so all 1000 probabilities are 0.001, as the outputs beside them in the package say.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from googlenet_deploy.cli.main import main

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
MODELS = (("squeezenet", 0), ("shufflenet", 544 * 1000))  # and the multiply-adds of their Gemm


def light(name: str) -> Path:
    path = FOLDER / f"light_{name}.onnx"
    if not path.is_file():
        pytest.skip(f"this ONNX package has no {path.name}")
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of coloured patches."""
    folder = tmp_path_factory.mktemp("images")
    values = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    for number, pixels in enumerate(values):
        Image.fromarray(pixels).resize((256, 256)).save(folder / f"{number}.png")
    return folder


def convolutions(path: Path) -> tuple[int, int]:
    """Number and multiply-adds of the convolutions, from ONNX's own shape inference and the shapes of their weights."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True).graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    work = sum(int(np.prod(shapes[node.output[0]])) * int(np.prod(shapes[node.input[1]][1:])) for node in nodes)
    return len(nodes), work


@pytest.mark.parametrize(("name", "gemm"), MODELS)
def test_inspect_counts_work_behind_made_weights(tmp_path: Path, name: str, gemm: int) -> None:
    path, output = light(name), tmp_path / "inspect.json"
    assert main(["inspect", str(path), "--json", str(output), "--totals"]) == 0
    content = json.loads(output.read_text(encoding="utf-8"))
    assert content["totals"]["multiply_adds"] == convolutions(path)[1] + gemm


@pytest.mark.parametrize(("name", "gemm"), MODELS)
def test_estimate_counts_the_same_work(tmp_path: Path, name: str, gemm: int) -> None:
    output = tmp_path / "estimate.json"
    assert main(["estimate", str(light(name)), "--target", "orin-nano", "--json", str(output)]) == 0
    layers = json.loads(output.read_text(encoding="utf-8"))["layers"]
    assert sum(layer["multiply_adds"] for layer in layers) == convolutions(light(name))[1] + gemm


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_infer_gives_the_packages_probabilities(images: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    words = ["infer", str(light(name)), str(images / "0.png"), "--preprocessing", "imagenet", "--json", "-", "--quiet"]
    assert main(words) == 0
    classes = json.loads(capsys.readouterr().out.splitlines()[0])["classes"]
    np.testing.assert_allclose([found["probability"] for found in classes], 0.001, rtol=1e-4)


def test_quantize_takes_every_convolution(tmp_path: Path, images: Path) -> None:
    path, output, report = light("squeezenet"), tmp_path / "int8.onnx", tmp_path / "inspect.json"
    words = ["quantize", str(path), "--preprocessing", "imagenet", "--images", str(images), "--count", "2"]
    words += ["--check-images", "1", "--method", "max", "--tensors", "quantized", "--refine", "none", "--quiet"]
    assert main([*words, "--output", str(output)]) == 0
    assert main(["quantize", "--lint", str(output)]) == 0
    assert main(["inspect", str(output), "--json", str(report), "--totals"]) == 0
    content = json.loads(report.read_text(encoding="utf-8"))
    assert sum(layer["quantized"] for layer in content["layers"]) == convolutions(path)[0] == 26
    assert content["totals"]["multiply_adds_by_type"] == {"int8": 1.0}
