from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.analysis.inspect import describe, table_lines
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.specification import TORCHVISION, Preprocessing
from googlenet_deploy.errors import BadModelError
from googlenet_deploy.graph.files import (
    input_specification,
    load_classifier,
    load_model,
    read_metadata,
    store_metadata,
    write_model,
)
from googlenet_deploy.graph.graph import serialize

FLOAT = TensorProto.FLOAT


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    """Writes a model and returns its path."""

    def save(model: onnx.ModelProto, name: str = "model.onnx") -> Path:
        path = tmp_path / name
        path.write_bytes(serialize(model))
        return path

    return save


def refuse(path: Path, reason: str, load: Any = load_model) -> None:
    with pytest.raises(BadModelError, match=reason) as caught:
        load(path)
    assert str(path) in caught.value.message


def test_write_and_read(tiny_classifier: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.onnx"
    write_model(path, tiny_classifier())
    assert serialize(load_classifier(path)) == serialize(tiny_classifier())


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"not a model", b"\x89PNG\r\n\x1a\n", b"{}" * 50])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refuse(path, "is not an ONNX model")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    refuse(tmp_path / "none.onnx", "no such file")
    refuse(tmp_path, "is a directory")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0.0, 0.999))
def test_truncation_anywhere_is_refused(tiny_classifier: Any, tmp_path: Path, share: float) -> None:
    content = serialize(tiny_classifier())
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadModelError):
        load_classifier(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_bytes_are_refused_or_read_never_a_traceback(tiny_classifier: Any, tmp_path: Path, data: Any) -> None:
    content = bytearray(serialize(tiny_classifier()))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.onnx"
    path.write_bytes(bytes(content))
    with contextlib.suppress(BadModelError):
        table_lines(describe(path))
    with contextlib.suppress(BadModelError):
        load_classifier(path)


@pytest.mark.parametrize("opset", [6, 99])
def test_opsets_out_of_range(tiny_classifier: Any, saved: Any, opset: int) -> None:
    model = tiny_classifier()
    model.opset_import[0].version = opset
    refuse(saved(model), f"has opset {opset}")


def test_several_inputs_and_wrong_ones(model_of: Any, saved: Any) -> None:
    def model(*inputs: Any) -> Any:
        names = [name for name, _, _ in inputs]
        return saved(model_of([helper.make_node("Sum", names, ["y"], "sum")], inputs, [("y", FLOAT, inputs[0][2])]))

    image = ("image", FLOAT, [1, 3, 8, 8])
    refuse(model(image, ("mask", FLOAT, [1, 3, 8, 8])), r"has 2 inputs \(image, mask\)", load_classifier)
    refuse(model(("x", FLOAT, [1, 10])), "is not a batch of images", load_classifier)
    refuse(model(("x", FLOAT, [1, 5, 8, 8])), "is not a batch of images", load_classifier)
    refuse(model(("x", TensorProto.INT64, [1, 3, 8, 8])), "is not a batch of images", load_classifier)
    assert load_classifier(model(image))


def test_inconsistent_graphs(tiny_classifier: Any, saved: Any) -> None:
    model = tiny_classifier()
    model.graph.node[1].input[0] = "nothing"
    refuse(saved(model), "reads nothing, which nothing")
    model = tiny_classifier()
    model.graph.initializer[0].dims[1] = 4
    refuse(saved(model), "the constant w has 432 bytes; its shape .* needs 576", load_classifier)
    model = tiny_classifier()
    del model.graph.output[:]
    refuse(saved(model), "has no output")


@pytest.mark.parametrize("name", [b"logits", b"Relu", b"input"])
def test_names_that_are_not_text(tiny_classifier: Any, tmp_path: Path, name: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(serialize(tiny_classifier()).replace(name, b"\xff\xfe" + name[2:]))
    refuse(path, "not UTF-8 text")


def test_nameless_nodes_get_names(tiny_classifier: Any, saved: Any) -> None:
    model = tiny_classifier()
    for node in model.graph.node:
        node.name = "same" if node.op_type in ("Conv", "Relu") else ""
    names = [node.name for node in load_model(saved(model)).graph.node]
    assert names == ["same", "same_2", "p", "f", "logits"]


def external(tiny_classifier: Any, location: str, **entries: str) -> onnx.ModelProto:
    """The tiny classifier with one tensor declared to lie in a file."""
    model = tiny_classifier()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model


def test_external_data_is_read_in(tiny_classifier: Any, saved: Any, tmp_path: Path) -> None:
    weights = numpy_helper.to_array(tiny_classifier().graph.initializer[0])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(b"skip" + weights.tobytes())
    path = saved(external(tiny_classifier, "data/w.bin", offset="4", length=str(weights.nbytes)))
    loaded = load_classifier(path)
    np.testing.assert_array_equal(numpy_helper.to_array(loaded.graph.initializer[0]), weights)
    assert loaded.graph.initializer[0].data_location == TensorProto.DEFAULT


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "", ".", "w\0x", "link"])
def test_external_data_elsewhere_is_refused(tiny_classifier: Any, saved: Any, tmp_path: Path, location: str) -> None:
    (tmp_path.parent / "secret").write_bytes(b"x" * 10_000)
    (tmp_path / "link").symlink_to(tmp_path.parent / "secret")
    refuse(saved(external(tiny_classifier, location)), "outside the model's folder")


