from __future__ import annotations

import pytest

from googlenet_deploy.device.builder.failure import build_error, parse_error, remedy
from googlenet_deploy.device.onnx_model.header import Node, OnnxHeader
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.tensorrt.log import BuildLog
from googlenet_deploy.device.tensorrt.trt_compat import ParseProblem
from googlenet_deploy.errors import BadModelError, DeviceError

HEADER = OnnxHeader(
    13, (Node("conv1", "Conv", (), ()), Node("q", "QuantizeLinear", (), ())), (), (), {}, ModelMetadata()
)


def message(*problems: ParseProblem) -> str:
    return parse_error("m.onnx", HEADER, "TensorRT 8.5", list(problems)).message


def test_older_parsers_tell_a_position_newer_ones_a_name() -> None:
    assert message(ParseProblem(0, "", "", "bad\n kernel")) == (
        "m.onnx: TensorRT 8.5 refuses it at node conv1 (Conv): bad kernel"
    )
    assert "at node x (Pad): no (and 1 more errors)" in message(
        ParseProblem(9, "x", "Pad", "no"), ParseProblem(1, "", "", "no")
    )
    assert "at node x: no" in message(ParseProblem(9, "x", "", "no"))
    assert message(ParseProblem(-1, "", "", "no")) == "m.onnx: TensorRT 8.5 refuses it: no"


@pytest.mark.parametrize("text", ["false", "Assertion failed: false"])
def test_an_operator_of_which_the_parser_only_says_false(text: str) -> None:
    refused = parse_error("m.onnx", HEADER, "RTX", [ParseProblem(0, "det1", "Det", text)])
    assert refused.message == (
        f"m.onnx: RTX refuses it at node det1 (Det): Det is unsupported (the parser reports: {text})"
    )
    assert "Det does not exist in this TensorRT" in (refused.remedy or "")
    assert "the operator is unsupported" in message(ParseProblem(-1, "", "", text))


def test_a_refusal_without_a_reason() -> None:
    assert message() == "m.onnx: TensorRT 8.5 refuses it without a reason"


@pytest.mark.parametrize(
    ("text", "operator", "words"),
    [
        ("No importer registered for op: Foo", "Foo", "Foo does not exist in this TensorRT"),
        ("could not find plugin", "", "the operator does not exist"),
        ("must be symmetric", "QuantizeLinear", "quantize --repair"),
        ("Unable to load library: libnvinfer_lean.so.1", "", "leave the option out"),
        ("CHECK(status == CUDA_SUCCESS) failed", "", "--strip-plan and --refit need one"),
        ("Failed to deserialize", "", "check the download"),
        ("anything else", "Conv", "inspect shows the layer"),
    ],
)
def test_remedies(text: str, operator: str, words: str) -> None:
    assert words in remedy(text, operator)


def test_the_log_keeps_each_line_once_and_sorts_by_severity() -> None:
    log = BuildLog()
    assert log.reason == "it reports no reason"
    for severity, text in (
        ("VERBOSE", "ignored"), ("WARNING", "w"), ("ERROR", "first  cause"), ("ERROR", "first cause"),
        ("INTERNAL_ERROR", "second"), ("WARNING", "w"),
    ):  # fmt: skip
        log(severity, text)
    assert (log.errors, log.warnings, log.reason) == (["first cause", "second"], ["w"], "first cause")
    assert not log.out_of_memory


@pytest.mark.parametrize(
    "text", ["Error Code 2: OutOfMemory (no further information)", "std::bad_alloc", "cudaErrorMemoryAllocation"]
)
def test_memory_is_told_from_all_else(text: str) -> None:
    log = BuildLog()
    log("ERROR", text)
    assert isinstance(build_error("m.onnx", "TensorRT", log), DeviceError)
    other = BuildLog()
    other("ERROR", "no implementation")
    assert isinstance(build_error("m.onnx", "TensorRT", other), BadModelError)
