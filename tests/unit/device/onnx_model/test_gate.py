"""What the gate refuses before any library sees it, and what it lets pass."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import small_model
from small_nets import build_net

from googlenet_deploy.device.onnx_model.header import model_sha256, parse_onnx, read_model
from googlenet_deploy.device.onnx_model.messages import parse_model
from googlenet_deploy.device.onnx_model.operators import NEWEST_IR_VERSION, NEWEST_OPSET, arity_of, attribute_kinds
from googlenet_deploy.device.onnx_model.scales import scale_problems
from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.errors import BadModelError

Change = Callable[[Any], None]


def net(folder: Path, *, quantized: bool = False) -> Any:
    return onnx.load(str(build_net(folder / "net.onnx", quantized=quantized)))


def refuse(model: Any, words: str) -> None:
    with pytest.raises(BadModelError, match=words) as caught:
        parse_onnx(model.SerializeToString(), "bad.onnx")
    assert caught.value.message.startswith("bad.onnx: ")
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 700


def test_the_arities_are_those_of_onnx() -> None:
    assert (onnx.defs.onnx_opset_version(), onnx.IR_VERSION) == (NEWEST_OPSET, NEWEST_IR_VERSION)
    unlimited = 2**31 - 1
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain:
            continue
        arity = arity_of(schema.name, schema.since_version)
        if schema.deprecated:
            assert arity is None, schema.name
            continue
        assert arity is not None, schema.name
        for (least, most), stated in (
            (arity.inputs, (schema.min_input, schema.max_input)),
            (arity.outputs, (schema.min_output, schema.max_output)),
        ):
            assert (least, unlimited if most is None else most) == stated, schema.name
        required = sorted(name for name, attribute in schema.attributes.items() if attribute.required)
        assert sorted(arity.required) == required, schema.name
        for name, attribute in schema.attributes.items():
            assert int(attribute.type.value) in attribute_kinds(name), (schema.name, name)


class TestGraph:
    def cycle(self, model: Any) -> None:
        model.graph.node[0].input[0] = model.graph.node[-2].output[0]

    def self_loop(self, model: Any) -> None:
        model.graph.node[1].input[0] = model.graph.node[1].output[0]

    def unsorted(self, model: Any) -> None:
        model.graph.node.append(model.graph.node[0])
        del model.graph.node[0]

    def missing(self, model: Any) -> None:
        model.graph.node[2].input[0] = "nowhere"

    def twice(self, model: Any) -> None:
        model.graph.node[2].output[0] = model.graph.node[1].output[0]

    def shadowed(self, model: Any) -> None:
        model.graph.node[2].output[0] = model.graph.initializer[0].name

    def output(self, model: Any) -> None:
        model.graph.output[0].name = "other"

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("cycle", "has a cycle: node a/conv reads"),
            ("self_loop", "has a cycle: node a reads a"),
            ("unsorted", "nodes are not sorted: node a reads a/conv before it is made"),
            ("missing", "node n reads nowhere, which nothing makes"),
            ("twice", "is made twice"),
            ("shadowed", "is made twice"),
            ("output", "nothing makes the output other"),
        ],
    )
    def test_edges(self, tmp_path: Path, change: str, words: str) -> None:
        model = net(tmp_path)
        getattr(self, change)(model)
        refuse(model, words)

    def test_a_cycle_inside_a_branch(self, tmp_path: Path) -> None:
        model = net(tmp_path)
        nodes = [helper.make_node("Relu", ["v"], ["u"], "first"), helper.make_node("Relu", ["u"], ["v"], "second")]
        branch = helper.make_graph(nodes, "b", [], [helper.make_tensor_value_info("v", 1, None)])
        model.graph.node.append(helper.make_node("If", ["fc/b"], ["z"], "if", then_branch=branch, else_branch=branch))
        refuse(model, "has a cycle: node first reads v")

    def test_branches_deeper_than_any_model_has(self, tmp_path: Path) -> None:
        model = net(tmp_path)
        graph = helper.make_graph([helper.make_node("Relu", ["a"], ["v"])], "b", [], [])
        for _ in range(20):
            graph = helper.make_graph([helper.make_node("If", ["a"], ["v"], then_branch=graph)], "b", [], [])
        model.graph.node.append(graph.node[0])
        refuse(model, "is not an ONNX model")

    @pytest.mark.parametrize(
        ("operator", "count", "words"),
        [("Pad", 0, "has 0 inputs"), ("Conv", 1, "has 1 inputs; 2 to 3"), ("Relu", 2, "has 2 inputs; 1 are right")],
    )
    def test_arities(self, tmp_path: Path, operator: str, count: int, words: str) -> None:
        model = net(tmp_path)
        node = model.graph.node[1]
        node.op_type = operator
        node.input[:] = ["x"] * count
        refuse(model, f"node a {words}")

    def test_a_needed_attribute_that_is_left_out(self, tmp_path: Path) -> None:
        model = net(tmp_path)
        node = next(node for node in model.graph.node if node.op_type == "LRN")
        kept = [item for item in node.attribute if item.name != "size"]
        del node.attribute[:]
        node.attribute.extend(kept)
        refuse(model, "node n lacks the attribute size, which LRN needs")

    def test_attributes_of_another_type(self, tmp_path: Path) -> None:
        model = net(tmp_path, quantized=True)
        node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.attribute)
        node.attribute[0].CopyFrom(helper.make_attribute("axis", [0, 1]))
        refuse(model, "axis has a type that it never has")
        node.attribute[0].type = onnx.AttributeProto.INT
        refuse(model, "axis has a value of another type than it states")

    def test_a_needed_input_that_is_left_out(self, tmp_path: Path) -> None:
        model = net(tmp_path)
        model.graph.node[0].input[1] = ""
        refuse(model, "node a/conv lacks an input that Conv needs")


class TestFunctions:
    def calling(self, model: Any, calls: dict[str, list[str]]) -> Any:
        for name, called in calls.items():
            function = model.functions.add(name=name, domain="d", input=["a"], output=["b"])
            function.opset_import.add(domain="d", version=1)
            for index, other in enumerate(called):
                last = index == len(called) - 1
                function.node.add(
                    op_type=other, domain="d" if other[0] == "F" else "",
                    input=["a" if index == 0 else f"t{index - 1}"], output=["b" if last else f"t{index}"],
                )  # fmt: skip
        model.opset_import.add(domain="d", version=1)
        model.graph.node.insert(0, helper.make_node("F0", ["x"], ["called"], "call", domain="d"))
        model.graph.node[1].input[0] = "called"
        return model

    @pytest.mark.parametrize("calls", [{"F0": ["F0"]}, {"F0": ["F1"], "F1": ["F2"], "F2": ["Relu", "F0"]}])
    def test_recursion(self, tmp_path: Path, calls: dict[str, list[str]]) -> None:
        refuse(self.calling(net(tmp_path), calls), r"the function d:F\d calls itself")

    def test_expansion_without_end(self, tmp_path: Path) -> None:
        calls = {f"F{index}": [f"F{index + 1}"] * 2 for index in range(40)} | {"F40": ["Relu"]}
        refuse(self.calling(net(tmp_path), calls), "more than 200000 nodes")

    def test_functions_that_end_pass(self, tmp_path: Path) -> None:
        model = self.calling(net(tmp_path), {"F0": ["F1", "Relu"], "F1": ["Neg"]})
        assert parse_onnx(model.SerializeToString(), "m").nodes[0].operator == "d:F0"


class TestSizes:
    @pytest.mark.parametrize("opset", [0, 6, 29, 2**31, 2**63 - 1, -1])
    def test_opsets(self, tmp_path: Path, opset: int) -> None:
        model = net(tmp_path)
        model.opset_import[0].version = opset
        refuse(model, f"has opset {opset}; 7 to 28 can be read" if opset else "is not an ONNX model")

    def test_an_opset_of_another_domain(self, tmp_path: Path) -> None:
        model = net(tmp_path)
        model.opset_import.add(domain="com.microsoft", version=2**62)
        refuse(model, f"has opset {2**62} of com.microsoft")

    @pytest.mark.parametrize(
        ("dims", "words"),
        [
            ([2**40], "impossible dimension"),
            ([1, 3, 2**20, 2**20], "impossible size"),
            ([1] * 40, "40 dimensions"),
        ],
    )
    def test_inputs(self, tmp_path: Path, dims: list[int], words: str) -> None:
        model = net(tmp_path)
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", 1, dims))
        refuse(model, words)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("kernel_shape", [2**40, 3]),
            ("pads", [9000] * 4),
            ("pads", [300] * 4),
            ("dilations", [0, 1]),
            ("group", 2**40),
        ],
    )
    def test_attributes(self, tmp_path: Path, name: str, value: Any) -> None:
        model = net(tmp_path)
        node = model.graph.node[0]
        kept = [item for item in node.attribute if item.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])
        refuse(model, "node a/conv: its (padding|" + name + ")")

    def test_constants(self, tmp_path: Path) -> None:
        for change, words in (
            (lambda tensor: tensor.dims.__setitem__(0, 9), "needs 972"),
            (lambda tensor: tensor.dims.__setitem__(0, -8), "impossible shape"),
            (lambda tensor: tensor.dims.extend([2**31, 2**31]), "impossible shape"),
            (lambda tensor: setattr(tensor, "data_type", 11), "has 864 bytes; its shape .* needs 1728"),
            (lambda tensor: setattr(tensor, "data_type", 99), "unknown type"),
            (lambda tensor: tensor.float_data.append(1.0), "has its values twice"),
            (lambda tensor: tensor.ClearField("raw_data"), "has 0 values"),
        ):
            model = net(tmp_path)
            change(model.graph.initializer[0])
            refuse(model, words)

    @pytest.mark.parametrize(("dtype", "stored"), [("float32", True), ("float16", True), ("float64", False)])
    def test_constants_that_are_not_numbers(self, tmp_path: Path, dtype: str, stored: bool) -> None:
        model = net(tmp_path)
        values = np.array([1, np.nan, -np.inf], dtype)
        tensor = numpy_helper.from_array(values, "odd")
        if not stored:
            tensor = helper.make_tensor("odd", TensorProto.DOUBLE, (3,), values.tolist())
        model.graph.initializer.append(tensor)
        refuse(model, r"the constant odd contains values that are not numbers \(NaN\)")
        tensor.CopyFrom(numpy_helper.from_array(np.array([np.inf, -np.inf, 0], dtype), "odd"))
        model.graph.initializer[-1].CopyFrom(tensor)
        parse_onnx(model.SerializeToString(), "a mask of infinities passes")

    @pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "int8", "uint8", "bool", "int32"])
    def test_constants_stored_as_numbers_pass(self, tmp_path: Path, dtype: str) -> None:
        model = net(tmp_path)
        values = np.arange(6).reshape(2, 3).astype(dtype)
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        model.graph.initializer.append(helper.make_tensor("numbers", kind, (2, 3), values.ravel().tolist()))
        parsed = parse_model(model.SerializeToString())
        parse_onnx(model.SerializeToString(), "m")
        from googlenet_deploy.device.onnx_model.messages import values_of

        assert parsed.graph is not None
        stored = values_of(parsed.graph.initializers[-1])
        assert stored is not None
        np.testing.assert_array_equal(stored, values)
        assert stored.dtype == values.dtype

    def test_a_preprocessing_larger_than_the_input(self) -> None:
        model = small_model()
        for entry in model.metadata_props:
            if entry.key.endswith("preprocessing"):
                values = {**json.loads(entry.value), "crop": [4096, 4096], "resize": 4096}
                entry.value = json.dumps(values)
        refuse(model, r"its input accepts \(.*8, 8\), but the preprocessing in its metadata makes \(3, 4096, 4096\)")


def scale_of(model: Any, name: str) -> Any:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


class TestScales:
    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("n/scale", np.float32(0), "its scale n/scale is 0"),
            ("n/scale", np.float32(-0.5), "is negative"),
            ("n/scale", np.float32("nan"), "is not finite"),
            ("n/scale", np.full((1, 1), 0.1, np.float32), r"has the shape \(1, 1\)"),
            ("a/w/scale", np.array([0.1] * 7 + [0], np.float32), "is 0"),
            ("a/w/scale", np.full(7, 0.1, np.float32), r"has the shape \(7,\), and its zero point \(8,\)"),
            ("a/w/zero", np.zeros(3, np.int8), r"its zero point \(3,\)"),
        ],
    )
    def test_what_makes_no_sense_is_found_once(self, tmp_path: Path, name: str, value: Any, words: str) -> None:
        model = net(tmp_path, quantized=True)
        scale_of(model, name).CopyFrom(numpy_helper.from_array(np.asarray(value), name))
        refuse(model, words)
        path = tmp_path / "bad.onnx"
        onnx.save(model, str(path))
        for backend in ("onnxruntime", "openvino"):
            with pytest.raises(BadModelError, match=words):
                open_runner(path, backend)
        if np.isfinite(value).all():  # other values than numbers are refused before a repair could see them
            assert read_model(path, repairable=True).model.graph is not None

    def test_an_axis_that_is_gone(self, tmp_path: Path) -> None:
        model = net(tmp_path, quantized=True)
        node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.attribute)
        del node.attribute[:]
        refuse(model, "has 8 values, and axis 1 has 3 channels")

    def test_what_repair_can_fix_is_marked(self, tmp_path: Path) -> None:
        model = net(tmp_path, quantized=True)
        scale_of(model, "n/scale").CopyFrom(numpy_helper.from_array(np.float32(0), "n/scale"))
        problems = list(scale_problems(parse_model(model.SerializeToString())))
        assert [(problem.tensor, problem.zero) for problem in problems] == [("n/scale", True), ("n/scale", True)]

    def test_valid_models_have_no_problem(self, tmp_path: Path) -> None:
        for stored in (False, True):
            path = build_net(tmp_path / "q.onnx", quantized=True, stored=stored)
            assert list(scale_problems(read_model(path).model)) == []


class TestExternalData:
    @pytest.fixture
    def split(self, tmp_path: Path) -> Path:
        model = net(tmp_path)
        folder = tmp_path / "model"
        folder.mkdir()
        onnx.save(model, str(folder / "m.onnx"), save_as_external_data=True, location="m.onnx.data", size_threshold=16)
        return folder / "m.onnx"

    def answer(self, path: Path, backend: str) -> Any:
        image = np.random.default_rng(7).standard_normal((1, 3, 16, 16)).astype(np.float32)
        with open_runner(path, backend) as runner:
            return runner.run(image)["logits"]

    @pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "auto"])
    def test_the_answer_is_the_whole_models_from_any_folder(
        self, split: Path, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wanted = self.answer(tmp_path / "net.onnx", "onnxruntime")
        other = tmp_path / "other"
        other.mkdir()
        # A file of the same name in the current folder is not the model's.
        (other / "m.onnx.data").write_bytes(os.urandom((split.parent / "m.onnx.data").stat().st_size))
        for folder in (tmp_path, other, split.parent):
            monkeypatch.chdir(folder)
            path = Path(os.path.relpath(split, folder))
            np.testing.assert_allclose(self.answer(path, backend), wanted, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
    def test_replaced_data_is_another_model(self, split: Path, backend: str) -> None:
        before, digest = self.answer(split, backend), model_sha256(split)
        data = split.parent / "m.onnx.data"
        data.write_bytes((np.frombuffer(data.read_bytes(), np.float32) * np.float32(0.5)).tobytes())
        assert np.abs(self.answer(split, backend) - before).max() > 1e-3
        assert model_sha256(split) != digest

    def test_what_is_missing_or_short_or_outside(self, split: Path) -> None:
        data = split.parent / "m.onnx.data"
        content = data.read_bytes()
        data.write_bytes(content[:-8])
        with pytest.raises(BadModelError, match=r"m\.onnx: its external data m\.onnx\.data is too short for tensor"):
            read_model(split)
        data.unlink()
        with pytest.raises(BadModelError, match=r"m\.onnx\.data cannot be read: no such file"):
            read_model(split)
        outside = split.parent.parent / "m.onnx.data"
        outside.write_bytes(content)
        data.symlink_to(outside)
        with pytest.raises(BadModelError, match="outside the model's folder"):
            read_model(split)
        data.unlink()
        os.mkfifo(data)
        with pytest.raises(BadModelError, match="is not a file"):
            read_model(split)

    def test_a_constant_inside_a_node(self, split: Path, tmp_path: Path) -> None:
        values = np.arange(4, dtype=np.float32)
        (split.parent / "c.bin").write_bytes(values.tobytes())
        model = onnx.load(str(split), load_external_data=False)
        tensor = TensorProto(name="c", dims=[4], data_type=1, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="c.bin")
        model.graph.node.insert(0, helper.make_node("Constant", [], ["constant"], value=tensor))
        split.write_bytes(model.SerializeToString())
        whole = onnx.load_from_string(read_model(split).content)
        np.testing.assert_array_equal(numpy_helper.to_array(whole.graph.node[0].attribute[0].t), values)
        onnx.checker.check_model(whole)


@pytest.mark.parametrize("size", [-1, 0, -7])
def test_a_dimension_below_one_is_open(tmp_path: Path, size: int) -> None:
    model = net(tmp_path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    path = tmp_path / "open.onnx"
    path.write_bytes(model.SerializeToString())
    file = read_model(path)
    assert file.header.inputs[0].shape == (None, 3, 16, 16)
    assert file.header.dynamic_batch
    whole = onnx.load_from_string(file.content)
    assert not whole.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")
    image = np.random.default_rng(7).standard_normal((3, 3, 16, 16)).astype(np.float32)
    for backend in ("onnxruntime", "openvino"):
        with open_runner(path, backend) as runner:
            assert runner.batch_range == (1, None)
            assert runner.run(image)["logits"].shape == (3, 4)


def test_open_height_and_width(tmp_path: Path) -> None:
    model = net(tmp_path)
    for index in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[index].Clear()
    path = tmp_path / "open.onnx"
    path.write_bytes(model.SerializeToString())
    for side in (16, 24):
        image = np.random.default_rng(7).standard_normal((2, 3, side, side)).astype(np.float32)
        answers = []
        for backend in ("onnxruntime", "openvino"):
            with open_runner(path, backend) as runner:
                answers.append(runner.run(image)["logits"])
        np.testing.assert_allclose(answers[0], answers[1], rtol=1e-4, atol=1e-5)
