"""The gate: checks a model's structure before any library or rewriting sees it.

Libraries hang on a cycle, follow a recursive function until the stack overflows, or allocate whatever a dimension asks
for. A model that passes has sorted nodes, the right number of inputs and outputs for every operator, bounded sizes and
constants whose bytes fit their shapes.
"""

from __future__ import annotations

from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from googlenet_deploy.device.onnx_model.messages import (
    Dimension,
    Function,
    Graph,
    Model,
    NodeMessage,
    TensorMessage,
    Value,
    stored_count,
)
from googlenet_deploy.device.onnx_model.operators import (
    ANY_ARITY,
    NEWEST_IR_VERSION,
    NEWEST_OPSET,
    arity_of,
    attribute_kinds,
)
from googlenet_deploy.device.specification import LARGEST_SIDE
from googlenet_deploy.device.text import printable

OLDEST_OPSET = 7
# Far above what classifiers need, and far below what exhausts memory.
LARGEST_DIMENSION = 2**31 - 1
LARGEST_INPUT = 2**28  # values of one batch
LARGEST_SPARSE = 2**28
LARGEST_RANK = 32  # NumPy's limit before 2.0
LARGEST_NODES = 200_000  # with functions expanded
LONGEST_LIST = 100_000
NEWEST_CUSTOM_OPSET = 10_000
# Minimum and maximum of attributes that determine how much memory an operator uses.
_BOUNDS = {
    "kernel_shape": (1, LARGEST_SIDE),
    "strides": (1, LARGEST_SIDE),
    "dilations": (1, LARGEST_SIDE),
    "output_padding": (0, LARGEST_SIDE),
    "output_shape": (0, LARGEST_SIDE),
    "pads": (-LARGEST_SIDE, LARGEST_SIDE),
    "group": (1, 2**20),
    "size": (1, 2**16),
    "blocksize": (1, 2**10),
    "axis": (-LARGEST_RANK, LARGEST_RANK),
}
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16}
_BITS.update({17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2})
_STRING = 8
_COMPLEX = (14, 15)  # two numbers each
_WINDOWED = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")


def check_structure(model: Model) -> None:
    """Checks everything that does not depend on the model's purpose.

    Raises:
        ValueError: The model is damaged; the message explains how.
    """
    if model.graph is None:
        raise ValueError("it has no graph")
    functions = _functions(model.functions)
    _check_recursion(model.graph, functions)
    for function in functions.values():
        _check_graph(function.body, set(function.inputs), function.outputs, model.opset, functions)
    _check_graph(model.graph, set(), [value.name for value in model.graph.outputs], model.opset, functions)
    for value in model.graph.inputs:
        _check_input(value)
    if not model.graph.outputs:
        raise ValueError("it has no output")


def check_versions(model: Model) -> None:
    """Checks the versions of the format and of the operators.

    Raises:
        ValueError: One is too old or too new.
    """
    if not 1 <= model.ir_version <= NEWEST_IR_VERSION:
        raise ValueError(f"has the format version {model.ir_version}; 1 to {NEWEST_IR_VERSION} can be read")
    seen: Dict[str, int] = {}
    for domain, version in model.opsets:
        newest = NEWEST_CUSTOM_OPSET if domain else NEWEST_OPSET
        oldest = 1 if domain else OLDEST_OPSET
        if not oldest <= version <= newest:
            name = f" of {printable(domain)}" if domain else ""
            raise ValueError(f"has opset {version}{name}; {oldest} to {newest} can be read")
        if seen.setdefault(domain, version) != version:
            raise ValueError(f"has two opsets of {printable(domain) or 'the default domain'}")


def _functions(functions: Iterable[Function]) -> Dict[str, Function]:
    found: Dict[str, Function] = {}
    for function in functions:
        if function.operator in found:
            raise ValueError(f"the function {printable(function.operator)} is there twice")
        found[function.operator] = function
    return found


def _check_recursion(graph: Graph, functions: Dict[str, Function]) -> None:
    """Rejects functions that call themselves, and functions that expand to more nodes than any model has."""
    sizes: Dict[str, int] = {}
    pending: Set[str] = set()

    def size_of(operators: Iterable[str]) -> int:
        return sum(function_size(operator) if operator in functions else 1 for operator in operators)

    def function_size(operator: str) -> int:
        if operator in pending:
            raise ValueError(f"the function {printable(operator)} calls itself")
        if operator not in sizes:
            if len(pending) > 100:
                raise ValueError("functions call each other more than 100 deep")
            pending.add(operator)
            sizes[operator] = size_of(node.operator for node in all_nodes(functions[operator].body))
            pending.discard(operator)
        return sizes[operator]

    for operator in functions:
        function_size(operator)
    if size_of(node.operator for node in all_nodes(graph)) > LARGEST_NODES:
        raise ValueError(f"it has more than {LARGEST_NODES} nodes")


def all_nodes(graph: Graph) -> Iterator[NodeMessage]:
    """The nodes of a graph and of its subgraphs."""
    for node in graph.nodes:
        yield node
        for attribute in node.attributes:
            for inner in attribute.graphs:
                yield from all_nodes(inner)


