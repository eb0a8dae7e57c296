"""Models that take float16 or float64 images: they are prepared as float32, and every runner converts them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.runner.protocol import TensorSpec, check_shape
from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.errors import UsageError

TYPES = {"float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}


def converted(source: Path, path: Path, dtype: str) -> Path:
    """The colour classifier with every float32 value of another type."""
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.elem_type = TYPES[dtype]
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(  # ONNX Runtime has no pooling in float64
    ("backend", "dtype"), [("onnxruntime", "float16"), ("openvino", "float16"), ("openvino", "float64")]
)
def test_they_answer_what_the_float32_model_answers(
    colour_model: Path, tmp_path: Path, backend: str, dtype: str
) -> None:
    pytest.importorskip(backend)
    path = converted(colour_model, tmp_path / "typed.onnx", dtype)
    images = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
    with open_runner(str(colour_model), "onnxruntime") as plain, open_runner(str(path), backend, batch=5) as runner:
        check_shape(runner, images)
        assert runner.input.dtype == dtype
        scores, wanted = runner.run(images)["logits"], plain.run(images)["logits"]
    np.testing.assert_allclose(scores, wanted, rtol=4e-3 if dtype == "float16" else 1e-5)
    assert (scores.argmax(axis=1) == wanted.argmax(axis=1)).all()


def test_the_commands_take_them(
    colour_model: Path, colour_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = converted(colour_model, tmp_path / "half.onnx", "float16")
    words = [str(path), "--backend", "onnxruntime"]
    assert main(["infer", str(path), str(colour_images), "--backend", "onnxruntime", "--top", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Path(line).stem for line in lines[::2]] == [line.split()[1] for line in lines[1::2]]
    brief = ["--rounds", "2", "--seconds", "0", "--min-runs", "2", "--warm-up", "0", "--no-trtexec", "--quiet"]
    assert main(["benchmark", *words, *brief]) == 0


@pytest.mark.parametrize("dtype", TYPES)
def test_preprocessing_is_stored_in_models_that_no_session_runs(colour_model: Path, tmp_path: Path, dtype: str) -> None:
    path, plain = converted(colour_model, tmp_path / "typed.onnx", dtype), tmp_path / "plain.onnx"
    stated = ["--crop", "8", "--mean", "0,0,0", "--std", "1,1,1", "--resize", "8", "--quiet"]
    assert main(["export", "--onnx", str(path), *stated, "--output", str(plain)]) == 0
    model = onnx.load(plain)
    assert {value.type.tensor_type.elem_type for value in [*model.graph.input, *model.graph.output]} == {
        TensorProto.FLOAT
    }


@pytest.mark.parametrize(("model", "images"), [("int32", "float32"), ("float16", "uint8"), ("uint8", "float32")])
def test_other_types_are_not_converted(
    colour_classifier: Callable[..., Path], tmp_path: Path, model: str, images: str
) -> None:
    with open_runner(str(colour_classifier(tmp_path / "m.onnx")), "onnxruntime") as runner:
        runner.input = TensorSpec("x", (None, 3, 8, 8), model)
        with pytest.raises(UsageError, match=f"accepts images as {model}"):
            check_shape(runner, np.zeros((1, 3, 8, 8), images))
