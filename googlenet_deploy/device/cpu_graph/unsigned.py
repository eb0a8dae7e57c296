"""The codes of activations as uint8 with zero point 128 instead of int8 with zero point 0: the same values.

OpenVINO (2026.4) computes signed activations wrongly where a Concat is quantised: GoogLeNet's logits then have an SQNR
of 11 dB against ONNX Runtime's, and 31 dB with unsigned ones, which is what rounding alone makes.
"""

from __future__ import annotations

import numpy as np

from googlenet_deploy.device.cpu_graph.weights import scalar_scale
from googlenet_deploy.device.onnx_model.edit import EditableGraph

ZERO_POINT = 128
_NAME = "unsigned/zero_point"


def make_activations_unsigned(graph: EditableGraph) -> int:
    """Changes every Q/DQ pair that has one scale and does not belong to a constant; gives how many nodes."""
    producers = graph.producers()
    graph.add_constant(_NAME, np.array(ZERO_POINT, np.uint8))
    changed = 0
    for item in graph.nodes:
        if item.operator not in ("QuantizeLinear", "DequantizeLinear") or graph.is_constant(item.inputs[0]):
            continue
        source = producers.get(item.inputs[0])
        weights = source is not None and source.operator == "QuantizeLinear" and graph.is_constant(source.inputs[0])
        if not weights and scalar_scale(graph, item) is not None:
            item.inputs[2] = _NAME
            changed += 1
    return changed