def all_tensors(graph: Graph) -> Iterator[TensorMessage]:
    """The constants of a graph and of its subgraphs, including those in attributes."""
    yield from graph.initializers
    for node in graph.nodes:
        for attribute in node.attributes:
            yield from attribute.tensors
            for inner in attribute.graphs:
                yield from all_tensors(inner)


def _check_graph(
    graph: Graph, outer: Set[str], outputs: Sequence[str], opset: int, functions: Dict[str, Function]
) -> None:
    """Checks names, edges, nodes, constants and stated shapes; subgraphs are checked with their nodes."""
    _check_constants(graph)
    own = _named(graph)
    known = outer | own
    for node in graph.nodes:
        missing = next((name for name in node.inputs if name and name not in known), None)
        if missing is not None:
            raise ValueError(_explain_missing(graph, known, node, missing))
        _check_node(node, opset, functions)
        for attribute in node.attributes:
            for inner in attribute.graphs:
                _check_graph(inner, known, [value.name for value in inner.outputs], opset, functions)
        for name in node.outputs:
            if name and name in own:
                raise ValueError(f"the tensor {printable(name)} is made twice")
            own.add(name)
            known.add(name)
    unmade = next((name for name in outputs if name not in known), None)
    if unmade is not None:
        raise ValueError(f"nothing makes the output {printable(unmade)}")


def _check_constants(graph: Graph) -> None:
    for tensor in graph.initializers:
        check_tensor(tensor)
    for dims, values, indices in graph.sparse:
        _check_sparse(dims, values, indices)
    for value in (*graph.inputs, *graph.outputs, *graph.values):
        _check_dimensions(f"the shape of {printable(value.name)}", value.stated)


def _named(graph: Graph) -> Set[str]:
    initializers = [tensor.name for tensor in graph.initializers] + [values.name for _, values, _ in graph.sparse]
    inputs = [value.name for value in graph.inputs]
    for names, what in ((initializers, "constants"), (inputs, "inputs")):
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two {what} are called {printable(twice)!r}")
    return {name for name in initializers + inputs if name}


def _explain_missing(graph: Graph, known: Set[str], node: NodeMessage, missing: str) -> str:
    makers = {name: item for item in graph.nodes for name in item.outputs if name}
    reads = f"node {printable(node.label)} reads {printable(missing)}"
    if missing not in makers:
        return f"{reads}, which nothing makes"
    # Nodes that remain after everything computable has been computed are on a cycle, or depend on one.
    left, known = list(graph.nodes), set(known)
    while True:
        ready = [item for item in left if all(not name or name in known or name not in makers for name in item.inputs)]
        if not ready:
            break
        known.update(name for item in ready for name in item.outputs)
        chosen = set(map(id, ready))
        left = [item for item in left if id(item) not in chosen]
    if left:
        return f"its graph has a cycle: {reads}, which depends on it"
    return f"its nodes are not sorted: {reads} before it is made"


def _check_node(node: NodeMessage, opset: int, functions: Dict[str, Function]) -> None:
    label = printable(node.label)
    if node.operator in functions:
        function = functions[node.operator]
        _check_count(label, "inputs", len(node.inputs), (0, len(function.inputs)))
        _check_count(label, "outputs", len(node.outputs), (1, len(function.outputs)))
    elif ":" not in node.operator:
        # TensorRT's plugins are in the default domain, so unknown operators are left to the libraries.
        arity = arity_of(node.operator, opset) or ANY_ARITY
        _check_count(label, "inputs", len(node.inputs), arity.inputs)
        _check_count(label, "outputs", len(node.outputs), arity.outputs)
        if any(not name for name in node.inputs[: arity.inputs[0]]):
            raise ValueError(f"node {label} lacks an input that {printable(node.operator)} needs")
        lacking = next((name for name in arity.required if node.attribute(name) is None), None)
        if lacking is not None:
            raise ValueError(f"node {label} lacks the attribute {lacking}, which {node.operator} needs")
    if not any(node.outputs):
        raise ValueError(f"node {label} has no output")
    if node.operator == "If":
        _check_branches(node, label)
    _check_attributes(node, label)


def _check_branches(node: NodeMessage, label: str) -> None:
    for attribute in node.attributes:
        for branch in attribute.graphs:
            if len(branch.outputs) != len(node.outputs) or branch.inputs:
                found = f"{len(branch.inputs)} inputs and {len(branch.outputs)} outputs"
                raise ValueError(f"node {label}: its {attribute.name} has {found}; 0 and {len(node.outputs)} are right")


def _check_count(label: str, what: str, count: int, allowed: Tuple[int, Optional[int]]) -> None:
    least, most = allowed
    if count < least or (most is not None and count > most):
        wanted = str(least) if most == least else f"{least} or more" if most is None else f"{least} to {most}"
        raise ValueError(f"node {label} has {count} {what}; {wanted} are right")


