"""The types that an engine's layers compute in, from the engine inspector's JSON, and gates on them.

The inspector's JSON (TensorRT developer guide, "Engine Inspector") lists for each layer its name, ``LayerType``, inputs
and outputs with ``Dimensions`` and ``Format/Datatype`` (10.x: a separate ``Datatype``), and for convolutions
``ParameterType``, ``Kernel``, ``Groups`` and ``Weights`` with ``Type`` and ``Count``.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from googlenet_deploy.device.text import columns
from googlenet_deploy.errors import UsageError

TYPES = ("int8", "fp16", "bf16", "fp32")
_NAMES = (
    (r"\bint8\b", "int8"),
    (r"\bbf(?:loat)?16\b", "bf16"),
    (r"\b(?:fp16|half)\b", "fp16"),
    (r"\b(?:fp32|float|tf32)\b", "fp32"),
)


@dataclass(frozen=True)
class EngineLayer:
    """One layer of an engine; TensorRT may have fused several of the model's layers into it.

    Attributes:
        name: TensorRT's name; it contains the model's node names.
        kind: "convolution" for convolutions and matrix products, else the inspector's layer type in lower case.
        dtype: Type that it computes in: one of `TYPES`, or "?" if the inspector does not report it.
        multiply_adds: For the optimal shape; 0 if it is not a convolution or the inspector does not report it.
        inputs: (name, dtype) of each input.
        outputs: (name, dtype) of each output.
        tactic: The kernel; "" if the inspector does not report it.
        nodes: The model's nodes that it was made from, as far as they are reported.
    """

    name: str
    kind: str
    dtype: str
    multiply_adds: int
    inputs: Tuple[Tuple[str, str], ...]
    outputs: Tuple[Tuple[str, str], ...]
    tactic: str
    nodes: Tuple[str, ...] = ()

    def to_dict(self) -> Dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def parse_inspection(text: str) -> List[EngineLayer]:
    """Parses the inspector's JSON.

    Returns:
        The layers in execution order; those of an engine built without layer information have a name only.

    Raises:
        ValueError: It is not an inspector's output.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    layers = values.get("Layers") if isinstance(values, dict) else None
    if not isinstance(layers, list):
        raise ValueError("the engine inspector gave no list of layers")  # noqa: TRY004 - bad data
    return [_layer(entry) if isinstance(entry, dict) else _bare(str(entry)) for entry in layers]


def _bare(name: str) -> EngineLayer:
    return EngineLayer(name, "?", "?", 0, (), (), "")


def _layer(entry: Mapping[str, Any]) -> EngineLayer:
    kind = str(entry.get("ParameterType") or entry.get("LayerType") or "?")
    convolution = _is_convolution(entry, kind)
    inputs, outputs = _ports(entry.get("Inputs")), _ports(entry.get("Outputs"))
    return EngineLayer(
        name=str(entry.get("Name", "?")),
        kind="convolution" if convolution else kind.lower(),
        dtype=_compute_type(entry, inputs, outputs),
        multiply_adds=_multiply_adds(entry) if convolution else 0,
        inputs=inputs,
        outputs=outputs,
        tactic=str(entry.get("TacticName") or ""),
        nodes=_nodes(entry),
    )


def _nodes(entry: Mapping[str, Any]) -> Tuple[str, ...]:
    """The model's nodes: from 8.6 on they are in the metadata, before that in the layer's name."""
    named = re.findall(r"\[ONNX Layer: ([^\]]*)\]", str(entry.get("Metadata", "")))
    return tuple(dict.fromkeys(named or str(entry.get("Name", "")).split(" + ")))


def _is_convolution(entry: Mapping[str, Any], kind: str) -> bool:
    words = f"{kind} {entry.get('LayerType', '')}".lower()
    return any(word in words for word in ("conv", "gemm", "matrixmultiply", "matrix_multiply", "fullyconnected"))


def _ports(entries: Any) -> Tuple[Tuple[str, str], ...]:  # noqa: ANN401 - from JSON
    ports = entries if isinstance(entries, list) else []
    return tuple((str(port.get("Name", "?")), _port_type(port)) for port in ports if isinstance(port, dict))


def _port_type(port: Mapping[str, Any]) -> str:
    return type_in(f"{port.get('Datatype', '')} {port.get('Format/Datatype', '')} {port.get('Format', '')}")


def type_in(text: str) -> str:
    """The type in a description such as "Thirty-two wide channel vectorized row major Int8 format", or "?"."""
    lowered = text.lower()
    for pattern, name in _NAMES:
        if re.search(pattern, lowered):
            return name
    return "?"


def _compute_type(
    entry: Mapping[str, Any], inputs: Sequence[Tuple[str, str]], outputs: Sequence[Tuple[str, str]]
) -> str:
    """The weights' type if there are weights, since that is what the kernel multiplies; else the first input's."""
    weights = entry.get("Weights")
    if isinstance(weights, dict) and type_in(str(weights.get("Type", ""))) != "?":
        return type_in(str(weights["Type"]))
    return next((dtype for _, dtype in [*inputs, *outputs] if dtype != "?"), "?")


