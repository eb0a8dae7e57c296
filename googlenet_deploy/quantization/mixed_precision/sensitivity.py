"""What each layer's quantisation costs by itself, and what it saves.

One layer at a time is quantised (its input and its weights); everything else stays in float. Only what comes after the
layer can change. So the tensors at which the graph can be divided are computed once, and each layer is run from the
last such tensor before it: for GoogLeNet a third of the work of running the whole network for each of its 58 layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from googlenet_deploy.analysis.costs import CostModel
from googlenet_deploy.calibration.placement import QUANTIZED_OPERATORS, place
from googlenet_deploy.device.progress import progress
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.graph.partition import Section, find_sections, part_of
from googlenet_deploy.graph.session import TensorSession
from googlenet_deploy.quantization.qdq_insert import insert_qdq

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    from numpy.typing import NDArray

    from googlenet_deploy.quantization.accuracy_probe import HoldOutEvaluation
    from googlenet_deploy.quantization.quantized_model import QuantizedModel

IMAGES = 32
FLOAT32_BYTES = 4


@dataclass(frozen=True)
class LayerSensitivity:
    """One layer, quantised alone.

    Attributes:
        name: The layer.
        operator: Such as "Conv" or "Gemm".
        multiply_adds: Per image.
        bytes: Bytes that INT8 saves over FP16: one per weight and per value of its output.
        agreement: Percentage of images whose best class stays the same.
        sqnr: Signal-to-noise ratio of the scores, in dB; infinite if nothing changes.
        divergence: Mean Kullback-Leibler divergence from the FP32 model, in nats.
        noise: Noise-to-signal ratio of the scores. It adds up for independent errors.
    """

    name: str
    operator: str
    multiply_adds: int
    bytes: int
    agreement: float
    sqnr: float
    divergence: float
    noise: float


def measure_sensitivity(
    quantized: QuantizedModel, hold_out: HoldOutEvaluation, images: int = IMAGES, *, quiet: bool = False
) -> list[LayerSensitivity]:
    """Measures every quantised layer of a quantised model, in graph order.

    Args:
        quantized: Scales, weights and biases as they will be written.
        hold_out: Images, and the FP32 model's scores for them.
        images: The approximate largest number of images.
        quiet: Show no progress.

    Raises:
        BadModelError: A part of the model cannot be run.
    """
    graph = GraphView(quantized.model)
    planned = {node.name for node in quantized.plan.nodes}
    sections, costs = find_sections(graph, planned), _costs(quantized)
    values = [batch for batch, _ in hold_out.batches(images)]
    wanted = [each for _, each in hold_out.batches(images)]
    scores = hold_out.scores[0].tensor
    found = []
    with progress("sensitivity", len(planned), quiet=quiet) as advance:
        for position, section in enumerate(sections):
            inside = [graph.name_of(node) for node in graph.nodes[section.start : section.stop]]
            rest = part_of(graph, section, to_end=True, output=scores)
            for name in (each for each in inside if each in planned):
                agreement = _compare(_with_one_layer(quantized, rest, name), values, wanted)
                found.append(_record(name, agreement, *costs[name]))
                advance(1)
            if position + 1 < len(sections):
                values = _behind(graph, section, sections[position + 1], values)
    return found


def _with_one_layer(quantized: QuantizedModel, rest: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The rest of the network with one quantised layer."""
    graph = GraphView(rest)
    others = {graph.name_of(node) for node in graph.nodes if node.op_type in QUANTIZED_OPERATORS} - {name}
    options = replace(quantized.plan.options, quantize_input=True, excluded=frozenset(others), dla=False)
    plan = place(graph, options)
    return insert_qdq(rest, plan, quantized.scales, quantized.weights, quantized.biases)


def _compare(model: onnx.ModelProto, values: Sequence[NDArray[Any]], wanted: Sequence[NDArray[Any]]) -> Agreement:
    session, agreement = TensorSession(model), Agreement()
    for batch, scores in zip(values, wanted, strict=True):
        got = session.run(batch)[session.outputs[0]]
        agreement.add(scores, got.reshape(len(got), -1))
    return agreement


def _behind(graph: GraphView, section: Section, following: Section, values: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """The FP32 tensor at the next point where the graph can be divided."""
    part = part_of(graph, section, to_end=False, output=following.tensor)
    session = TensorSession(part)
    return [session.run(batch)[following.tensor] for batch in values]


def _costs(quantized: QuantizedModel) -> dict[str, tuple[str, int, int]]:
    return {
        cost.name: (cost.operator, cost.multiply_adds, cost.parameters + cost.output_bytes // FLOAT32_BYTES)
        for cost in CostModel(quantized.model).nodes()
    }


def _record(name: str, agreement: Agreement, operator: str, multiply_adds: int, size: int) -> LayerSensitivity:
    return LayerSensitivity(
        name=name,
        operator=operator,
        multiply_adds=multiply_adds,
        bytes=size,
        agreement=agreement.proportion.percent,
        sqnr=agreement.sqnr,
        divergence=max(0.0, agreement.mean_divergence),
        noise=agreement.noise / agreement.signal if agreement.signal else 0.0,
    )
