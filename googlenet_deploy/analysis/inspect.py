"""Describes an ONNX file from any exporter: layers, types, sizes and costs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from googlenet_deploy.analysis.costs import CostModel, NodeCost
from googlenet_deploy.analysis.sparsity import LayerSparsity, layer_sparsity, sparsity_line
from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.text import columns, counted, printable
from googlenet_deploy.errors import BadModelError, requires
from googlenet_deploy.graph.files import load_model, read_metadata
from googlenet_deploy.graph.graph import (
    describe_value,
    element_type,
    operator_counts,
    opset_of,
    runtime_inputs,
    shape_of,
)

with requires("export"):
    from onnx import ModelProto


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

    The reason is the one that `quantize` recorded; for other tools' models, only what the graph shows.
    """
    if not any(layer.quantized for layer in layers):
        return {}
    stated = _stated_reasons(metadata)
    seen = "no Q/DQ pair is before its input, its weights or both"
    return {layer.name: stated.get(layer.name, seen) for layer in layers if layer.multiply_adds and not layer.quantized}


def _stated_reasons(metadata: ModelMetadata) -> dict[str, str]:
    try:
        record = json.loads(metadata.extra.get("quantization", "{}"))
    except ValueError:
        return {}
    nodes = record.get("float_nodes") if isinstance(record, dict) else None
    return {str(name): str(why) for name, why in nodes.items()} if isinstance(nodes, dict) else {}