def _check_attributes(node: NodeMessage, label: str) -> None:
    seen: Set[str] = set()
    for attribute in node.attributes:
        if attribute.name in seen:
            raise ValueError(f"node {label} has two attributes {printable(attribute.name)!r}")
        seen.add(attribute.name)
        if not attribute.is_consistent:
            raise ValueError(f"node {label}: {printable(attribute.name)} has a value of another type than it states")
        kinds = attribute_kinds(attribute.name) if ":" not in node.operator else ()
        if kinds and attribute.kind not in kinds:
            raise ValueError(f"node {label}: {printable(attribute.name)} has a type that it never has")
        if len(attribute.integers) > LONGEST_LIST:
            raise ValueError(f"node {label}: {printable(attribute.name)} has {len(attribute.integers)} numbers")
        bounds = _BOUNDS.get(attribute.name) if ":" not in node.operator else None
        if bounds is not None and not all(bounds[0] <= value <= bounds[1] for value in attribute.integers):
            worst = max(attribute.integers, key=abs)
            raise ValueError(
                f"node {label}: its {attribute.name} of {worst} is out of range ({bounds[0]} to {bounds[1]})"
            )
        for tensor in attribute.tensors:
            check_tensor(tensor, label)
    if node.operator in _WINDOWED:
        _check_window(node, label)


def _check_window(node: NodeMessage, label: str) -> None:
    """Rejects padding larger than the window, which would only fill memory with zeros."""
    values = {item.name: item.integers for item in node.attributes}
    kernel, pads = values.get("kernel_shape", ()), values.get("pads", ())
    if not pads or not kernel:
        return
    dilations = values.get("dilations") or (1,) * len(kernel)
    if len(pads) != 2 * len(kernel) or len(dilations) != len(kernel):
        raise ValueError(f"node {label}: pads, dilations and kernel_shape do not fit each other")
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations)]
    if any(pad > max(64, extent) for pad, extent in zip(pads, reach + reach)):
        raise ValueError(f"node {label}: its padding of {max(pads)} is larger than its window")


def check_tensor(tensor: TensorMessage, label: str = "") -> None:
    """Checks that a constant's bytes fit its shape; external data is checked when it is read.

    Raises:
        ValueError: They do not.
    """
    name = printable(tensor.name or label)
    if len(tensor.dims) > LARGEST_RANK or any(not 0 <= size <= LARGEST_DIMENSION for size in tensor.dims):
        raise ValueError(f"the constant {name} has an impossible shape: {_shape(tensor.dims)}")
    if tensor.data_type != _STRING and tensor.data_type not in _BITS:
        raise ValueError(f"the constant {name} has an unknown type ({tensor.data_type})")
    if tensor.external is not None:
        if tensor.data_type == _STRING:
            raise ValueError(f"the constant {name} has texts in external data, where only numbers can be")
        return
    count = _product(tensor.dims)
    if tensor.data_type == _STRING:
        stored, wanted, unit = stored_count(tensor), count, "values"
    elif tensor.raw is not None:
        stored, wanted, unit = len(tensor.raw), byte_size(tensor), "bytes"
        if tensor.stored and stored_count(tensor):
            raise ValueError(f"the constant {name} has its values twice")
    else:
        stored, unit = stored_count(tensor), "values"
        wanted = -(-count * _BITS[tensor.data_type] // 8) if _BITS[tensor.data_type] < 8 else count
        wanted *= 2 if tensor.data_type in _COMPLEX else 1
    if stored != wanted:
        raise ValueError(f"the constant {name} has {stored} {unit}; its shape {_shape(tensor.dims)} needs {wanted}")


def byte_size(tensor: TensorMessage) -> int:
    """Size of a constant's values in bytes, by its shape and type; types smaller than a byte are packed."""
    return -(-_product(tensor.dims) * _BITS[tensor.data_type] // 8)


def _check_sparse(dims: Tuple[int, ...], values: TensorMessage, indices: TensorMessage) -> None:
    check_tensor(values)
    check_tensor(indices, values.name)
    if not dims or any(size < 1 for size in dims) or _product(dims) > LARGEST_SPARSE:
        raise ValueError(f"the sparse constant {printable(values.name)} has an impossible shape: {_shape(dims)}")


def _check_dimensions(what: str, shape: Sequence[Dimension]) -> None:
    if len(shape) > LARGEST_RANK:
        raise ValueError(f"{what} has {len(shape)} dimensions")
    too_large = next((size for size in shape if isinstance(size, int) and size > LARGEST_DIMENSION), None)
    if too_large is not None:
        raise ValueError(f"{what} has an impossible dimension: {too_large}")


def _check_input(value: Value) -> None:
    known = [size for size in value.shape if isinstance(size, int)]
    if _product(known) > LARGEST_INPUT:
        raise ValueError(f"its input {printable(value.name)} has an impossible size: {_shape(value.shape)}")


def _product(sizes: Iterable[int]) -> int:
    count = 1
    for size in sizes:
        count *= size
    return count


def _shape(shape: Sequence[Dimension]) -> str:
    shown: List[str] = ["?" if size is None else printable(str(size)) for size in shape[:LARGEST_RANK]]
    return f"({', '.join(shown)}{', ...' if len(shape) > LARGEST_RANK else ''})"