def test_external_data_missing_or_too_short(tiny_classifier: Any, saved: Any, tmp_path: Path) -> None:
    refuse(saved(external(tiny_classifier, "w.bin")), "w.bin cannot be read: no such file")
    (tmp_path / "w.bin").write_bytes(b"1234")
    refuse(saved(external(tiny_classifier, "w.bin", length="400")), "too short")
    refuse(saved(external(tiny_classifier, "w.bin", offset="-4")), "too short")
    refuse(saved(external(tiny_classifier, "w.bin", offset="many")), "not a number")
    refuse(saved(external(tiny_classifier, "w.bin")), "w.bin is too short for tensor w", load_classifier)


def test_metadata_replaces_our_entries_and_keeps_others(tiny_classifier: Any, saved: Any) -> None:
    model = tiny_classifier()
    model.metadata_props.add(key="author", value="somebody")
    store_metadata(model, ModelMetadata(architecture="bvlc", extra={"old": "1"}))
    store_metadata(model, ModelMetadata(architecture="torchvision", preprocessing=TORCHVISION))
    path = saved(model)
    keys = [entry.key for entry in load_model(path).metadata_props]
    assert keys == ["author", "googlenet_deploy.architecture", "googlenet_deploy.preprocessing"]
    assert read_metadata(path, model).architecture == "torchvision"


def test_specification_from_metadata_or_shape(tiny_classifier: Any) -> None:
    model = tiny_classifier()
    guessed = input_specification("m.onnx", model)
    assert (guessed.crop, guessed.layout, guessed.channels, guessed.mean) == ((8, 8), "NCHW", "RGB", (0.5,) * 3)
    stated = Preprocessing(resize=9, crop=(8, 8), channels="BGR")
    store_metadata(model, ModelMetadata(preprocessing=stated))
    assert input_specification("m.onnx", model) == stated
    store_metadata(model, ModelMetadata(preprocessing=TORCHVISION))
    with pytest.raises(BadModelError, match="another shape"):
        input_specification("m.onnx", model)


@pytest.mark.parametrize(
    ("kind", "shape", "crop", "layout", "channels"),
    [
        (FLOAT, ["n", 3, "h", "w"], (224, 224), "NCHW", "RGB"),
        (FLOAT, [1, 28, 32, 1], (28, 32), "NHWC", "L"),
        (TensorProto.UINT8, [1, 40, 32, 3], (40, 32), "NHWC", "RGB"),
    ],
)
def test_specification_of_other_inputs(
    model_of: Any, kind: Any, shape: Any, crop: Any, layout: str, channels: Any
) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], "cast", to=FLOAT)]
    specification = input_specification("m.onnx", model_of(nodes, [("x", kind, shape)], [("y", FLOAT, shape)]))
    assert (specification.crop, specification.layout, specification.channels) == (crop, layout, channels)
    assert specification.dtype == ("uint8" if kind == TensorProto.UINT8 else "float32")


def _conv(inputs: list[str], output: str, **attributes: Any) -> Any:
    return helper.make_node("Conv", inputs, [output], output, **attributes)


@pytest.mark.parametrize("before", [(), ("Sub", "Div")])
@pytest.mark.parametrize("dimensions", [(None,) * 4, ("n", "c", 8, 8), (-1, -1, -1, -1)])
def test_an_open_number_of_channels_is_what_the_first_layer_takes(
    model_of: Any, saved: Any, before: tuple[str, ...], dimensions: tuple[Any, ...]
) -> None:
    names = ["x", *(f"b{index}" for index in range(len(before)))]
    nodes = [
        helper.make_node(operator, [names[index], "k"], [names[index + 1]], operator)
        for index, operator in enumerate(before)
    ]
    nodes += [_conv([names[-1], "w"], "y")]
    constants = {"w": np.ones((2, 3, 1, 1), np.float32), "k": np.full((1, 3, 1, 1), 2, np.float32)}
    model = model_of(nodes, [("x", FLOAT, dimensions)], [("y", FLOAT, (None, 2, None, None))], constants)
    path = saved(model)
    assert load_classifier(path).graph.input[0].type.tensor_type.shape.dim[1].dim_value == 3
    assert input_specification(path, load_classifier(path)).channels == "RGB"


def test_an_open_number_of_channels_that_nothing_shows_is_refused(model_of: Any, saved: Any) -> None:
    model = model_of(
        [helper.make_node("GlobalAveragePool", ["x"], ["y"], "y")],
        [("x", FLOAT, ("n", "c", 8, 8))],
        [("y", FLOAT, ("n", "c", 1, 1))],
    )
    refuse(saved(model), "1 or 3 channels is needed", load_classifier)


@pytest.mark.parametrize("version", [1, 3])
def test_constants_that_are_no_inputs_are_read_in_old_files_too(tiny_classifier: Any, saved: Any, version: int) -> None:
    model = tiny_classifier(opset=9)
    expected = load_classifier(saved(model)).graph
    model.ir_version = version
    found = load_classifier(saved(model))
    assert found.graph == expected
    assert found.ir_version == 4


def test_an_input_that_is_also_an_output_does_not_hide_the_shapes(tiny_classifier: Any, saved: Any) -> None:
    model = tiny_classifier(batch="n")
    model.graph.output.append(model.graph.input[0])
    model.graph.output[1].type.tensor_type.shape.dim[0].dim_param = "m"
    assert "multiply-adds" in "\n".join(table_lines(describe(str(saved(model)))))
