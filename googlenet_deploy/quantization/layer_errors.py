"""Runs a model and its reference on a bounded number of images and compares every tensor that both have."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from googlenet_deploy.calibration.images import spread
from googlenet_deploy.calibration.placement import ACTIVATIONS, is_image
from googlenet_deploy.calibration.watched_tensors import is_fused
from googlenet_deploy.device.images.pipeline import ImageBatches
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.progress import progress
from googlenet_deploy.errors import BadModelError
from googlenet_deploy.evaluation.layer_error import ErrorSum, LayerError, RangeUse, TensorRange
from googlenet_deploy.graph.files import load_model, read_metadata
from googlenet_deploy.graph.graph import GraphView, runtime_inputs
from googlenet_deploy.graph.session import TensorSession
from googlenet_deploy.quantization.lint import lint_model
from googlenet_deploy.quantization.qdq_pairs import Pair, find_pairs, zero_point

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from googlenet_deploy.device.files import PathLike
    from googlenet_deploy.device.images.pipeline import Batch
    from googlenet_deploy.device.specification import Preprocessing

QUANTIZATION_KEY = "quantization"
BATCH_SIZE = 2  # all inner tensors of both models are in memory at once


@dataclass(frozen=True)
class CalibrationRecord:
    """What a quantised model's metadata states about its calibration.

    Attributes:
        images: Number of images used; 0 if it is not stated.
        saturated: Share of values clipped on those images, 0..1, by tensor.
    """

    images: int = 0
    saturated: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class InnerErrors:
    """The measured errors.

    Attributes:
        layers: Errors by layer, in graph order.
        ranges: The quantised activations, in graph order.
        record: What the model states about its calibration.
        images: Images that were used.
        ahead_of_lrn: Pairs that quantise what an LRN reads.
    """

    layers: tuple[LayerError, ...]
    ranges: tuple[TensorRange, ...]
    record: CalibrationRecord
    images: int
    ahead_of_lrn: tuple[str, ...]

    def as_evidence(self) -> dict[str, Any]:
        """The fields of an `Evidence` that these errors fill."""
        return {
            "layers": self.layers,
            "ranges": self.ranges,
            "ahead_of_lrn": self.ahead_of_lrn,
            "calibration_images": self.record.images,
        }


def measure_files(
    reference: tuple[PathLike, Preprocessing],
    model: tuple[PathLike, Preprocessing],
    images: Sequence[str],
    count: int,
    *,
    threads: int | None = None,
    quiet: bool = False,
) -> InnerErrors:
    """Compares two ONNX files on some images, spread evenly over those given; see `measure_inner_errors`.

    Args:
        reference: The FP32 model's file, and how images are prepared for it.
        model: The other model's file, and how images are prepared for it.
        images: Names of image files that both can use.
        count: The largest number of them to use.
        threads: ONNX Runtime threads; None uses one per core.
        quiet: Show no progress.
    """
    first, second = (load_model(path) for path, _ in (reference, model))
    chosen = spread([ImageSource(name) for name in images], count)
    size = min(BATCH_SIZE, *(_fixed_batch(each) or BATCH_SIZE for each in (first, second)))
    batches = ImageBatches(chosen, model[1], size)
    if reference[1] == model[1]:
        paired: Iterable[tuple[Batch, Batch]] = ((batch, batch) for batch in batches)
    else:
        paired = zip(ImageBatches(chosen, reference[1], size), batches, strict=True)
    return measure_inner_errors(first, second, paired, len(chosen), threads=threads, quiet=quiet)


def _fixed_batch(model: onnx.ModelProto) -> int:
    value = runtime_inputs(model.graph)[0]
    return int(value.type.tensor_type.shape.dim[0].dim_value)


def measure_inner_errors(
    reference: onnx.ModelProto,
    model: onnx.ModelProto,
    batches: Iterable[tuple[Batch, Batch]],
    count: int,
    *,
    threads: int | None = None,
    quiet: bool = False,
) -> InnerErrors:
    """Compares all tensors that have the same name in both models.

    A tensor with a Q/DQ pair is compared by the pair's output.

    Args:
        reference: The FP32 model.
        model: The model made from it, by this or by another tool that kept the names.
        batches: The same images prepared for each of the two models, the reference's first.
        count: Number of images, for the progress display.
        threads: ONNX Runtime threads; None uses one per core.
        quiet: Show no progress.

    Raises:
        BadModelError: A model cannot be run, or the two have no inner tensor in common.
    """
    plan = _Plan(reference, model)
    first, second = (TensorSession(which, names, threads) for which, names in plan.wanted())
    images = 0
    with progress("layers", count, quiet=quiet) as advance:
        for wanted, given in batches:
            plan.add(first.run(wanted.array), second.run(given.array))
            images += len(wanted.names)
            advance(len(wanted.names))
    record = calibration_record(model)
    ahead = tuple(finding.node for finding in lint_model(model) if finding.rule == "lrn")
    return InnerErrors(plan.layers(), plan.ranges(record), record, images, ahead)


def calibration_record(model: onnx.ModelProto) -> CalibrationRecord:
    """What the model's metadata states about its calibration; empty for models of other tools."""
    try:
        values = json.loads(read_metadata("model", model).extra.get(QUANTIZATION_KEY, "{}"))
        saturated = {str(name): float(share) for name, share in values.get("saturated", {}).items()}
        return CalibrationRecord(int(values.get("calibration_images", 0)), saturated)
    except (ValueError, TypeError, AttributeError, BadModelError):
        return CalibrationRecord()


