"""Models that were exported in training mode are refused by everything that runs or builds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.onnx_model.header import read_model
from googlenet_deploy.device.onnx_model.training_mode import read_inference_model, training_nodes
from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.errors import BadModelError


def write(folder: Path, nodes: list[Any], opset: int = 17, **constants: Any) -> Path:
    """Input "x", output "y", three classes."""
    values = {"s": np.ones(3, np.float32), "b": np.zeros(3, np.float32), **constants}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def norm(*outputs: str, **attributes: Any) -> Any:
    return helper.make_node("BatchNormalization", ["x", "s", "b", "b", "s"], ["y", *outputs], "bn", **attributes)


@pytest.mark.parametrize(
    ("nodes", "opset", "constants", "named"),
    [
        ([norm("m", "v", training_mode=1)], 17, {}, "bn"),
        ([norm("m", "v")], 9, {}, "bn"),
        ([norm(training_mode=0)], 17, {}, ""),
        ([norm()], 9, {}, ""),
        ([helper.make_node("Dropout", ["x", "r", "t"], ["y"], "drop")], 17, {"r": np.float32(0.5), "t": True}, "drop"),
        ([helper.make_node("Dropout", ["x", "r", "t"], ["y"], "drop")], 17, {"r": np.float32(0.5), "t": False}, ""),
        ([helper.make_node("Dropout", ["x"], ["y"], "drop", ratio=0.5)], 10, {}, ""),
        ([helper.make_node("Dropout", ["x", "r"], ["y"], "drop")], 17, {"r": np.float32(0.5)}, ""),
        (
            [
                helper.make_node("Constant", [], ["t"], "k", value=numpy_helper.from_array(np.array(True))),
                helper.make_node("Dropout", ["x", "", "t"], ["y"], "drop"),
            ],
            17,
            {},
            "drop",
        ),
    ],
)
def test_training_mode_is_found(tmp_path: Path, nodes: list[Any], opset: int, constants: Any, named: str) -> None:
    path = write(tmp_path, nodes, opset, **constants)
    assert [node.label for node in training_nodes(read_model(path).model)] == ([named] if named else [])
    if not named:
        assert read_inference_model(path).content == path.read_bytes()
        return
    for backend in ("auto", "onnxruntime", "openvino"):
        with pytest.raises(BadModelError, match=f"was exported in training mode .*{named}") as caught:
            open_runner(path, backend)
        assert "model.eval()" in (caught.value.remedy or "")


def test_export_writes_the_inference_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conv = helper.make_node("Conv", ["image", "w"], ["c"], "conv")
    nodes = [
        conv,
        helper.make_node("GlobalAveragePool", ["c"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["x"], "flat"),
        helper.make_node("Dropout", ["x", "r", "t"], ["d"], "drop"),
        helper.make_node("BatchNormalization", ["d", "s", "b", "b", "s"], ["y", "m", "v"], "bn", training_mode=1),
    ]
    weight = np.random.default_rng(0).standard_normal((3, 3, 1, 1)).astype(np.float32)
    path = write(tmp_path, nodes, w=weight, r=np.float32(0.5), t=True)
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8]))
    onnx.save(model, path)
    assert main(["export", "--onnx", str(path), "--output", str(tmp_path / "e.onnx")]) == 0
    assert "in training mode: 1 BatchNormalization node (bn)" in capsys.readouterr().out
    image = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    wanted = (image.mean(axis=(2, 3)) @ weight[:, :, 0, 0].T) / np.sqrt(1 + 1e-5)
    with open_runner(tmp_path / "e.onnx", "onnxruntime") as runner:
        assert np.allclose(runner.run(image)["y"], wanted, atol=1e-5)


def test_functions_and_branches_are_looked_into(tmp_path: Path) -> None:
    whole = onnx.load(write(tmp_path, [helper.make_node("Block", ["x", "s", "b"], ["y"], "block", domain="own")]))
    inner = helper.make_node("BatchNormalization", ["a", "c", "d", "d", "c"], ["e", "m", "v"], "inner", training_mode=1)
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    whole.functions.append(helper.make_function("own", "Block", ["a", "c", "d"], ["e"], [inner], sets[:1]))
    del whole.opset_import[:]
    whole.opset_import.extend(sets)
    onnx.save(whole, tmp_path / "function.onnx")
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 3])
    drop = helper.make_graph([helper.make_node("Dropout", ["x", "r", "t"], ["z"], "drop")], "then", [], [out])
    keep = helper.make_graph([helper.make_node("Identity", ["x"], ["z"], "keep")], "else", [], [out])
    node = helper.make_node("If", ["t"], ["y"], "if", then_branch=drop, else_branch=keep)
    branch = write(tmp_path, [node], r=np.float32(0.5), t=True)
    for path, named in ((tmp_path / "function.onnx", "inner"), (branch, "drop")):
        with pytest.raises(BadModelError, match=f"was exported in training mode .*{named}"):
            open_runner(path, "onnxruntime")


def test_a_mode_that_a_function_is_called_with_is_not_guessed(tmp_path: Path) -> None:
    nodes = [helper.make_node("Block", ["x", "r", "t"], ["y"], "block", domain="own")]
    whole = onnx.load(write(tmp_path, nodes, r=np.float32(0.5), t=False))
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    inner = [helper.make_node("Dropout", ["a", "c", "d"], ["e"], "drop")]
    whole.functions.append(helper.make_function("own", "Block", ["a", "c", "d"], ["e"], inner, sets[:1]))
    del whole.opset_import[:]
    whole.opset_import.extend(sets)
    onnx.save(whole, tmp_path / "m.onnx")
    assert list(training_nodes(read_model(tmp_path / "m.onnx").model)) == []
