"""The summary of an export, human-readable and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from googlenet_deploy.analysis.costs import CostModel
from googlenet_deploy.device.files import PathLike
from googlenet_deploy.errors import requires
from googlenet_deploy.export.half_precision.convert import half_json, half_lines
from googlenet_deploy.export.passes.frame_input import FRAME_NODES
from googlenet_deploy.export.pipeline import ExportResult
from googlenet_deploy.graph.graph import describe_value, operator_counts, opset_of, runtime_inputs
from googlenet_deploy.graph.pass_manager import PassRecord

with requires("export"):
    from onnx import ModelProto


def summary_lines(result: ExportResult, source: str, path: PathLike) -> list[str]:
    """The summary that is printed: the model, its passes, how it was verified, what to know."""
    model = result.model
    counts = operator_counts(model.graph)
    lines = [
        f"{source} -> {path}",
        f"  {len(model.graph.node)} nodes ({', '.join(f'{count} {name}' for name, count in counts.items())})",
        f"  opset {opset_of(model)}, IR version {model.ir_version}",
        f"  {_parameters(model):,} parameters, {Path(path).stat().st_size / 1e6:.1f} MB",
        f"  input  {', '.join(describe_value(value) for value in runtime_inputs(model.graph))}",
        f"  output {', '.join(describe_value(value) for value in model.graph.output)}",
    ]
    lines += [line for record in result.passes if (line := _pass_line(record))]
    if result.half is not None:
        lines += [f"  {line}" for line in half_lines(result.half, result.comparisons[0].origin)]
    lines += [f"  verified against {comparison.against}: {comparison.sentence()}" for comparison in result.comparisons]
    lines += [f"  note: {note}" for note in result.notes]
    return lines


def summary_json(result: ExportResult, source: str, path: PathLike) -> dict[str, Any]:
    """The same as one JSON object."""
    model = result.model
    return {
        "source": source,
        "output": str(path),
        "bytes": Path(path).stat().st_size,
        "nodes": len(model.graph.node),
        "operators": operator_counts(model.graph),
        "opset": opset_of(model),
        "ir_version": model.ir_version,
        "parameters": _parameters(model),
        "inputs": [describe_value(value) for value in runtime_inputs(model.graph)],
        "outputs": [describe_value(value) for value in model.graph.output],
        "passes": [
            {
                "name": record.name,
                "changed": record.changed,
                "nodes_before": record.nodes_before,
                "nodes_after": record.nodes_after,
                "rejected": record.rejected,
            }
            for record in result.passes
        ],
        "verification": [
            {
                "against": comparison.against,
                "largest_difference": comparison.largest,
                "tolerance": comparison.tolerance,
                "same_class": comparison.agreeing,
                "ties": comparison.ties,
                "images": comparison.count,
                "origin": comparison.origin,
            }
            for comparison in result.comparisons
        ],
        "half": half_json(result.half) if result.half is not None else None,
        "notes": list(result.notes),
        "metadata": result.metadata.to_properties(),
    }


def _parameters(model: ModelProto) -> int:
    """The network's parameters, without the constant matrices that resize frames."""
    return sum(node.parameters for node in CostModel(model).nodes() if FRAME_NODES not in node.name)


def _pass_line(record: PassRecord) -> str:
    """What a pass did; of idle passes only onnxsim is listed, and tidying only if it removed nodes."""
    if record.name == "onnxsim" and not record.changed and not record.rejected:
        return "  pass onnxsim: nothing left to simplify"
    if not record.changed or (record.name == "tidy" and record.nodes_before == record.nodes_after):
        return ""
    return f"  pass {record.name}: {record.description} ({record.nodes_before} -> {record.nodes_after} nodes)"