class _Plan:
    """Which tensors are compared, and what was measured so far."""

    def __init__(self, reference: onnx.ModelProto, model: onnx.ModelProto) -> None:
        self.reference, self.model = reference, model
        self.graph, self.quantised = GraphView(reference), GraphView(model)
        self.pairs: dict[str, Pair] = {}
        for pair in find_pairs(self.quantised):
            if not pair.is_weight and pair.scale is not None and pair.scale.size == 1:
                self.pairs.setdefault(pair.source, pair)
        self.errors = {name: ErrorSum() for name in self._common()}
        self.unrounded = {name: ErrorSum() for name in self.errors if name in self.pairs}
        self.rounding = {name: ErrorSum() for name in self.pairs}
        self.use = {name: RangeUse(*_limits(self.quantised, pair)) for name, pair in self.pairs.items()}
        if not any(name in self.graph.producers for name in self.errors):
            raise BadModelError("reference", "has no inner tensor in common with the model")

    def wanted(self) -> tuple[tuple[onnx.ModelProto, list[str]], tuple[onnx.ModelProto, list[str]]]:
        """The two models, each with the tensors that it must output."""
        seen = [self._seen(name) for name in self.errors]
        inner = [name for source, pair in self.pairs.items() for name in (source, pair.output)]
        return (self.reference, list(self.errors)), (self.model, list(dict.fromkeys([*seen, *inner])))

    def add(self, wanted: Mapping[str, NDArray[Any]], got: Mapping[str, NDArray[Any]]) -> None:
        """Adds the tensors that both models computed for one batch."""
        for name in list(self.errors):
            value = got[self._seen(name)]
            if value.shape != wanted[name].shape:  # a different tensor with the same name
                del self.errors[name]
                continue
            self.errors[name].add(wanted[name], value)
            if name in self.unrounded:
                self.unrounded[name].add(wanted[name], got[name])
        for name, pair in self.pairs.items():
            self.rounding[name].add(got[name], got[pair.output])
            self.use[name].add(got[name])

    def layers(self) -> tuple[LayerError, ...]:
        """Every compared tensor as the output of its layer."""
        found = []
        for name in self.errors:
            node = self.graph.producers.get(name)
            if node is None:
                continue
            if node.op_type in ACTIVATIONS and node.input[0] not in self.errors:  # fused with its layer
                node = self.graph.producers.get(node.input[0], node)
            before = min((self.errors[each].decibels for each in node.input if each in self.errors), default=None)
            sqnr, unrounded = (sums[name].decibels for sums in (self.errors, {**self.errors, **self.unrounded}))
            found.append(LayerError(self.graph.name_of(node), node.op_type, name, sqnr, before, unrounded))
        return tuple(found)

    def ranges(self, record: CalibrationRecord) -> tuple[TensorRange, ...]:
        """Every quantised activation."""
        order = [name for name in self.quantised.activations() if name in self.pairs]
        return tuple(
            TensorRange(
                tensor=name,
                is_input=is_image(self.quantised, name),
                high=self.use[name].high,
                largest=max(abs(self.use[name].smallest), abs(self.use[name].largest)),
                used=self.use[name].used,
                saturated=self.use[name].saturated,
                expected=record.saturated.get(name),
                sqnr=self.rounding[name].decibels,
            )
            for name in order
        )

    def _common(self) -> list[str]:
        return [
            name
            for name in self.graph.activations()
            if self.graph.is_float(name)
            and self.quantised.is_float(name)
            and not is_fused(self.graph, name)
            and (name in self.quantised.producers or name in self.quantised.inputs)
        ]

    def _seen(self, name: str) -> str:
        return self.pairs[name].output if name in self.pairs else name


def _limits(graph: GraphView, pair: Pair) -> tuple[float, float]:
    """Smallest and largest value that a pair represents; a range that begins at zero may be meant to clip there."""
    assert pair.quantize is not None
    assert pair.scale is not None
    points = zero_point(graph, pair.quantize)
    if points is None:
        return -math.inf, math.inf
    limits, zero, scale = np.iinfo(points.dtype), int(points.reshape(-1)[0]), float(pair.scale.reshape(-1)[0])
    low = -math.inf if zero == limits.min else (limits.min - zero - 0.5) * scale
    return low, (limits.max - zero + 0.5) * scale
