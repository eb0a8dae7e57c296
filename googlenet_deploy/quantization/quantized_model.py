"""Everything that a quantised model is made of before it is written; refinements change it.

A refinement takes a quantised model and calibration batches and returns a changed one: other weight scales, corrected
biases, learned rounding. Changes of the FP32 model itself, such as equalisation, come before calibration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from googlenet_deploy.analysis.costs import CostModel
from googlenet_deploy.calibration.options import PlacementOptions
from googlenet_deploy.calibration.placement import QuantizationPlan, place
from googlenet_deploy.calibration.table import CalibrationTable, group_scales
from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.quantization.qdq_insert import QdqOptions, insert_qdq
from googlenet_deploy.quantization.weights import QuantizedWeight, quantize_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.images import Batches


@dataclass(frozen=True)
class QuantizedModel:
    """A quantised model that is not written yet; changed with `dataclasses.replace`.

    Attributes:
        model: The FP32 model.
        plan: Which tensors and nodes are quantised.
        table: The calibration.
        scales: Scale of every tensor of the plan.
        weights: Integers of every quantised node, by node name.
        biases: Biases that replace the model's, by node name.
        offsets: What was subtracted from tensors that hold shifted values, by tensor; see
            `refine/activation_offset.py`.
        notes: What was done, in order; printed and stored in the model.
    """

    model: onnx.ModelProto
    plan: QuantizationPlan
    table: CalibrationTable
    scales: Mapping[str, float]
    weights: Mapping[str, QuantizedWeight]
    biases: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    offsets: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def build(self, options: QdqOptions | None = None, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
        """The Q/DQ model; see `insert_qdq`."""
        return insert_qdq(
            self.model, self.plan, self.scales, self.weights, self.biases, options=options, metadata=metadata
        )


Refinement = Callable[[QuantizedModel, "Batches"], QuantizedModel]


def round_to_nearest(
    model: onnx.ModelProto,
    table: CalibrationTable,
    options: PlacementOptions | None = None,
    method: str | None = None,
    path: str = "model",
) -> QuantizedModel:
    """The plain quantised model: scales from the table, weights rounded to the nearest.

    Args:
        model: The FP32 model.
        table: Its calibration.
        options: What is quantised.
        method: Threshold method; None uses the table's own.
        path: The model's file, for error messages.

    Raises:
        BadModelError: The model is quantised already, or nothing in it can be quantised.
        BadTableError: The table lacks a tensor or the method.
        UsageError: A node that is to stay in float does not exist.
    """
    graph = GraphView(model, path)
    plan = place(graph, options)
    scales = group_scales(plan.groups, table, method)
    return QuantizedModel(model, plan, table, scales, quantize_weights(graph, plan))


def keep_in_float(quantized: QuantizedModel, reasons: Mapping[str, str]) -> QuantizedModel:
    """The same quantised model with further layers in float; all others keep their scales, weights and biases.

    Args:
        quantized: The quantised model.
        reasons: Why each layer stays in float, by the layer's name.

    Raises:
        BadModelError: Nothing would be quantised any more.
    """
    options = replace(quantized.plan.options, excluded={*quantized.plan.options.excluded, *reasons})
    plan = place(GraphView(quantized.model), options)
    skipped = {name: reasons.get(name, quantized.plan.skipped.get(name, why)) for name, why in plan.skipped.items()}
    return replace(
        quantized,
        plan=replace(plan, skipped=skipped),
        scales={name: quantized.scales[name] for name in plan.tensors},
        weights={node.name: quantized.weights[node.name] for node in plan.nodes},
        biases={name: bias for name, bias in quantized.biases.items() if name not in reasons},
    )


@dataclass(frozen=True)
class FloatLayer:
    """A layer that multiplies and adds in float.

    Attributes:
        name: The layer.
        operator: Its operator.
        reason: Why it is not quantised.
        share: Its share of the model's multiply-adds, 0..1; None if that is not known.
    """

    name: str
    operator: str
    reason: str
    share: float | None

    def why(self) -> str:
        """The reason and the share."""
        share = "an unknown share" if self.share is None else f"{100 * self.share:.1f} %"
        return f"{self.reason}; {share} of the multiply-adds"


def float_layers(quantized: QuantizedModel) -> list[FloatLayer]:
    """The layers that stay in float, in graph order."""
    costs = {cost.name: cost for cost in CostModel(quantized.model).nodes()} if quantized.plan.skipped else {}
    graph = GraphView(quantized.model)
    total = sum(cost.multiply_adds for cost in costs.values())
    found = []
    for name, reason in quantized.plan.skipped.items():
        node = graph.node(name)
        counted = costs[node.name].multiply_adds if node.name in costs else 0
        found.append(FloatLayer(name, node.op_type, reason, counted / total if counted else None))
    return found
