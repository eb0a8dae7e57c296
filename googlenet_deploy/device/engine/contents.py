"""The contents of an engine: layers, types, fusions, sizes and fallbacks; from its manifest or an inspector."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from googlenet_deploy.device.builder.report import precision_lines
from googlenet_deploy.device.engine.layers import (
    EngineLayer,
    fallbacks,
    layer_table,
    parse_inspection,
    precision_shares,
)
from googlenet_deploy.device.engine.manifest import EngineManifest, load_manifest
from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import BadModelError

SUFFIXES = (".engine", ".plan", ".trt")
_NAMES_SHOWN = 6


def layers_of(manifest: EngineManifest) -> List[EngineLayer]:
    """The manifest's layers as objects."""
    return [
        EngineLayer(
            **{
                **values,
                "inputs": tuple((name, dtype) for name, dtype in values["inputs"]),
                "outputs": tuple((name, dtype) for name, dtype in values["outputs"]),
                "nodes": tuple(values["nodes"]),
            }
        )
        for values in manifest.layers
    ]


def engine_report(path: PathLike, *, layers: bool = True) -> Tuple[List[str], Dict[str, Any]]:
    """The contents of an engine's manifest, for a terminal and for JSON; the engine is checked against its hash.

    Args:
        path: The engine.
        layers: List every layer.

    Raises:
        BadModelError: The engine or its manifest is missing, damaged or altered.
    """
    manifest = load_manifest(path)
    found = layers_of(manifest)
    lines = [*_header(str(path), manifest), ""]
    if layers and found:
        lines += [*layer_table(found), ""]
    lines += precision_lines(manifest)
    lines += _composition(found)
    lines += _left_behind(found, manifest.precision, manifest.model_type)
    lines += [f"note: {note}" for note in manifest.notes]
    return [*lines, f"built by: {manifest.rebuild}"], manifest.to_dict()


def inspection_report(path: PathLike, *, layers: bool = True) -> Tuple[List[str], Dict[str, Any]]:
    """The same from an engine inspector's JSON, such as ``trtexec --exportLayerInfo`` writes.

    Raises:
        BadModelError: It cannot be read, or is not such a file.
    """
    try:
        found = parse_inspection(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadModelError(path, f"cannot be read: {reason(error)}") from error
    except ValueError as error:
        raise BadModelError(path, f"is not layer information of TensorRT: {error}") from error
    shares = precision_shares(found)
    lines = [f"{path}: {counted(len(found), 'layer')} of an engine", ""]
    if layers:
        lines += [*layer_table(found), ""]
    for unit, values in shares.items():
        text = ", ".join(f"{name} {share:.1%}" for name, share in sorted(values.items(), key=lambda item: -item[1]))
        lines.append(f"{unit.replace('_', '-')}: {text or 'not known'}")
    lines += _composition(found)
    types = set(shares["convolutions"])
    lines += _left_behind(found, "int8" if "int8" in types else "fp16" if "fp16" in types else "")
    return lines, {"layers": [layer.to_dict() for layer in found], "precision_shares": shares}


def _header(path: str, manifest: EngineManifest) -> List[str]:
    where = f"on {manifest.gpu}" if manifest.gpu else "ahead of time"
    what = f"{manifest.engine_bytes / 1e6:.2f} MB, {manifest.dialect} {manifest.precision}"
    library = f"{manifest.backend} {manifest.tensorrt_version}"
    source = manifest.source
    lines = [
        f"{path}: {what}, by {library} {where}, for compute capability {', '.join(manifest.compute_capabilities)}",
        f"  made from {source.get('file')}, opset {source.get('opset')}, SHA-256 {str(source.get('sha256'))[:16]}...",
    ]
    for kind, values in (("input ", manifest.inputs), ("output", manifest.outputs)):
        for value in values:
            shape = ", ".join(str(size) for size in value["shape"])
            lines.append(f"  {kind} {value['name']} {value['dtype']} ({shape})")
    if manifest.batch is not None:
        lines.append(f"  batch  {manifest.batch[0]} to {manifest.batch[2]}, tuned for {manifest.batch[1]}")
    if manifest.device_memory_bytes is not None:
        lines.append(f"  device memory of one context: {manifest.device_memory_bytes / 1e6:.1f} MB")
    if manifest.calibration:
        facts = ", ".join(f"{key} {value}" for key, value in manifest.calibration.items() if value)
        lines.append(f"  calibration: {facts}")
    return lines


def _composition(layers: Sequence[EngineLayer]) -> List[str]:
    if not layers:
        return []
    kinds = Counter(f"{layer.kind} in {layer.dtype}" if layer.dtype != "?" else layer.kind for layer in layers)
    fused = [layer for layer in layers if len(layer.nodes) > 1]
    nodes = {node for layer in layers for node in layer.nodes}
    return [
        f"{counted(len(layers), 'layer')}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
        f"fused from several of the model's {len(nodes)} nodes: {counted(len(fused), 'layer')}",
    ]


def _left_behind(layers: Sequence[EngineLayer], wanted: str, model_type: str = "") -> List[str]:
    """The layers that do not compute in the requested type; FP32 has no fallbacks."""
    if wanted not in ("int8", "fp16", "bf16") or not layers:
        return []
    found = fallbacks(layers, wanted, model_type)
    if wanted in ("fp16", "bf16"):
        found = [(layer, why) for layer, why in found if layer.dtype != "int8"]
    if not found:
        return [f"every convolution computes in {wanted}"]
    lines = [f"{len(found)} convolutions do not compute in {wanted}:"]
    return lines + [f"  {_short(layer)}: {layer.dtype}: {why}" for layer, why in found]


def _short(layer: EngineLayer) -> str:
    names = layer.nodes or (layer.name,)
    more = f" + {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return " + ".join(names[:_NAMES_SHOWN]) + more
