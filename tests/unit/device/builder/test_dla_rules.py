from __future__ import annotations

import pytest

from googlenet_deploy.device.builder.dla_rules import dla_placements, placement_lines
from googlenet_deploy.device.onnx_model.header import Node, OnnxHeader
from googlenet_deploy.device.onnx_model.messages import Value
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata

XAVIER, ORIN = (7, 2), (8, 7)


def reason(operator: str, capability: tuple[int, int] | None = XAVIER, **integers: tuple[int, ...]) -> str:
    node = Node("n", operator, ("x",), ("y",), tuple(integers.items()))
    image = Value("x", "float32", (1, 3, 8, 8))
    header = OnnxHeader(13, (node,), (image,), (), {}, ModelMetadata())
    (placement,) = dla_placements(header, capability)
    assert (placement.name, placement.operator) == ("n", operator)
    return placement.reason


@pytest.mark.parametrize(
    ("operator", "integers"),
    [
        ("Conv", {"kernel_shape": (32, 1)}),
        ("MaxPool", {"kernel_shape": (8, 8)}),
        ("AveragePool", {"kernel_shape": (7, 7)}),
        ("LRN", {"size": (9,)}),
        ("Concat", {}),
        ("Relu", {}),
    ],
)
def test_taken(operator: str, integers: dict[str, tuple[int, ...]]) -> None:
    assert reason(operator, **integers) == ""


@pytest.mark.parametrize(
    ("operator", "integers", "words"),
    [
        ("Conv", {"kernel_shape": (33, 3)}, "window of 33x3 exceeds 32"),
        ("MaxPool", {"kernel_shape": (9, 9)}, "exceeds 8"),
        ("LRN", {"size": (11,)}, "none of 3, 5, 7, 9"),
        ("LRN", {}, "window of 0"),
        ("GlobalAveragePool", {}, "--average-pool"),
        ("Flatten", {}, "no DLA form"),
        ("Gemm", {}, "1x1 convolution"),
        ("TopK", {}, "not among the layers"),
    ],
)
def test_left_to_the_gpu(operator: str, integers: dict[str, tuple[int, ...]], words: str) -> None:
    assert words in reason(operator, **integers)


def test_softmax_depends_on_the_generation() -> None:
    assert reason("Softmax", ORIN) == ""
    assert reason("Softmax", XAVIER) == reason("Softmax", None) == "only the DLA of Orin has it"


def test_lines_count_and_name() -> None:
    nodes = (Node("conv", "Conv", ("x",), ("y",)), Node("", "Flatten", ("y",), ("z",)))
    header = OnnxHeader(13, nodes, (Value("x", "float32", (1, 3, 8, 8)),), (), {}, ModelMetadata())
    assert placement_lines(dla_placements(header, XAVIER)) == [
        "the DLA supports 1 of 2 nodes",
        "  on the GPU: Flatten (Flatten): has no DLA form",
    ]
