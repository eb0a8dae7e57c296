"""Walks a model and its quantised form side by side, layer by layer, on images that are kept in memory.

Refinements in graph order need, for each layer, what it reads in the FP32 model and what it reads once all layers
before it are quantised and refined. Only the tensors at the frontier between refined and unrefined layers are
kept: for GoogLeNet at 224x224 at most 200 kB per image in INT8 codes and 400 kB in float16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from googlenet_deploy.calibration.table import LARGEST_CODE, SMALLEST_CODE
from googlenet_deploy.errors import InputError, requires
from googlenet_deploy.graph.graph import GraphView, all_inputs
from googlenet_deploy.graph.session import open_session, run_session

with requires("export"):
    import onnx

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnxruntime
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.images import Batches
    from googlenet_deploy.calibration.placement import QuantizedNode
    from googlenet_deploy.quantization.quantized_model import QuantizedModel
    from googlenet_deploy.quantization.weights import QuantizedWeight

LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of all images, batch by batch.

    Attributes:
        batches: int8 codes, or float16, or float32 if float16 cannot hold the values; non-float tensors unchanged.
        scale: The value of one code step; None for floats.
    """

    batches: list[NDArray[Any]]
    scale: np.float32 | None = None

    def batch(self, index: int) -> NDArray[Any]:
        """The values of a batch: float32, or the tensor's own type if that is not a float."""
        stored = self.batches[index]
        if self.scale is not None:
            return stored.astype(np.float32) * self.scale
        return stored.astype(np.float32) if stored.dtype == np.float16 else stored

    def append(self, values: NDArray[Any]) -> None:
        """Stores another batch."""
        if not values.ndim or not np.issubdtype(values.dtype, np.floating):  # a size, a shape, pixels
            self.batches.append(values)
        elif self.scale is not None:
            self.batches.append(encode(values, self.scale))
        else:
            fits = not values.size or float(np.abs(values).max()) <= LARGEST_HALF
            self.batches.append(values.astype(np.float16 if fits else np.float32))


def encode(values: NDArray[np.float32], scale: np.float32) -> NDArray[np.int8]:
    """The codes that QuantizeLinear returns: halves to even, clipped to -128..127."""
    return np.clip(np.rint(values / scale), SMALLEST_CODE, LARGEST_CODE).astype(np.int8)


