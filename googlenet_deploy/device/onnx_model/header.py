"""Reads ONNX files without the onnx package: the gate that every model must pass before anything else sees it.

`read_model` returns the checked content of a file, data files included; `read_onnx` returns what the engine builder and
the bundles need to know about it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Dict, Tuple

from googlenet_deploy.device.file_kind import recognise
from googlenet_deploy.device.files import PathLike, reason, sha256_file
from googlenet_deploy.device.onnx_model.checks import all_tensors, check_structure, check_versions
from googlenet_deploy.device.onnx_model.external import LARGEST_MODEL, with_data, with_open_dimensions
from googlenet_deploy.device.onnx_model.messages import DATA_TYPES, Graph, Model, NodeMessage, Value, parse_model
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.onnx_model.scales import check_scales
from googlenet_deploy.device.onnx_model.weights import check_numbers
from googlenet_deploy.device.text import printable
from googlenet_deploy.errors import BadModelError

REMEDY = "export it again, or check the download"
VERSION_REMEDY = "export it again for such a version, or convert it with onnx.version_converter"


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        name: Its name; "" if the exporter set none.
        operator: Its operator, with the domain unless that is the default one.
        inputs: Tensors that it reads.
        outputs: Tensors that it produces.
        integers: Its attributes that are integers or lists of integers.
    """

    name: str
    operator: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    integers: Tuple[Tuple[str, Tuple[int, ...]], ...] = ()

    def ints(self, attribute: str) -> Tuple[int, ...]:
        """An attribute's integers; empty if the node does not have the attribute."""
        return next((values for name, values in self.integers if name == attribute), ())


