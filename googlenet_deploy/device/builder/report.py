"""The text that a build or a build plan prints."""

from __future__ import annotations

from collections import Counter
from typing import Dict, List, Mapping

from googlenet_deploy.device.builder.dla_rules import placement_lines
from googlenet_deploy.device.builder.options import BuildOptions
from googlenet_deploy.device.builder.plan import BuildResult
from googlenet_deploy.device.builder.run import DryRun
from googlenet_deploy.device.engine.layers import failed_gates, fallbacks
from googlenet_deploy.device.engine.manifest import EngineManifest
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import GateError

SHOWN = 12


def result_lines(output: str, result: BuildResult) -> List[str]:
    """The summary of a build: size, memory, precision.

    Args:
        output: The engine's file.
        result: The result of the build.
    """
    manifest = result.manifest
    capabilities = ", ".join(manifest.compute_capabilities)
    what = f"{manifest.engine_bytes / 1e6:.2f} MB, {manifest.dialect} {manifest.precision}"
    lines = [
        f"{output}: {what}, for compute capability {capabilities}, in {manifest.build_seconds:.1f} s",
        f"  {output}.json: the manifest",
    ]
    if manifest.device_memory_bytes is not None:
        lines.append(f"  device memory of one context: {manifest.device_memory_bytes / 1e6:.1f} MB")
    return lines + [f"  {line}" for line in precision_lines(manifest)]


def precision_lines(manifest: EngineManifest) -> List[str]:
    """The types that the convolutions compute in, and the source of this information."""
    if not manifest.layers:
        return [f"precision per layer: not known; {manifest.layers_note}"]
    source = "the engine's own program" if manifest.layers_from == "program" else "the engine inspector"
    lines = []
    for unit, shares in manifest.precision_shares.items():
        ordered = sorted(shares.items(), key=lambda item: -item[1])
        text = ", ".join(f"{name} {share:.1%}" for name, share in ordered)
        lines.append(f"{unit.replace('_', '-')}: {text or 'not known'}, by {source}")
    if manifest.dla:
        left = manifest.dla["gpu_layers"]
        count = manifest.dla["layers"] - len(left)
        behind = f"; on the GPU: {', '.join(left[:SHOWN])}" if left else ""
        lines.append(f"DLA core {manifest.dla['core']}: {count} of {manifest.dla['layers']} layers{behind}")
    return lines


def check_gates(result: BuildResult, gates: Mapping[str, float]) -> None:
    """Checks the layers against the shares that the user requires.

    Args:
        result: The result of the build.
        gates: Smallest share by type.

    Raises:
        GateError: A share is not reached, or the layers are unknown; the remedy lists what fell back and why.
    """
    if not gates:
        return
    if result.layers is None or not any(layer.kind == "convolution" for layer in result.layers):
        note = result.manifest.layers_note or "the engine reports nothing about its layers"
        raise GateError(
            f"--require was not checked: {note}",
            "build on the GPU and with --verbosity detailed, so that it reports them",
        )
    failed = failed_gates(result.layers, gates)
    if failed:
        raise GateError(f"--require is not met: {'; '.join(failed.values())}", "\n  ".join(_why(result, failed)))


def _why(result: BuildResult, failed: Dict[str, str]) -> List[str]:
    lines = []
    for wanted in failed:
        found = fallbacks(result.layers or [], wanted, result.manifest.model_type)
        lines += [f"{layer.name} computes in {layer.dtype}: {why}" for layer, why in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"... and {len(found) - SHOWN} more, all in the manifest")
    return lines


def plan_lines(model: str, run: DryRun, options: BuildOptions) -> List[str]:
    """What would be built, and for which target.

    Args:
        model: The ONNX file.
        run: The plan.
        options: The user's options.
    """
    header, site, plan = run.header, run.site, run.plan
    counts = ", ".join(
        f"{count} {name}" for name, count in Counter(node.operator for node in header.nodes).most_common()
    )
    lines = [f"{model}: opset {header.opset}, {counted(len(header.nodes), 'node')} ({counts})", f"for {site.label}:"]
    if site.compute_capability:
        lines.append(f"  {site.capability_text}")
    if run.target is not None and len(run.target.tensorrt) > 1:
        others = ", ".join("{}.{}".format(*version) for version in run.target.tensorrt[1:])
        lines.append(f"  planned for the module's oldest TensorRT; its JetPacks also have {others}")
    flags = f", flags {' and '.join(plan.flags)}" if plan.flags else ""
    lines.append(f"  {plan.dialect} build, precision {plan.precision}{flags}")
    lines.append(f"  {_batch(run, options)}")
    if plan.calibration:
        source = "the calibration cache" if plan.calibration == "cache" else "live calibration"
        lines.append(f"  INT8 scales from {source}")
    lines += _dla(run)
    lines += [f"  note: {note}" for note in (*plan.notes, *run.notes)]
    return [*lines, _parsed(run)]


def _batch(run: DryRun, options: BuildOptions) -> str:
    if not run.header.dynamic_batch:
        return f"batch {run.header.inputs[0].shape[0]}, fixed by the model"
    sizes = options.batch or (1, 1, 1)
    tuned = f" to {sizes[2]}, tuned for {sizes[1]}" if sizes[0] < sizes[2] else ""
    return f"batch {sizes[0]}{tuned}"


def _dla(run: DryRun) -> List[str]:
    if run.placements is not None:
        return [f"  {line}" for line in placement_lines(run.placements)]
    if run.site.dla_cores:
        return [f"  the module has {run.site.dla_cores} DLA cores; --dla-core uses one"]
    return []


def _parsed(run: DryRun) -> str:
    if not run.parser:
        return "  not parsed: TensorRT-RTX, whose parser runs without a GPU, is not installed"
    return f"  parsed by {run.parser}: accepted, {counted(run.layers, 'layer')}"
