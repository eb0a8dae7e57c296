from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner
from googlenet_deploy.device.runner.protocol import TensorSpec, run_any_batch
from googlenet_deploy.errors import BadModelError, DeviceError

FLOAT = TensorProto.FLOAT


def write(path: Path, inputs: Any, nodes: Any = None, outputs: Any = None) -> Path:
    """A model of (name, type, shape) inputs that by default hands its first input on."""
    nodes = nodes or [helper.make_node("Identity", [inputs[0][0]], ["y"])]
    outputs = outputs or [("y", *inputs[0][1:])]
    values = [[helper.make_tensor_value_info(*value) for value in group] for group in (inputs, outputs)]
    model = helper.make_model(helper.make_graph(nodes, "test", *values), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    return path


def refuse(path: Path, words: str) -> None:
    with pytest.raises(BadModelError, match=words) as caught:
        OnnxRuntimeRunner(path)
    assert caught.value.path == str(path)
    assert "\n" not in caught.value.message


def test_what_a_model_says_about_itself(colour_model: Path) -> None:
    with OnnxRuntimeRunner(colour_model, threads=1) as runner:
        assert runner.path == str(colour_model)
        assert runner.input == TensorSpec("x", (None, 3, 8, 8), "float32")
        assert runner.outputs == (TensorSpec("logits", (None, 3), "float32"),)
        assert runner.metadata.class_names == ("red", "green", "blue")
        assert runner.backend.startswith("ONNX Runtime ")
        assert runner.backend.endswith("(CPU)")
        assert runner.device == "CPU"


def test_outputs_by_name(colour_model: Path) -> None:
    batch = np.zeros((2, 3, 8, 8), np.float32)
    batch[0, 1], batch[1, 2] = 1.0, 0.5
    with OnnxRuntimeRunner(colour_model) as runner:
        np.testing.assert_allclose(runner.run(batch)["logits"], [[0, 10, 0], [0, 0, 5]])


def test_fixed_sizes_and_other_types_are_told(colour_classifier: Callable[..., Path], tmp_path: Path) -> None:
    path = colour_classifier(tmp_path / "m.onnx", batch=4, uint8=True)
    assert OnnxRuntimeRunner(path).input == TensorSpec("x", (4, 8, 8, 3), "uint8")


def test_minus_one_is_an_open_dimension(colour_model: Path, tmp_path: Path) -> None:
    model = onnx.load(colour_model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert OnnxRuntimeRunner(tmp_path / "m.onnx").input.shape == (None, 3, 8, 8)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "none.onnx", "cannot be read: no such file or directory")
    refuse(tmp_path, "cannot be read: is a directory")
    path = tmp_path / "m.onnx"
    for content, words in ((b"", "is empty"), (b"text", "is not an ONNX model"), (b"\0" * 99, "is not an ONNX model")):
        path.write_bytes(content)
        refuse(path, words)


IMAGE = ("image", FLOAT, ["n", 3, 8, 8])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([IMAGE, ("mask", FLOAT, ["n", 1, 8, 8])], "has one input, this model has 2: image, mask"),
        ([("x", FLOAT, [1, 10])], "x does not accept images: it has the shape"),
        ([("x", FLOAT, [3, 8, 8])], "x does not accept images: it has the shape"),
    ],
)
def test_models_that_do_not_take_one_batch_of_images_are_refused(inputs: Any, words: str, tmp_path: Path) -> None:
    refuse(write(tmp_path / "m.onnx", inputs), words)


def test_unknown_operators_are_refused(tmp_path: Path) -> None:
    refuse(write(tmp_path / "m.onnx", [IMAGE], [helper.make_node("Nonsense", ["image"], ["y"])]), "refuses it")


def test_a_run_that_fails_is_one_error_and_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    reshape = [
        helper.make_node("Constant", [], ["shape"], value=helper.make_tensor("s", TensorProto.INT64, [2], [7, -1])),
        helper.make_node("Reshape", ["image", "shape"], ["y"]),
    ]
    path = write(tmp_path / "m.onnx", [("image", FLOAT, ["n", 3, "h", "w"])], reshape, [("y", FLOAT, ["a", "b"])])
    with OnnxRuntimeRunner(path) as runner, pytest.raises(BadModelError, match="ONNX Runtime cannot run it"):
        runner.run(np.zeros((1, 3, 5, 5), np.float32))
    assert capfd.readouterr() == ("", "")


def test_a_provider_that_is_not_there_is_said(colour_model: Path, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(DeviceError, match=r"no MoonExecutionProvider here; it has .*CPUExecutionProvider"):
        OnnxRuntimeRunner(colour_model, providers=["MoonExecutionProvider", "CPUExecutionProvider"])
    assert not recwarn


@pytest.mark.parametrize("name", [b"preprocessing", b"class_names", b"red"])
def test_text_that_is_not_utf8_is_refused(name: bytes, colour_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(colour_model.read_bytes().replace(name, b"\xff\xfe" + name[2:]))
    refuse(path, "damaged")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_bytes_are_refused_or_run(colour_model: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(colour_model.read_bytes())
    del content[data.draw(st.integers(0, len(content))) if data.draw(st.booleans()) else len(content) :]
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.onnx"
    path.write_bytes(bytes(content))
    with contextlib.suppress(BadModelError), OnnxRuntimeRunner(path, threads=1) as runner:
        shape = [2 if size is None else size for size in runner.input.shape]
        if runner.input.dtype == "float32" and np.prod(shape) < 1e6:
            run_any_batch(runner, np.zeros((2, *shape[1:]), np.float32))