def _multiply_adds(entry: Mapping[str, Any]) -> int:
    """Output positions times weights: every weight is used once per position of its output map."""
    weights, outputs = entry.get("Weights"), entry.get("Outputs")
    if not isinstance(weights, dict) or not isinstance(outputs, list) or not outputs:
        return 0
    dimensions = outputs[0].get("Dimensions") if isinstance(outputs[0], dict) else None
    if not isinstance(dimensions, list):
        return 0
    if len(dimensions) < 2 or not all(isinstance(size, int) for size in dimensions):
        return 0
    batch, positions = max(1, int(dimensions[0])), [int(size) for size in dimensions[2:]]  # an open batch is -1
    if any(size <= 0 for size in positions):
        return 0
    count = weights.get("Count")
    return batch * math.prod(positions) * count if isinstance(count, int) else 0


def precision_shares(layers: Iterable[EngineLayer]) -> Dict[str, Dict[str, float]]:
    """Share of convolutions and of their multiply-adds by type, without types that do not occur.

    Returns:
        ``{"convolutions": {"int8": 0.98, ...}, "multiply_adds": {...}}``; both empty without convolutions, the latter
        also if the work of one of them is unknown.
    """
    convolutions = [layer for layer in layers if layer.kind == "convolution"]
    # A layer of unknown work would not count at all, so no shares of the work are returned then.
    known = all(layer.multiply_adds for layer in convolutions)
    total = sum(layer.multiply_adds for layer in convolutions) if known else 0
    counts: Dict[str, float] = {}
    work: Dict[str, float] = {}
    for layer in convolutions:
        counts[layer.dtype] = counts.get(layer.dtype, 0.0) + 1 / len(convolutions)
        if total:
            work[layer.dtype] = work.get(layer.dtype, 0.0) + layer.multiply_adds / total
    return {"convolutions": counts, "multiply_adds": work}


def parse_gates(texts: Sequence[str]) -> Dict[str, float]:
    """``["int8=0.95"]`` as {"int8": 0.95}.

    Raises:
        UsageError: Not TYPE=SHARE with a known type and a share from 0 to 1.
    """
    gates = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            share = float(value)
        except ValueError:
            share = math.nan
        if name not in TYPES or not 0 <= share <= 1:
            raise UsageError(f"--require {text}: not TYPE=SHARE", f"TYPE is {', '.join(TYPES)}; SHARE is 0 to 1")
        gates[name] = share
    return gates


def failed_gates(layers: Sequence[EngineLayer], gates: Mapping[str, float]) -> Dict[str, str]:
    """One line per failed gate, measured by multiply-adds, or by convolutions if the work is unknown."""
    shares = precision_shares(layers)
    by_work = bool(shares["multiply_adds"])
    found = shares["multiply_adds" if by_work else "convolutions"]
    unit = "multiply-adds" if by_work else "convolutions"
    return {
        name: f"{name}: {found.get(name, 0.0):.1%} of the {unit}, {required:.1%} required"
        for name, required in gates.items()
        if found.get(name, 0.0) < required - 1e-9
    }


def fallbacks(layers: Sequence[EngineLayer], wanted: str, model_type: str = "") -> List[Tuple[EngineLayer, str]]:
    """The convolutions that do not compute in the wanted type, each with the likely reason.

    Args:
        layers: The engine's layers.
        wanted: The type that they should compute in.
        model_type: The model's type for a strongly typed engine, where types are not chosen by speed; else "".
    """
    return [
        (layer, likely_reason(layer, wanted, model_type))
        for layer in layers
        if layer.kind == "convolution" and layer.dtype != wanted
    ]


def likely_reason(layer: EngineLayer, wanted: str, model_type: str = "") -> str:
    """Why a convolution probably does not compute in the wanted type; see `fallbacks`."""
    if layer.dtype == "?":
        return "the inspector does not report its type; build with --verbosity detailed"
    if model_type == wanted == "int8":
        return "no Q/DQ pair reaches it, or it has no INT8 kernel on this GPU"
    if model_type:
        return f"the model is {model_type}, and a strongly typed build keeps its types"
    if wanted == "int8":
        if layer.inputs and layer.inputs[0][1] != "int8":
            return "its input has no INT8 scale (no Q/DQ pair or calibration entry), or another type was faster"
        return "its weights have no INT8 scale, or another type was faster"
    return "another type was faster, or its output is the network's and keeps its type"


def layer_table(layers: Sequence[EngineLayer], limit: Optional[int] = None) -> List[str]:
    """The layers as text for a terminal."""
    rows = [("layer", "kind", "type", "multiply-adds")]
    shown = layers if limit is None else layers[:limit]
    rows += [
        (_short(layer.name), layer.kind, layer.dtype, f"{layer.multiply_adds:,}" if layer.multiply_adds else "")
        for layer in shown
    ]
    return columns(rows, words=3)


def _short(name: str, limit: int = 70) -> str:
    return name if len(name) <= limit else f"{name[: limit - 3]}..."
