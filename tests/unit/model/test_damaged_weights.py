"""Whatever bytes a checkpoint holds: weights, or one error that names the file."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from googlenet_deploy.device.specification import BVLC
from googlenet_deploy.errors import BadWeightsError
from googlenet_deploy.model import caffemodel
from googlenet_deploy.model.weights import load_weights

TENSORS = {"conv1.conv.weight": torch.ones(2, 2), "fc.weight": torch.ones(3, 4), "fc.bias": torch.zeros(3)}


def saved_by_torch(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def small_caffemodel() -> bytes:
    """A layer of each form and a data layer."""
    net = caffemodel._message("NetParameter")(name="GoogleNet")
    transform = net.layer.add(name="data").transform_param
    transform.mean_value.extend([104, 117, 123])
    transform.crop_size, transform.scale = 224, 0.5
    blob = net.layer.add(name="conv1/7x7_s2").blobs.add()
    blob.data.extend([1.0] * 8)
    blob.shape.dim.extend([2, 4])
    blob = net.layers.add(name="loss3/classifier").blobs.add()
    blob.data.extend([1.0] * 6)
    blob.num, blob.channels, blob.height, blob.width = 1, 1, 2, 3
    data: bytes = net.SerializeToString()
    return data


SEEDS = {
    "caffemodel": small_caffemodel(),
    "pth": saved_by_torch({"state_dict": TENSORS, "epoch": 1}),
    "old pth": saved_by_torch(TENSORS, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("kind", SEEDS)
@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_damaged_bytes_are_refused(kind: str, tmp_path: Path, draw: st.DataObject) -> None:
    data = SEEDS[kind]
    content = bytearray(data[: draw.draw(st.integers(1, len(data)))] if draw.draw(st.booleans()) else data)
    for _ in range(draw.draw(st.integers(0, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(content))
    with pytest.raises(BadWeightsError, match=r"^[^\n]*weights\.bin: [^\n]+$"):  # never a whole GoogLeNet
        load_weights(path)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_damaged_safetensors_are_refused_or_read(tmp_path: Path, draw: st.DataObject) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(TENSORS, path, {"format": "googlenet_deploy"})
    content = bytearray(path.read_bytes())
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    with contextlib.suppress(BadWeightsError):
        load_weights(path)


def test_layer_names_that_are_not_text_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(SEEDS["caffemodel"].replace(b"conv1/", b"conv\xff/"))
    with pytest.raises(BadWeightsError, match=r"layers that GoogLeNet does not have: conv\\xff/7x7_s2"):
        load_weights(path)


GOOD = {
    "format": "googlenet_deploy",
    "architecture": "bvlc",
    "width": "0.125",
    "num_classes": "3",
    "class_names": '["a","b","c"]',
    "class_ids": "[]",
    "preprocessing": BVLC.to_json(),
    "training_record": "{}",
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *(({key: None}, f"there is no '{key}'") for key in ("architecture", "width", "num_classes", "preprocessing")),
        ({"architecture": "alexnet"}, "unknown architecture 'alexnet'"),
        *(({"width": text}, "damaged") for text in ("wide", "nan", "inf", "-1", "0", "1e9")),
        *(({"num_classes": text}, "damaged") for text in ("x", "1", "-3", "1e3", "99999999")),
        *(({"class_names": text}, "class names are|damaged") for text in ("5", "null", "[1]", "{}x", "[" * 10_000)),
        ({"class_names": '["a"]'}, "names 1 classes and has 3 logits"),
        ({"class_ids": '["a", "b"]'}, "names 2 classes and has 3 logits"),
        *(({"training_record": text}, "not a JSON object|damaged") for text in ("5", "[]", "{", "[" * 10_000)),
        ({"preprocessing": '{"crop": 224}'}, "crop is 224"),
    ],
)
def test_damaged_metadata_is_refused_before_a_network_is_built(
    changes: dict[str, str | None], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.safetensors"
    metadata = {key: text for key, text in {**GOOD, **changes}.items() if text is not None}
    save_file(TENSORS, path, metadata)
    with pytest.raises(BadWeightsError, match=words) as caught:
        load_weights(path)
    assert caught.value.path == str(path)
    assert "\n" not in caught.value.message


def test_a_value_that_is_not_finite_in_a_caffemodel(tmp_path: Path) -> None:
    net = caffemodel._message("NetParameter")()
    net.layer.add(name="data").transform_param.mean_value.extend([float("nan")] * 3)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(net.SerializeToString() + SEEDS["caffemodel"])
    with pytest.raises(BadWeightsError, match=r"its data layer makes no sense: .*finite"):
        load_weights(path)
