from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from googlenet_deploy.device.specification import BVLC
from googlenet_deploy.errors import BadWeightsError
from googlenet_deploy.model.caffemodel import read_caffemodel
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.model.weights import load_weights


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field of fewer than 128 bytes."""
    key = number << 3 | 2
    head = bytes([key]) if key < 128 else bytes([key & 0x7F | 0x80, key >> 7])
    return head + bytes([len(payload)]) + payload


def varint(number: int, value: int) -> bytes:
    return bytes([number << 3, value])


FLOATS = struct.pack("<2f", 1.5, -2.0)
# Written by hand from caffe.proto, so that the descriptors themselves are checked.
PACKED = field(5, FLOATS)
SIZES = b"".join(varint(number, size) for number, size in ((1, 1), (2, 1), (3, 1), (4, 2)))
SHAPE = field(7, field(1, bytes([1, 2])))
ONE_BY_ONE = b"\x2d" + FLOATS[:4] + b"\x2d" + FLOATS[4:]
OLD = field(2, field(4, b"ip/fc") + field(6, SIZES + PACKED))
NEW = field(100, field(1, b"ip/fc") + field(7, SHAPE + PACKED))
DOUBLE = field(100, field(1, b"ip/fc") + field(7, SHAPE + field(8, struct.pack("<2d", 1.5, -2.0))))
UNPACKED = field(100, field(1, b"ip/fc") + field(7, field(7, b"\x08\x01\x08\x02") + ONE_BY_ONE))
WRONG_SHAPE = field(100, field(1, b"a/fc") + field(7, field(7, field(1, bytes([1, 9]))) + PACKED))


@pytest.mark.parametrize("data", [OLD, NEW, DOUBLE, UNPACKED], ids=["old", "new", "double", "unpacked"])
def test_bytes_of_the_specification(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    unknown = field(1, b"name") + varint(15, 7)
    path.write_bytes(unknown + data)
    model = read_caffemodel(path)
    torch.testing.assert_close(model.tensors["ip/fc.weight"], torch.tensor([[1.5, -2.0]]))
    assert model.preprocessing == BVLC


@pytest.mark.parametrize("old", [True, False], ids=["V1 layers", "layer"])
@pytest.mark.slow
def test_both_forms_load_into_the_same_model(old: bool, small_net: GoogLeNet, write_caffe: Callable[..., Path]) -> None:
    path = write_caffe(small_net.state_dict(), old=old)
    checkpoint = load_weights(path, auxiliary=True, num_classes=5)
    assert checkpoint.architecture.name == "bvlc"
    assert checkpoint.preprocessing == BVLC
    for name, tensor in small_net.state_dict().items():
        torch.testing.assert_close(checkpoint.model.state_dict()[name], tensor, rtol=0, atol=0)


def with_transform(message: bytes) -> bytes:
    return field(100, field(1, b"data") + b"\xa2\x06" + bytes([len(message)]) + message) + NEW


def test_mean_scale_and_crop_come_from_the_data_layer(tmp_path: Path) -> None:
    mean = b"".join(b"\x2d" + struct.pack("<f", value) for value in (100.0, 110.0, 120.0))
    scale = b"\x0d" + struct.pack("<f", 0.5)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(with_transform(mean + scale + b"\x18\xe0\x01"))
    spec = read_caffemodel(path).preprocessing
    assert (spec.mean, spec.scale, spec.crop, spec.channels) == ((50.0, 55.0, 60.0), 0.5, (224, 224), "BGR")


def test_one_mean_value_stands_for_all_channels(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(with_transform(b"\x2d" + struct.pack("<f", 127.0)))
    assert read_caffemodel(path).preprocessing.mean == (127.0, 127.0, 127.0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (OLD[:-3], "damaged"),
        (b"not a protobuf at all, only text", "damaged|no weights"),
        (field(1, b"name only"), "no weights"),
        (WRONG_SHAPE, "a/fc has 2 values"),
    ],
    ids=["truncated", "text", "definition only", "wrong shape"],
)
def test_damaged_files_say_what_is_wrong(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(data)
    with pytest.raises(BadWeightsError, match=words) as caught:
        load_weights(path)
    assert str(path) in caught.value.message


def test_layers_that_googlenet_does_not_have_are_named(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(NEW)
    with pytest.raises(BadWeightsError, match=r"ip/fc\.weight"):
        load_weights(path)
