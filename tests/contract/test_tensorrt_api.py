"""The builder's use of TensorRT's API, held against the real bindings of every version."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from googlenet_deploy.device.tensorrt.execution import NUMPY_TYPES
from googlenet_deploy.device.tensorrt.names import VERSION_BOUND, Bound, parse_version

onnx = pytest.importorskip("onnx")

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Bindings

HERE = Path(__file__).parent


def expected(bound: Bound, version: tuple[int, ...], *, rtx: bool) -> bool:
    """What VERSION_BOUND says of one version."""
    if rtx:
        return bound.rtx
    return bound.since <= version and (bound.until is None or version < bound.until)


def is_rtx(bindings: Bindings) -> bool:
    return bindings.module == "tensorrt_rtx"


def test_every_version_bound_name_is_where_the_list_says(bindings: Bindings) -> None:
    result = bindings.run(HERE / "probe_names.py")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    version = parse_version(answer["version"])
    wrong = {
        f"{bound.owner}.{bound.name}": answer["names"][f"{bound.owner}.{bound.name}"]
        for bound in VERSION_BOUND
        if answer["names"][f"{bound.owner}.{bound.name}"] != expected(bound, version, rtx=is_rtx(bindings))
    }
    assert wrong == {}
    newer = {"UINT8", "INT64"}  # from 8.5 and 10.0 on
    assert set(NUMPY_TYPES) - newer <= set(answer["types"])
    if version >= (10,):
        assert newer <= set(answer["types"])


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A one-layer network with an LRN, FP32 or with Q/DQ."""
    from onnx import TensorProto, helper

    folder = tmp_path_factory.mktemp("models")

    def make(kind: str) -> Path:
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])
        output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3, 8, 8])
        nodes = [helper.make_node("LRN", ["image"], ["normalised"], name="norm", size=5)]
        constants = []
        if kind == "qdq":
            constants = [
                helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]),
                helper.make_tensor("zero", TensorProto.INT8, [], [0]),
            ]
            nodes += [
                helper.make_node("QuantizeLinear", ["normalised", "scale", "zero"], ["codes"]),
                helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["output"]),
            ]
        else:
            nodes[0].output[0] = "output"
        graph = helper.make_graph(nodes, "g", [image], [output], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
        path = folder / f"{kind}.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return make


def build(bindings: Bindings, model: Path, precision: str, *extra: str) -> dict[str, Any]:
    result = bindings.run(HERE / "probe_builder.py", str(model), precision, ",".join(extra) or "none")
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_builder_uses_only_what_each_version_has(bindings: Bindings, models: Callable[[str], Path]) -> None:
    version = parse_version(bindings.version)
    extra = []
    if is_rtx(bindings):
        extra += ["ahead", "level"]
    else:
        extra += ["level", "hardware", "version"] if version >= (8, 6) else []
        extra += ["strip"] if version >= (10,) else []
    answer = build(bindings, models("fp32"), "", *extra)
    assert answer["memory"] == 4096
    assert answer["layers"] == 1
    assert "SPARSE_WEIGHTS" in answer["flags"]
    assert answer["cleared"] == ["TF32"]
    # TensorRT 10 has WEIGHTLESS as another name of the same enumerator, and prints that.
    assert bool({"STRIP_PLAN", "WEIGHTLESS"} & set(answer["flags"])) == ("strip" in extra)
    strong = is_rtx(bindings) or version >= (11,)
    assert answer["dialect"] == ("strongly typed" if strong else "weakly typed")


def test_precision_flags_and_fp32_lrn(bindings: Bindings, models: Callable[[str], Path]) -> None:
    version = parse_version(bindings.version)
    if is_rtx(bindings) or version >= (11,):
        pytest.skip("strongly typed: there are no flags")
    answer = build(bindings, models("qdq"), "int8")
    assert {"FP16", "INT8", "PREFER_PRECISION_CONSTRAINTS"} <= set(answer["flags"])
    assert answer["layer_precision"].endswith("FLOAT")
    # Explicit batch is required before 10 and is bit 0 there.
    assert answer["network_flags"] == (1 if version < (10,) else 0)


def test_int8_of_qdq_needs_no_flag_where_types_are_strong(bindings: Bindings, models: Callable[[str], Path]) -> None:
    if not is_rtx(bindings) and parse_version(bindings.version) < (11,):
        pytest.skip("weakly typed")
    answer = build(bindings, models("qdq"), "int8")
    assert not {"FP16", "INT8"} & set(answer["flags"])


def test_dla_where_the_version_may_have_one(bindings: Bindings, models: Callable[[str], Path]) -> None:
    version = parse_version(bindings.version)
    if is_rtx(bindings) or (10, 8) <= version < (11, 4) or version >= (11,):
        pytest.skip("no DLA, or strongly typed")
    answer = build(bindings, models("fp32"), "fp16", "dla")
    assert {"GPU_FALLBACK", "FP16"} <= set(answer["flags"])


def test_calibrators_answer_where_there_is_implicit_int8(
    bindings: Bindings, models: Callable[[str], Path], repository: Path
) -> None:
    version = parse_version(bindings.version)
    result = bindings.run(HERE / "probe_calibrator.py")
    if is_rtx(bindings) or version >= (11,):
        assert result.returncode == 3, result.stderr
        assert "implicit INT8 ended with TensorRT 10" in result.stdout
    else:
        assert result.returncode == 0, result.stderr
        answers = json.loads(result.stdout)
        assert answers["bases"] == [True, True]
        assert (answers["cache"], answers["concluded"]) == ("scales", {})
        assert (answers["size"], answers["first"], answers["second"], answers["read"]) == (2, [4096], None, None)
        assert answers["memory"] == ["allocate 8", "copy 4096", "free 4096", "close"]
        assert (answers["facts"]["images"], answers["images"]) == (2, [2])


def test_a_missing_gpu_is_one_clear_error(bindings: Bindings) -> None:
    if is_rtx(bindings):
        pytest.skip("TensorRT-RTX starts without a GPU")
    result = bindings.run(HERE / "probe_no_gpu.py")
    assert result.returncode == 1
    assert "cannot start a builder" in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("interface", ["names", "bindings"])
def test_runner_uses_only_what_each_version_has(bindings: Bindings, interface: str) -> None:
    if interface == "bindings" and (is_rtx(bindings) or parse_version(bindings.version) >= (10,)):
        pytest.skip("TensorRT 10 took the bindings away")
    result = bindings.run(HERE / "probe_runner.py", interface)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    profile = [[1, 3, 8, 8], [2, 3, 8, 8], [4, 3, 8, 8]]
    assert answer["tensors"] == [["input", True, "float32", profile], ["logits", False, "float32", None]]
    assert (answer["shape"], answer["queued"], answer["memory"]) == ([2, 10], True, 4096)
    used = {
        "names": ["execute_async_v3", "get_tensor_shape", "set_input_shape", "set_tensor_address"],
        "bindings": ["execute_async_v2", "get_binding_shape", "set_binding_shape"],
    }
    assert answer["calls"] == used[interface]


NAMES = {bound.name for bound in VERSION_BOUND}
KNOWS_NAMES = ("trt_compat.py", "execution.py", "names.py")  # of device/tensorrt


def test_no_other_file_knows_a_version_bound_name(repository: Path) -> None:
    """`int8_calibrator`, `execute_async_v3` and the like stand in tensorrt/ alone, in three files of it."""
    ambiguous = {"FP16", "INT8", "BF16", "CUDNN", "CUBLAS", "CUBLAS_LT", "precision", "device_memory_size"}
    found = []
    for path in sorted((repository / "googlenet_deploy" / "device").rglob("*.py")):
        if path.parent.name == "tensorrt" and path.name in KNOWS_NAMES:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else None
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                name = node.value
            if name in NAMES - ambiguous:
                found.append(f"{path.name}:{node.lineno}: {name}")
    assert found == []


def test_enumerators_of_other_files_go_through_the_module_of_names(repository: Path) -> None:
    """Outside trt_compat.py nothing imports TensorRT."""
    found = []
    for path in sorted((repository / "googlenet_deploy" / "device").rglob("*.py")):
        if path.name == "trt_compat.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}: {name}" for name in names if name.split(".")[0] in ("tensorrt", "tensorrt_rtx")]
    assert found == []
