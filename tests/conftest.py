"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import untraced
from hypothesis import HealthCheck, settings
from made_once import made_once

untraced.install()

# The same examples in every run, however slow the machine; `--hypothesis-profile=default` looks for new ones.
settings.register_profile("repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real weights and images, from $GOOGLENET_DEPLOY_DATA or ../shared/data; skips where absent."""
    folder = Path(os.environ.get("GOOGLENET_DEPLOY_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real weights and images at {folder} (set GOOGLENET_DEPLOY_DATA)")
    return folder


@pytest.fixture(scope="session")
def bvlc_weights(data_dir: Path) -> Path:
    """The published BVLC weights under their Caffe names."""
    path = data_dir / "bvlc_googlenet.safetensors"
    if not path.is_file():
        pytest.skip(f"no BVLC weights at {path}")
    return path


@pytest.fixture(scope="session")
def bvlc_onnx(bvlc_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """They, exported with every default and verified on the sample images, if they are here; bvlc.json lies beside."""
    from googlenet_deploy.cli.main import main

    def export(folder: Path) -> None:
        images = bvlc_weights.parent / "imagenet-sample" / "images"
        options = ["--images", str(images)] if images.is_dir() else []
        options += ["--output", str(folder / "bvlc.onnx"), "--json", str(folder / "bvlc.json"), "--quiet"]
        assert main(["export", "--weights", str(bvlc_weights), *options]) == 0

    return made_once(tmp_path_factory, "bvlc", export) / "bvlc.onnx"


@pytest.fixture(scope="session")
def sample_images(data_dir: Path) -> Path:
    """Five hundred ImageNet validation images; labels.csv lies beside the folder."""
    path = data_dir / "imagenet-sample" / "images"
    if not path.is_dir():
        pytest.skip(f"no sample images at {path}")
    return path


COLOURS = ("red", "green", "blue")


def build_colour_classifier(
    path: Path,
    *,
    size: int = 8,
    batch: int | str = "batch",
    names: tuple[str, ...] | None = COLOURS,
    ids: tuple[str, ...] = (),
    softmax: bool = False,
    order: tuple[int, int, int] = (0, 1, 2),
    metadata: bool = True,
    uint8: bool = False,
) -> Path:
    """Writes an ONNX model that names an image's strongest channel, so that every answer is known beforehand.

    Args:
        path: Where it goes.
        size: Height and width of the input.
        batch: A fixed batch size, or a symbol.
        names: Class names; None for none.
        ids: WordNet ids.
        softmax: Probabilities instead of logits.
        order: The class that each channel stands for.
        metadata: Say how images are prepared, as our own exports do.
        uint8: Take NHWC uint8 pixels.
    """
    from onnx import TensorProto, helper, numpy_helper

    from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
    from googlenet_deploy.device.specification import Preprocessing

    weights = np.zeros((3, 3), np.float32)
    weights[order, range(3)] = 10.0
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "weights"], ["logits"], "fc", transB=1),
    ]
    spec = Preprocessing(resize=size, crop=(size, size), mean=(0.0,) * 3, std=(1.0,) * 3)
    shape, kind, output = [batch, 3, size, size], TensorProto.FLOAT, "logits"
    constants = [numpy_helper.from_array(weights, "weights")]
    if uint8:
        spec, shape, kind = spec.with_uint8_input(), [batch, size, size, 3], TensorProto.UINT8
        constants.append(numpy_helper.from_array(np.float32(1 / 255), "scale"))
        nodes[0].input[0] = "scaled"
        nodes = [
            helper.make_node("Cast", ["x"], ["float"], "cast", to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["float"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
            helper.make_node("Mul", ["planes", "scale"], ["scaled"], "scaled"),
            *nodes,
        ]
    if softmax:
        output = "probabilities"
        nodes.append(helper.make_node("Softmax", ["logits"], [output], "softmax", axis=1))
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, 3])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        properties = ModelMetadata("colours", spec, names or (), ids).to_properties()
        helper.set_model_props(model, properties)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def colour_classifier() -> Callable[..., Path]:
    """See `build_colour_classifier`."""
    return build_colour_classifier


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colour classifier with every default; not to be changed."""
    return build_colour_classifier(tmp_path_factory.mktemp("colours") / "colours.onnx")


def write_colour_images(folder: Path, **colours: Any) -> Path:
    """Writes NAME.png of one colour each: ``red=(255, 0, 0)``; by default one per class."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    chosen = colours or {"red": (250, 20, 10), "green": (0, 240, 20), "blue": (5, 30, 255)}
    for name, colour in chosen.items():
        Image.new("RGB", (12, 10), colour).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def colour_images(tmp_path: Path) -> Path:
    """A folder of red.png, green.png and blue.png."""
    return write_colour_images(tmp_path / "images")
