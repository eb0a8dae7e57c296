from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto
from small_models import small_model

from googlenet_deploy.device.onnx_model.protobuf import Field, encode, encode_field, fields, integers

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.integers(1, 2**28), INT64)
def test_integers_survive(number: int, value: int) -> None:
    (field,) = fields(memoryview(encode(number, value)))
    assert (field.number, field.integer()) == (number, value)


@given(st.text(), st.binary())
def test_texts_and_bytes_survive(text: str, data: bytes) -> None:
    found = list(fields(memoryview(encode(1, text) + encode(2, data))))
    assert found[0].text() == text
    assert bytes(found[1].bytes()) == data


@given(st.lists(INT64, max_size=8))
def test_repeated_integers_packed_and_not(values: list[int]) -> None:
    tensor = TensorProto(int64_data=values, dims=values)
    found = [field for field in fields(memoryview(tensor.SerializeToString())) if field.number in (1, 7)]
    assert [value for field in found if field.number == 7 for value in integers(field)] == values
    assert [value for field in found if field.number == 1 for value in integers(field)] == values


def test_a_message_is_written_as_it_was_read() -> None:
    content = small_model("qdq").SerializeToString()
    assert b"".join(encode_field(field) for field in fields(memoryview(content))) == content
    fixed = b"\x0d" + struct.pack("<I", 7) + b"\x11" + struct.pack("<Q", 9)
    assert b"".join(encode_field(field) for field in fields(memoryview(fixed))) == fixed


@pytest.mark.parametrize(
    "content",
    [b"\x80", b"\x0a\x05ab", b"\x00\x01", b"\x0b", b"\x0d\x01", b"\x08" + b"\xff" * 10, b"\x08"],
    ids=["key", "bytes", "field 0", "wire type 3", "fixed", "too long a number", "no value"],
)
def test_damage_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        list(fields(memoryview(content)))


def test_kinds_are_not_mixed_up() -> None:
    with pytest.raises(ValueError, match="where bytes are expected"):
        Field(1, 0, 3).bytes()
    with pytest.raises(ValueError, match="where a number is expected"):
        Field(1, 2, memoryview(b"")).integer()
