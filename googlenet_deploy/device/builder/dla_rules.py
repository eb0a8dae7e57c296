"""Which layers of a model a deep learning accelerator (DLA) supports, by NVIDIA's rules, without a device.

Rules: TensorRT developer guide, "Working with DLA", supported layers and restrictions. On the device itself TensorRT's
``can_run_on_DLA`` is used instead.
"""

from __future__ import annotations

from typing import FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from googlenet_deploy.device.onnx_model.header import Node, OnnxHeader

_LARGEST_WINDOW = {"Conv": 32, "MaxPool": 8, "AveragePool": 8}
LRN_WINDOWS = (3, 5, 7, 9)
_ORIN = (8, 7)
# Fused into the layers around them, or only a change of type.
_FREE = ("Relu", "Identity", "Dropout", "QuantizeLinear", "DequantizeLinear")
_TAKEN = ("Add", "Concat", "BatchNormalization", "Sigmoid", "Tanh", "LeakyRelu", "Clip", "ConvTranspose")
_REFUSED = {
    "GlobalAveragePool": "has no DLA form; export --average-pool writes one with a window",
    "Flatten": "has no DLA form",
    "Gemm": "has no DLA form; export --conv-classifier writes a 1x1 convolution",
    "MatMul": "has no DLA form; a 1x1 convolution has",
}


class Placement(NamedTuple):
    """Where a node runs.

    Attributes:
        name: The node's name, or its operator if it has no name.
        operator: Its operator.
        reason: Why it runs on the GPU; "" if the DLA supports it.
    """

    name: str
    operator: str
    reason: str


def dla_placements(
    header: OnnxHeader, capability: Optional[Tuple[int, int]], fp32: Sequence[str] = ()
) -> List[Placement]:
    """Where every node would run.

    Args:
        header: The model.
        capability: The module's compute capability, which determines the generation of its DLA; None if unknown.
        fp32: Operators and nodes that are kept in FP32.
    """
    kept = frozenset(fp32)
    return [
        Placement(node.name or node.operator, node.operator, _reason(node, capability, kept)) for node in header.nodes
    ]


def _reason(node: Node, capability: Optional[Tuple[int, int]], fp32: FrozenSet[str]) -> str:
    if {node.name, node.operator} & fp32:
        return "is kept in FP32, which a DLA does not have (--keep-fp32 '')"
    if node.operator in _FREE or node.operator in _TAKEN:
        return ""
    if node.operator in _LARGEST_WINDOW:
        return _window(node.ints("kernel_shape"), _LARGEST_WINDOW[node.operator])
    if node.operator == "LRN":
        size = (*node.ints("size"), 0)[0]
        return "" if size in LRN_WINDOWS else f"its window of {size} is none of 3, 5, 7, 9"
    if node.operator == "Softmax":
        return "" if capability is not None and capability >= _ORIN else "only the DLA of Orin has it"
    return _REFUSED.get(node.operator, "is not among the layers that a DLA supports")


def _window(sizes: Tuple[int, ...], largest: int) -> str:
    if all(1 <= size <= largest for size in sizes):
        return ""
    return f"its window of {'x'.join(map(str, sizes))} exceeds {largest}"


def placement_lines(placements: List[Placement]) -> List[str]:
    """The coverage as text: one line with the total, then the nodes that run on the GPU."""
    left = [entry for entry in placements if entry.reason]
    lines = [f"the DLA supports {len(placements) - len(left)} of {len(placements)} nodes"]
    return lines + [f"  on the GPU: {entry.name} ({entry.operator}): {entry.reason}" for entry in left]
