"""From a verified float32 or Q/DQ model to a verified one in FP16 or BF16."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from googlenet_deploy.device.targets.target import Target
from googlenet_deploy.errors import UsageError, VerificationError, requires
from googlenet_deploy.export.half_precision.emulate import stand_in
from googlenet_deploy.export.half_precision.fp32_layers import HEADROOM, choose_fp32
from googlenet_deploy.export.half_precision.ranges import LayerRange, measure_ranges
from googlenet_deploy.export.half_precision.rewrite import QUANTIZATION, HalfPrecision
from googlenet_deploy.export.half_precision.types import FP16, HALF_TYPES, HalfType
from googlenet_deploy.export.options import HalfOptions, check_request
from googlenet_deploy.export.passes.fold_weight_quantization import FoldWeightQuantization
from googlenet_deploy.export.targets import ir_version_for
from googlenet_deploy.export.verify import Comparison, Reference
from googlenet_deploy.graph.graph import opset_of
from googlenet_deploy.graph.opset import ConvertOpset
from googlenet_deploy.graph.pass_manager import Pass, PassManager, PassRecord

with requires("export"):
    from onnx import ModelProto

# First opset whose QuantizeLinear reads FP16.
QUANTIZED_OPSET = 19
# A value that rounds to the neighbouring INT8 code moves by a whole step of that tensor; logits by several percent.
QUANTIZED_TOLERANCE = 2**-3
SHOWN = 6


@dataclass(frozen=True)
class HalfResult:
    """A model in 16 bits, and what is known about it.

    Attributes:
        model: The model.
        kind: Its type.
        fp32: Why a layer stays FP32, by its name; without Q/DQ nodes.
        ranges: The largest magnitudes of every layer in float32.
        records: What the passes did.
        count: Number of layers that compute in floating point, including those in FP32.
    """

    model: ModelProto
    kind: HalfType
    fp32: dict[str, str]
    ranges: tuple[LayerRange, ...]
    records: tuple[PassRecord, ...]
    count: int


def tolerance_of(options: HalfOptions, *, quantized: bool) -> float:
    """How far logits may move, as a share of the largest."""
    return max(options.kind.tolerance, QUANTIZED_TOLERANCE) if quantized else options.kind.tolerance


def is_quantized(model: ModelProto) -> bool:
    """Whether a model holds QuantizeLinear or DequantizeLinear."""
    return any(node.op_type in QUANTIZATION for node in model.graph.node)


def to_half(
    model: ModelProto,
    options: HalfOptions,
    reference: Reference,
    target: Target | None = None,
    requested_opset: int | None = None,
) -> HalfResult:
    """Converts and verifies.

    Args:
        model: In float32, with or without Q/DQ pairs, and with the types of its tensors stated.
        options: What is requested.
        reference: What it must compute, with the tolerance of the type; the layers' ranges are measured on its images.
        target: Where the model is to run.
        requested_opset: The opset that the user asked for; None lets the type decide.

    Raises:
        UsageError: The target does not support what is requested, or a layer to keep does not exist.
        VerificationError: The result overflows or computes something else.
    """
    kind, quantized = options.kind, is_quantized(model)
    if any(entry.data_type in {half.code for half in HALF_TYPES.values()} for entry in model.graph.initializer):
        raise UsageError("the model is in 16 bits already", f"leave --{kind.name} out")
    opset = max(opset_of(model), needed_opset(kind, quantized=quantized))
    check_request(kind, opset, target, requested_opset, quantized=quantized)
    manager = PassManager(lambda _, edited: _verify(reference, edited))
    preparation: list[Pass] = [FoldWeightQuantization()] if quantized else []
    if opset != opset_of(model):
        preparation.append(ConvertOpset(opset, ir_version_for(opset)))
    model = manager.run(model, preparation)
    ranges = measure_ranges(model, reference.samples)
    fp32 = choose_fp32(model, kind, ranges, options.keep)
    layers = [entry.name for entry in ranges if entry.operator not in QUANTIZATION]
    if all(name in fp32 for name in layers):
        raise VerificationError(f"no layer can be in {kind.label}: {next(iter(fp32.values()), 'there are none')}")
    model = manager.run(model, [HalfPrecision(kind, fp32)])
    kept = {name: reason for name, reason in fp32.items() if name in set(layers)}
    return HalfResult(model, kind, kept, tuple(ranges), tuple(manager.records), len(layers))


def needed_opset(kind: HalfType, *, quantized: bool) -> int:
    """First opset that can represent such a model.

    Raises:
        UsageError: Q/DQ pairs are requested in BF16, which is not supported.
    """
    if quantized and kind is not FP16:
        raise UsageError(
            f"INT8 over {kind.label} is not written: a scale of 8 significant bits is too coarse",
            "use --fp16, or convert the float model",
        )
    return max(kind.opset, QUANTIZED_OPSET) if quantized else kind.opset


def _verify(reference: Reference, edited: ModelProto) -> None:
    comparison = reference.compare(stand_in(edited), "the float32 model")
    if not comparison.holds:
        raise VerificationError(f"differs from the float32 model: {comparison.sentence()}")


def run_by_onnxruntime(result: ModelProto, kind: HalfType, reference: Reference) -> Comparison | None:
    """Runs the model itself in ONNX Runtime, to check its form, not its rounding; None for BF16, which cannot run."""
    return reference.compare(result, "the same, as ONNX Runtime runs the file") if kind is FP16 else None


def half_lines(result: HalfResult, origin: str) -> list[str]:
    """Describes the change of types as text for a terminal."""
    kind = result.kind
    lines = [f"{result.count - len(result.fp32)} of {result.count} layers in {kind.label}, inputs and outputs float32"]
    for reason, count in Counter(result.fp32.values()).items():
        names = [name for name, why in result.fp32.items() if why == reason]
        more = f" and {count - SHOWN} more" if count > SHOWN else ""
        lines.append(f"in FP32: {', '.join(names[:SHOWN])}{more}: {reason}")
    # A ReLU or a pool after a layer has the same largest value: once is enough.
    largest = {entry.output: entry.name for entry in reversed(result.ranges)}
    shown = ", ".join(f"{largest[value]} {value:.4g}" for value in sorted(largest, reverse=True)[:3])
    lines.append(
        f"largest activations on {origin}: {shown} ({kind.label} ends at {kind.largest:.5g}; a layer that comes within "
        f"a factor of {HEADROOM:g} stays FP32)"
    )
    return lines


def half_json(result: HalfResult) -> dict[str, object]:
    """The same for JSON, with every layer's range."""
    return {
        "type": result.kind.name,
        "layers": result.count,
        "fp32_layers": result.fp32,
        "largest_finite": result.kind.largest,
        "headroom": HEADROOM,
        "ranges": [
            {"name": entry.name, "operator": entry.operator, "output": entry.output, "inside": entry.inside}
            for entry in result.ranges
        ],
    }
