from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.device.onnx_model.metadata import PREFIX, ModelMetadata
from googlenet_deploy.device.specification import BVLC
from googlenet_deploy.errors import BadModelError

WHOLE = ModelMetadata(
    architecture="bvlc",
    preprocessing=BVLC,
    class_names=("tench, Tinca tinca", "äpfel", 'a "quoted" name'),
    class_ids=("n01440764", "n2", "n3"),
    source_sha256="ab" * 32,
    extra={"opset": "17", "tools": "{}"},
)


@pytest.mark.parametrize("metadata", [WHOLE, ModelMetadata(), ModelMetadata(class_names=("a", "b"))])
def test_properties_give_the_same_metadata_back(metadata: ModelMetadata) -> None:
    properties = metadata.to_properties()
    assert ModelMetadata.from_properties(properties, "m.onnx") == metadata
    assert list(properties) == sorted(properties)
    assert all(key.startswith(PREFIX) and value for key, value in properties.items())


def test_entries_of_other_tools_are_ignored() -> None:
    properties = {"author": "somebody", "preprocessing": "theirs", **WHOLE.to_properties()}
    assert ModelMetadata.from_properties(properties, "m.onnx") == WHOLE


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("class_names", "[1, 2]"),
        ("class_names", '{"a": 1}'),
        ("class_names", "tench"),
        ("class_names", "[" * 100_000),
        ("class_ids", "3"),
        ("preprocessing", "{}x"),
        ("preprocessing", '{"crop": 5}'),
        ("preprocessing", '{"std": [0, 0, 0]}'),
    ],
)
def test_damaged_entries_are_refused_and_the_file_named(key: str, text: str) -> None:
    with pytest.raises(BadModelError, match=r"^m\.onnx: its metadata is damaged"):
        ModelMetadata.from_properties({PREFIX + key: text}, "m.onnx")


@given(st.dictionaries(st.sampled_from(["class_names", "preprocessing", "class_ids", "architecture"]), st.text()))
def test_any_text_is_read_or_refused(values: dict[str, str]) -> None:
    with contextlib.suppress(BadModelError):
        ModelMetadata.from_properties({PREFIX + key: text for key, text in values.items()}, "m.onnx")