class Frontier:
    """The state of a walk through a quantised model.

    Args:
        quantized: The model to refine; its layers count as unrefined.
        batches: Prepared images.
        images: The largest number of images to use.
        threads: ONNX Runtime threads; None uses one per core.

    Attributes:
        quantized: The model with the weights and biases of all layers refined so far.
        graph: Its FP32 model.

    Raises:
        InputError: There are no images.
        BadModelError: ONNX Runtime cannot run the model.
    """

    def __init__(self, quantized: QuantizedModel, batches: Batches, images: int, threads: int | None = None) -> None:
        self.quantized, self.graph, self.threads = quantized, GraphView(quantized.model), threads
        self._open = {node.name for node in quantized.plan.nodes}
        self._left = [node for node in self.graph.nodes if node.op_type != "Constant"]
        name = self.graph.inputs[0]
        self.wanted = {name: StoredTensor([])}
        self.given = {name: self._empty(name)}
        self.sizes: list[int] = []
        for batch in batches:
            part = batch.array[: images - sum(self.sizes)]
            for store in (self.wanted, self.given):
                store[name].append(part)
            self.sizes.append(len(part))
            if sum(self.sizes) >= images:
                break
        if not self.sizes:
            raise InputError("images", "none can be used for refinements")
        self._advance()

    @property
    def images(self) -> int:
        """How many images are used."""
        return sum(self.sizes)

    def ready(self) -> list[QuantizedNode]:
        """The unrefined layers whose inputs are known, in graph order."""
        return [node for node in self.quantized.plan.nodes if node.name in self._open and node.input in self.wanted]

    def refine(self, weights: Mapping[str, QuantizedWeight], biases: Mapping[str, NDArray[np.float32]]) -> None:
        """Fixes the weights and biases of ready layers and goes on to the next ones."""
        self._open -= set(weights)
        self.quantized = replace(
            self.quantized, weights={**self.quantized.weights, **weights}, biases={**self.quantized.biases, **biases}
        )
        if self._open:
            self._advance()

    def batch(self, name: str, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A batch of a tensor at the frontier: as its quantised readers see it, and in the FP32 model."""
        given, wanted = self.given[name], self.wanted[name].batch(index)
        values = given.batch(index)
        if given.scale is None and name in self.quantized.scales:
            scale = np.float32(self.quantized.scales[name])
            values = encode(values, scale).astype(np.float32) * scale
        return values, wanted

    def _empty(self, name: str) -> StoredTensor:
        """An empty store for a tensor of the quantised model: codes if nothing reads the float values."""
        served = self.quantized.plan.readers.get(name, frozenset())
        coded = all(self.graph.name_of(node) in served for node in self.graph.readers(name))
        return StoredTensor(
            [], np.float32(self.quantized.scales[name]) if coded and name in self.quantized.scales else None
        )

    def _advance(self) -> None:
        """Computes everything that does not depend on an unrefined layer, and drops what is no longer read."""
        inside = self._computable()
        made = {name for node in inside for name in node.output if name}
        computed = {node.output[0] for node in inside}
        self._left = [node for node in self._left if node.output[0] not in computed]
        needed = {name for node in self._left for name in all_inputs(node)}
        outputs = [name for name in self.graph.activations() if name in made & needed]
        if outputs:
            self._run(self.quantized.model, self.wanted, outputs, {name: StoredTensor([]) for name in outputs})
            quantised = self.quantized.build()
            self._run(quantised, self.given, outputs, {name: self._empty(name) for name in outputs})
        for store in (self.wanted, self.given):
            for name in set(store) - needed:
                del store[name]

    def _computable(self) -> list[onnx.NodeProto]:
        known = set(self.wanted) | set(self.graph.initializers)
        found = []
        for node in self._left:
            unrefined = self.graph.name_of(node) in self._open
            if not unrefined and all(name in known for name in all_inputs(node)):
                found.append(node)
                known.update(node.output)
        return found

    def _run(
        self,
        model: onnx.ModelProto,
        store: dict[str, StoredTensor],
        outputs: Sequence[str],
        made: dict[str, StoredTensor],
    ) -> None:
        session, inputs = open_part(model, set(store), outputs, self.threads)
        for index in range(len(self.sizes)):
            fed = {name: store[name].batch(index) for name in inputs}
            for name, value in zip(outputs, run_session(session, outputs, fed), strict=True):
                made[name].append(value)
        store.update(made)


def open_part(
    model: onnx.ModelProto, known: Iterable[str], outputs: Sequence[str], threads: int | None = None
) -> tuple[onnxruntime.InferenceSession, list[str]]:
    """Opens a session for the part of a model between two sets of tensors.

    Args:
        model: The whole model.
        known: Tensors that may be inputs of the part.
        outputs: Tensors to compute.
        threads: ONNX Runtime threads; None uses one per core.

    Returns:
        The session, and the tensors that it needs as inputs.

    Raises:
        BadModelError: ONNX Runtime cannot run that part.
    """
    graph = GraphView(model)
    inside, inputs = _between(graph, set(known), outputs)
    read = {name for node in inside for name in all_inputs(node)}
    part = onnx.helper.make_graph(
        inside,
        model.graph.name,
        [onnx.helper.make_tensor_value_info(name, _type(graph, name), None) for name in inputs],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [tensor for name, tensor in graph.initializers.items() if name in read and name not in graph.producers],
    )
    whole = onnx.helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
    return open_session(whole.SerializeToString(), threads), inputs


def _type(graph: GraphView, name: str) -> int:
    """A tensor's type; its shape stays open, so that a model of a fixed batch also accepts the smaller last one."""
    return graph.element_type(name) or int(onnx.TensorProto.FLOAT)


def _between(graph: GraphView, known: set[str], outputs: Sequence[str]) -> tuple[list[onnx.NodeProto], list[str]]:
    """The nodes that `outputs` depend on, back to `known`, in graph order; and which of `known` they read."""
    wanted, inside, inputs = list(outputs), set[str](), set[str]()
    while wanted:
        name = wanted.pop()
        if name in known:
            inputs.add(name)
            continue
        node = graph.producers.get(name)
        if node is not None and node.output[0] not in inside:
            inside.add(node.output[0])
            wanted += all_inputs(node)
    return (
        [node for node in graph.nodes if node.output and node.output[0] in inside],
        [name for name in graph.activations() if name in inputs],
    )
