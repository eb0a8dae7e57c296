"""What the convolutions and matrix products of an ONNX model compute in, and why some do not in INT8."""

from __future__ import annotations

import json
from collections.abc import Sequence

from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.export.costs import NodeCost
from googlenet_deploy.export.summary import element_type


def layer_type(layer: NodeCost) -> str:
    """The type that a layer computes in: "int8" between Q/DQ pairs, else its output's."""
    if layer.quantized:
        return "int8"
    return element_type(layer.element_type) if layer.element_type else "?"


def work_by_type(layers: Sequence[NodeCost]) -> dict[str, float]:
    """Share of the multiply-adds by type, the largest first; empty for a model without any."""
    total = sum(layer.multiply_adds for layer in layers)
    sums: dict[str, float] = {}
    for layer in layers:
        if layer.multiply_adds:
            kind = layer_type(layer)
            sums[kind] = sums.get(kind, 0.0) + layer.multiply_adds / total
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def float_layers(layers: Sequence[NodeCost], metadata: ModelMetadata) -> dict[str, str]:
    """Layers with multiply-adds that a quantised model leaves in floating point, each with the reason.

    The reason is what `quantize` wrote down; of other tools' models only what can be seen.
    """
    if not any(layer.quantized for layer in layers):
        return {}
    stated = _stated_reasons(metadata)
    seen = "no Q/DQ pair stands ahead of its input, its weights or both"
    return {layer.name: stated.get(layer.name, seen) for layer in layers if layer.multiply_adds and not layer.quantized}


def _stated_reasons(metadata: ModelMetadata) -> dict[str, str]:
    try:
        record = json.loads(metadata.extra.get("quantization", "{}"))
    except ValueError:
        return {}
    nodes = record.get("float_nodes") if isinstance(record, dict) else None
    return {str(name): str(why) for name, why in nodes.items()} if isinstance(nodes, dict) else {}