@dataclass(frozen=True)
class Description:
    """An ONNX model in figures.

    Attributes:
        path: The file.
        file_bytes: Its size.
        opset: Version of the default operator set.
        ir_version: Version of the format.
        producer: Tool that wrote it, with its version.
        inputs: Name, type and shape of each input.
        outputs: Name, type and shape of each output.
        batch: Batch size that the costs are for: the model's own if it is fixed.
        layers: Every node except those that only prepare constants, in the graph's order.
        operators: Nodes by operator.
        weight_types: Number of constants by element type.
        activation_types: Number of layers by element type of their output.
        weight_bytes: Bytes of all constants.
        peak_activation_bytes: See `CostModel.peak_bytes`.
        peak_layer: The layer at which the peak occurs.
        quantize_nodes: Number of QuantizeLinear nodes.
        dequantize_nodes: Number of DequantizeLinear nodes.
        sparsity: Zeros in the weights of each convolution and Gemm.
        metadata: What the toolkit stored.
        other_metadata: Entries of other tools.
    """

    path: str
    file_bytes: int
    opset: int
    ir_version: int
    producer: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    batch: int
    layers: tuple[NodeCost, ...]
    operators: dict[str, int]
    weight_types: dict[str, int]
    activation_types: dict[str, int]
    weight_bytes: int
    peak_activation_bytes: int
    peak_layer: str
    quantize_nodes: int
    dequantize_nodes: int
    sparsity: tuple[LayerSparsity, ...]
    metadata: ModelMetadata
    other_metadata: dict[str, str]

    @property
    def parameters(self) -> int:
        """Weights and biases of all layers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all convolutions and matrix products."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all layers' outputs."""
        return sum(layer.output_bytes for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = asdict(self)
        values["layers"] = [
            {**asdict(layer), "element_type": element_type(layer.element_type)} for layer in self.layers
        ]
        values["metadata"] = self.metadata.to_properties()
        values["totals"] = {
            "layers": len(self.layers),
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "activation_bytes": self.activation_bytes,
            "multiply_adds_by_type": work_by_type(self.layers),
        }
        values["float_layers"] = float_layers(self.layers, self.metadata)
        return values


def describe(path: PathLike, batch: int = 1) -> Description:
    """Reads an ONNX model of opset 7 or later and computes its costs.

    Args:
        path: The file.
        batch: Batch size that replaces a symbolic one.

    Raises:
        BadModelError: The file is missing, truncated, not ONNX or inconsistent, or the shape of a layer is not known.
    """
    model = load_model(path)
    metadata = read_metadata(path, model)
    costs = CostModel(model, batch, path)
    layers = tuple(costs.nodes())
    peak, peak_layer = costs.peak_bytes()
    operators = operator_counts(model.graph)
    own = metadata.to_properties()
    return Description(
        path=str(path),
        file_bytes=Path(path).stat().st_size,
        opset=opset_of(model),
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=tuple(describe_value(value) for value in runtime_inputs(model.graph)),
        outputs=tuple(describe_value(value) for value in model.graph.output),
        batch=_fixed_batch(model) or batch,
        layers=layers,
        operators=operators,
        weight_types=_count_types([tensor.data_type for tensor in model.graph.initializer]),
        activation_types=_count_types([layer.element_type for layer in layers]),
        weight_bytes=_weight_bytes(model),
        peak_activation_bytes=peak,
        peak_layer=peak_layer,
        quantize_nodes=operators.get("QuantizeLinear", 0),
        dequantize_nodes=operators.get("DequantizeLinear", 0),
        sparsity=_sparsity(path, costs.model),
        metadata=metadata,
        other_metadata={entry.key: entry.value for entry in model.metadata_props if entry.key not in own},
    )


def _sparsity(path: PathLike, model: ModelProto) -> tuple[LayerSparsity, ...]:
    try:
        return tuple(layer_sparsity(model))
    except (ValueError, TypeError, LookupError) as error:  # a LookupError: a type that ONNX does not define
        raise BadModelError(path, f"contains a weight whose data do not fit its type or shape: {error}") from error


def table_lines(description: Description, *, layers: bool = True) -> list[str]:
    """The description as text for a terminal; without `layers` only the totals."""
    lines = _header_lines(description)
    if layers:
        lines += ["", *_layer_lines(description.layers)]
    return [*lines, "", *_total_lines(description), *_metadata_lines(description)]


def _header_lines(description: Description) -> list[str]:
    lines = [
        f"{description.path}: opset {description.opset}, IR version {description.ir_version}, "
        f"{description.file_bytes / 1e6:.1f} MB"
        + (f", by {printable(description.producer)}" if description.producer else "")
    ]
    lines += [f"  input  {value}" for value in description.inputs]
    lines += [f"  output {value}" for value in description.outputs]
    lines.append("  nodes  " + ", ".join(f"{count} {name}" for name, count in description.operators.items()))
    return lines


def _layer_lines(layers: tuple[NodeCost, ...]) -> list[str]:
    rows: list[tuple[str, ...]] = [("layer", "type", "output", "dtype", "parameters", "multiply-adds", "bytes")]
    for layer in layers:
        shape = "?" if layer.shape is None else "x".join("?" if size is None else str(size) for size in layer.shape)
        kind = layer_type(layer)
        figures = (layer.parameters, layer.multiply_adds, layer.output_bytes)
        rows.append((layer.name, layer.operator, shape, kind, *(f"{figure:,}" if figure else "" for figure in figures)))
    return columns(rows, words=4)


def _total_lines(description: Description) -> list[str]:
    weights = ", ".join(f"{count} {kind}" for kind, count in description.weight_types.items())
    activations = ", ".join(f"{count} {kind}" for kind, count in description.activation_types.items())
    lines = [
        f"at batch {description.batch}:",
        f"  parameters     {description.parameters:,} ({description.weight_bytes / 1e6:.1f} MB; tensors: {weights})",
        f"  multiply-adds  {description.multiply_adds:,}",
        f"  activations    {description.activation_bytes:,} bytes in all (layers: {activations})",
        f"  live at once   {description.peak_activation_bytes:,} bytes"
        + (f", at {printable(description.peak_layer)}" if description.peak_layer else ""),
    ]
    if description.quantize_nodes or description.dequantize_nodes:
        lines.append(
            f"  quantisation   {description.quantize_nodes} QuantizeLinear, "
            f"{description.dequantize_nodes} DequantizeLinear, "
            f"{counted(sum(layer.quantized for layer in description.layers), 'layer')} in INT8"
        )
    zeros = sparsity_line(description.sparsity)
    lines += [f"  sparsity       {zeros}"] if zeros else []
    by_type = ", ".join(f"{kind} {share:.1%}" for kind, share in work_by_type(description.layers).items())
    lines.append(f"  by type        {by_type or 'nothing'} of the multiply-adds")
    left = float_layers(description.layers, description.metadata)
    lines += [f"  in float       {name}: {why}" for name, why in left.items()]
    return lines


def _metadata_lines(description: Description) -> list[str]:
    metadata = description.metadata
    entries = dict(metadata.extra)
    if metadata.architecture:
        entries["architecture"] = metadata.architecture
    if metadata.preprocessing is not None:
        entries["preprocessing"] = metadata.preprocessing.to_json()
    if metadata.class_names:
        first = ", ".join(metadata.class_names[:3])
        entries["class_names"] = f"{len(metadata.class_names)}: {first}, ..."
    if metadata.source_sha256:
        entries["source_sha256"] = metadata.source_sha256
    entries.update(description.other_metadata)
    if not entries:
        return []
    width = max(len(key) for key in entries)
    return ["", "metadata:", *(f"  {key.ljust(width)}  {_shorten(entries[key])}" for key in sorted(entries))]


def _shorten(value: str, limit: int = 300) -> str:
    line = " ".join(value.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def _fixed_batch(model: ModelProto) -> int | None:
    """The first dimension of the first input; None if it is symbolic."""
    inputs = runtime_inputs(model.graph)
    shape = shape_of(inputs[0]) if inputs else []
    return shape[0] if shape and isinstance(shape[0], int) else None


def _count_types(codes: list[int]) -> dict[str, int]:
    return dict(Counter(element_type(code) if code else "unknown" for code in codes).most_common())


def _weight_bytes(model: ModelProto) -> int:
    return sum(
        len(tensor.raw_data) if tensor.HasField("raw_data") else tensor.ByteSize() for tensor in model.graph.initializer
    )