@dataclass(frozen=True)
class OnnxHeader:
    """An ONNX model without its weights.

    Attributes:
        opset: Version of the default operator set.
        nodes: All nodes, in the graph's order.
        inputs: Inputs that are not initializers.
        outputs: Outputs.
        initializers: Element type of every initializer, by name.
        metadata: The toolkit's metadata; empty for models from other tools.
    """

    opset: int
    nodes: Tuple[Node, ...]
    inputs: Tuple[Value, ...]
    outputs: Tuple[Value, ...]
    initializers: Dict[str, str]
    metadata: ModelMetadata

    @property
    def quantized(self) -> bool:
        """Whether it contains QuantizeLinear or DequantizeLinear."""
        return any(node.operator in ("QuantizeLinear", "DequantizeLinear") for node in self.nodes)

    @property
    def float_type(self) -> str:
        """Type of the floating-point weights: "float16" or "bfloat16" if the model has any.

        Biases and scales of a quantised model count, since they determine the type that a strongly typed build uses.
        """
        for dtype in ("float16", "bfloat16"):
            if dtype in self.initializers.values():
                return dtype
        return "float32"

    @property
    def dynamic_batch(self) -> bool:
        """Whether the first dimension of the first input is open."""
        return bool(self.inputs) and bool(self.inputs[0].shape) and not isinstance(self.inputs[0].shape[0], int)


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that has passed the gate.

    Attributes:
        path: The file.
        content: The complete model: with the values of its data files, and with open dimensions in place of those
            below 1. If neither applies, the file's bytes.
        model: Its messages.
        external: Whether some of its values are in other files.
    """

    path: str
    content: bytes
    model: Model
    external: bool

    @cached_property
    def header(self) -> OnnxHeader:
        """The model's header.

        Raises:
            BadModelError: Its metadata is damaged, or its preprocessing does not fit its input.
        """
        return _header(self.model, self.path)


def read_model(path: PathLike, *, repairable: bool = False) -> OnnxFile:
    """Reads an ONNX file and checks it.

    Args:
        path: The file.
        repairable: Accept invalid scales, for callers that report and replace them.

    Raises:
        BadModelError: It cannot be read, is truncated, is not an ONNX model or an inconsistent one, needs more memory
            than any classifier, or its external data is missing, too short or outside its folder.
    """
    content = _read(path)
    model = _parse(content, path)
    external = any(tensor.external is not None for graph in _graphs(model) for tensor in all_tensors(graph))
    changed = with_data(content, path) if external else content
    if _has_open_numbers(model):
        changed = with_open_dimensions(changed)
    if changed is not content:
        model = _parse(changed, path)
    _check_scales(model, path, repairable=repairable)
    return OnnxFile(str(path), changed, model, external)


def read_onnx(path: PathLike) -> OnnxHeader:
    """Reads the header of an ONNX file; see `read_model`."""
    return read_model(path).header


def parse_onnx(content: bytes, path: str) -> OnnxHeader:
    """Like `read_onnx`, but from bytes, and without reading external data; `path` is for messages."""
    model = _parse(content, path)
    _check_scales(model, path, repairable=False)
    return _header(model, path)


def model_sha256(path: PathLike) -> str:
    """Hash of a model: of its file, or of the file and its data for ONNX models with external data.

    Raises:
        BadModelError: Its external data cannot be read.
        OSError: The file cannot be read.
    """
    plain = sha256_file(path)
    if Path(path).suffix.lower() != ".onnx":
        return plain
    file = read_model(path, repairable=True)
    return hashlib.sha256(plain.encode() + file.content).hexdigest() if file.external else plain


def _read(path: PathLike) -> bytes:
    file = Path(path)
    try:
        if file.stat().st_size > LARGEST_MODEL:
            raise BadModelError(path, "is larger than 2 GiB, which is more than an ONNX file can be")
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise BadModelError(path, f"cannot be read: {why}") from error
    if not content:
        raise BadModelError(path, "is empty: it is not an ONNX model, or is truncated", REMEDY)
    return content


def _parse(content: bytes, path: PathLike) -> Model:
    try:
        model = parse_model(content)
    except UnicodeDecodeError as error:
        kind, remedy = recognise(path)
        problem = f"is not an ONNX model but {kind}" if kind else "is damaged: a name in it is not UTF-8 text"
        raise BadModelError(path, problem, remedy or REMEDY) from error
    except ValueError as error:
        raise _not_onnx(path) from error
    if model.graph is None or not model.graph.nodes or not model.opset:
        raise _not_onnx(path)
    try:
        check_versions(model)
    except ValueError as error:
        raise BadModelError(path, str(error), VERSION_REMEDY) from error
    try:
        check_structure(model)
    except ValueError as error:
        raise BadModelError(path, f"is damaged: {error}", REMEDY) from error
    return model


def _not_onnx(path: PathLike) -> BadModelError:
    kind, remedy = recognise(path)
    if kind:
        return BadModelError(path, f"is not an ONNX model but {kind}", remedy)
    return BadModelError(path, "is not an ONNX model, or is truncated", REMEDY)


def _check_scales(model: Model, path: PathLike, *, repairable: bool) -> None:
    try:
        if not repairable:
            check_scales(model)
        check_numbers(model)
    except ValueError as error:
        raise BadModelError(path, f"is damaged: {error}", REMEDY) from error


def _graphs(model: Model) -> Tuple[Graph, ...]:
    return (*(() if model.graph is None else (model.graph,)), *(function.body for function in model.functions))


def _has_open_numbers(model: Model) -> bool:
    """Whether a dimension is stated as a number that means open: below 1 for inputs and outputs, below 0 elsewhere."""
    return any(
        isinstance(size, int) and size < least
        for graph in every_graph(model)
        for values, least in ((graph.inputs, 1), (graph.outputs, 1), (graph.values, 0))
        for value in values
        for size in value.stated
    )


def every_graph(model: Model) -> Tuple[Graph, ...]:
    """The graph, the bodies of functions, and the subgraphs of both."""
    return _with_inner(_graphs(model))


def _with_inner(graphs: Tuple[Graph, ...]) -> Tuple[Graph, ...]:
    inner = tuple(
        part for graph in graphs for node in graph.nodes for attribute in node.attributes for part in attribute.graphs
    )
    return graphs + (_with_inner(inner) if inner else ())


def _header(model: Model, path: str) -> OnnxHeader:
    graph = model.graph or Graph()
    initializers = {tensor.name: DATA_TYPES.get(tensor.data_type, "other") for tensor in graph.initializers}
    inputs = tuple(value for value in graph.inputs if value.name not in initializers)
    metadata = ModelMetadata.from_properties(model.properties, path)
    _check_preprocessing(inputs, metadata, path)
    nodes = tuple(map(_node, graph.nodes))
    return OnnxHeader(model.opset, nodes, inputs, graph.outputs, initializers, metadata)


def _node(item: NodeMessage) -> Node:
    integers = tuple((part.name, part.integers) for part in item.attributes if part.integers)
    return Node(item.name, item.operator, item.inputs, item.outputs, integers)


def _check_preprocessing(inputs: Tuple[Value, ...], metadata: ModelMetadata, path: str) -> None:
    """Rejects a stored preprocessing that does not fit the model's input."""
    spec = metadata.preprocessing
    if spec is None or len(inputs) != 1 or len(inputs[0].shape) != 4:
        return
    wanted = zip(inputs[0].shape[1:], spec.input_shape)
    if any(isinstance(size, int) and size != made for size, made in wanted):
        shape = ", ".join("?" if size is None else printable(str(size)) for size in inputs[0].shape)
        raise BadModelError(
            path, f"its input accepts ({shape}), but the preprocessing in its metadata makes {spec.input_shape}", REMEDY
        )
