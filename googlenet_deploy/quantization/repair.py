"""Repairs a Q/DQ model of any tool so that TensorRT accepts it, and measures what that changed.

Exact: INT32 biases become float, uint8 at zero point 128 becomes int8 at 0, operators on integers become float ones
between pairs, ReLUs that a zero point replaced are restored, quantised parameters of other operators become float,
doubled pairs are shared. Not exact, and reported as such: asymmetric ranges become symmetric ones that cover them,
activations lose their per-channel scales, and pairs that cost more than they gain (around LRN, in front of an
activation or a Concat) are removed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from googlenet_deploy.calibration.images import ArrayBatches
from googlenet_deploy.errors import BadModelError, GoogLeNetDeployError, VerificationError, first_line, requires
from googlenet_deploy.export.samples import seeded_samples
from googlenet_deploy.graph.edit import drop_unread_constants, drop_unread_nodes
from googlenet_deploy.graph.files import input_specification
from googlenet_deploy.graph.graph import GraphView, known_shapes
from googlenet_deploy.graph.shapes import restate_shapes
from googlenet_deploy.quantization.accuracy_probe import compare
from googlenet_deploy.quantization.expand_qoperators import expand_integer_operators
from googlenet_deploy.quantization.findings import ERROR
from googlenet_deploy.quantization.lint import lint_model
from googlenet_deploy.quantization.qdq_insert import lift_opset
from googlenet_deploy.quantization.qdq_pairs import DEQUANTIZE, QUANTIZE, quantised_type
from googlenet_deploy.quantization.qdq_scales import has_dead_channels, repair_zero_scales, scale_fault
from googlenet_deploy.quantization.repair_placement import (
    drop_harmful_pairs,
    equal_pool_scales,
    fold_parameters,
    share_pairs,
)
from googlenet_deploy.quantization.repair_types import float_biases, restore_relu, signed_symmetric, standard_domain

with requires("export"):
    import onnx

if TYPE_CHECKING:
    from collections.abc import Sequence

    from googlenet_deploy.quantization.findings import Finding

# One repair may uncover the need for another: QLinearConv becomes pairs, whose zero points come next.
_STEPS: tuple[Callable[[onnx.ModelProto], list[str]], ...] = (
    repair_zero_scales,
    standard_domain,
    expand_integer_operators,
    float_biases,
    fold_parameters,
    restore_relu,
    signed_symmetric,
    drop_harmful_pairs,
    equal_pool_scales,
    share_pairs,
)


REMEDY = "quantise the FP32 model again"


@dataclass(frozen=True)
class RepairResult:
    """A repaired model.

    Attributes:
        model: The model.
        changes: What was repaired, one line each.
        left: What the lint still finds.
        difference: A sentence on how the repair changed the results.
    """

    model: onnx.ModelProto
    changes: Sequence[str]
    left: Sequence[Finding]
    difference: str


def repair_model(model: onnx.ModelProto, path: str = "model") -> RepairResult:
    """Repairs what can be repaired; the model that was given is not changed.

    Raises:
        BadModelError: Its scales are meaningless, nothing that TensorRT refuses can be repaired, or the result is not a
            valid model.
        VerificationError: The result could not be compared with the original, or is far from it.
    """
    _check_scales(model, path)
    repaired = lift_opset(model)
    changes = [line for step in _STEPS for line in step(repaired)]
    left = lint_model(repaired)
    errors = [finding for finding in left if finding.severity == ERROR]
    if errors and not changes:
        raise BadModelError(path, f"nothing in it can be repaired: {errors[0].text()}", REMEDY)
    drop_unread_nodes(repaired.graph)
    drop_unread_constants(repaired.graph)
    with suppress(VerificationError):  # types have changed; a graph whose shapes cannot be inferred states none
        restate_shapes(repaired)
    try:
        onnx.checker.check_model(repaired, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BadModelError(path, f"cannot be repaired: {first_line(error)}", REMEDY) from error
    return RepairResult(repaired, changes, lint_model(repaired), _difference(model, repaired, path))


def _check_scales(model: onnx.ModelProto, path: str) -> None:
    """Refuses scales that no repair can make meaningful."""
    graph, shapes = GraphView(model), known_shapes(model)
    for node in graph.nodes:
        if node.op_type not in (QUANTIZE, DEQUANTIZE) or not graph.is_constant(node.input[1]):
            continue
        fault = scale_fault(graph, node, shapes)
        if fault and quantised_type(graph, node) != onnx.TensorProto.INT32 and not has_dead_channels(graph, node):
            raise BadModelError(path, f"cannot be repaired: {graph.name_of(node)}: its scale {fault}", REMEDY)


def _difference(original: onnx.ModelProto, repaired: onnx.ModelProto, path: str) -> str:
    """Compares both models on the same seeded pictures."""
    try:
        if len(GraphView(original).inputs) != 1:
            raise BadModelError(path, "does not have exactly one input")
        samples = seeded_samples(input_specification(path, original))
        measure = compare(original, repaired, ArrayBatches(samples.prepared, _batch_size(original)), path)
    except GoogLeNetDeployError as error:
        what = f"{path}: the repaired model could not be compared with the original: {error.message}"
        raise VerificationError(what, REMEDY) from error
    if measure.is_ruined:
        raise VerificationError(
            f"{path}: the repaired model is far from the original: {measure.distance()} on {samples.origin}", REMEDY
        )
    if measure.sqnr == math.inf:
        return f"the results on {samples.origin} are exactly the original's"
    return f"against the original on {samples.origin}: SQNR {measure.sqnr:.1f} dB, agreement {measure.percent:.0f} %"


def _batch_size(model: onnx.ModelProto) -> int:
    shape = model.graph.input[0].type.tensor_type.shape
    return int(shape.dim[0].dim_value) or 4 if shape.dim else 1
