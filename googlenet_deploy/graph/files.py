"""ONNX files: read with suspicion, written whole and always in the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from googlenet_deploy.device.files import PathLike, reason, write_bytes
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadModelError, VerificationError, first_line, requires
from googlenet_deploy.graph.fold import fold_constants
from googlenet_deploy.graph.graph import name_nodes, opset_of, runtime_inputs, serialize, shape_of, subgraphs
from googlenet_deploy.graph.inline import check_functions, inline_functions
from googlenet_deploy.graph.pass_manager import check_model, find_problem
from googlenet_deploy.graph.shapes import open_dimensions
from googlenet_deploy.graph.single_precision import to_single_precision

with requires("export"):
    import onnx
    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import DecodeError, Message
    from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, external_data_helper

# Protobuf's own limit for one message.
LARGEST_FILE = 2**31 - 1
OLDEST_OPSET = 7
DEFAULT_SIZE = 224  # pixels; where the model leaves height and width open
REMEDY = "export it again, or check the download"


def load_model(path: PathLike) -> ModelProto:
    """Reads an ONNX file of any origin, its external data included, and checks its structure.

    Nodes without a name get one, and dimensions below 1 become open; nothing else is changed.

    Raises:
        BadModelError: It is missing, truncated, no ONNX, inconsistent, of an opset below 7, or its external
            data is missing, too short or outside the model's folder.
    """
    file = Path(path)
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise BadModelError(path, "is larger than 2 GiB, which is more than an ONNX file can be")
        content = file.read_bytes()
    except OSError as error:
        raise BadModelError(path, f"cannot be read: {reason(error)}") from error
    try:
        model: ModelProto = ModelProto.FromString(content)
    except DecodeError:
        raise BadModelError(path, "is not an ONNX model, or is truncated", REMEDY) from None
    if not _is_text(model):
        raise BadModelError(path, "is damaged: a name in it is not UTF-8 text", REMEDY)
    _check_header(path, model)
    try:
        check_functions(model)
    except VerificationError as error:
        raise BadModelError(path, error.message, REMEDY) from error
    _load_external_data(path, model)
    name_nodes(model.graph)
    open_dimensions(model.graph)
    problem = find_problem(model.graph)
    if problem:
        raise BadModelError(path, f"is damaged: {problem}", REMEDY)
    return model


def load_classifier(path: PathLike, notes: list[str] | None = None) -> ModelProto:
    """Reads an ONNX image classifier: valid to the checker, with one image tensor as input.

    Its functions are inlined and what depends on constants alone is folded, so that every weight is an initializer;
    a model in float64 becomes float32.

    Args:
        path: The file.
        notes: Where to report what was changed beyond that.

    Raises:
        BadModelError: See `load_model`; or the checker refuses it, or it does not have exactly one input of rank 4.
    """
    model = load_model(path)
    try:
        inline_functions(model)
        inputs = runtime_inputs(model.graph)
        if len(inputs) != 1:
            names = ", ".join(value.name for value in inputs[:5]) or "none"
            raise BadModelError(path, f"has {len(inputs)} inputs ({names}); an image classifier has one")
        doubles = to_single_precision(model)
        image_channels(path, inputs[0])
        check_model(model)
    except VerificationError as error:
        raise BadModelError(path, error.message, REMEDY) from error
    if doubles and notes is not None:
        notes.append(f"{doubles} float64 constants and everything computed from them became float32")
    fold_constants(model)
    return model


def image_channels(path: PathLike, value: ValueInfoProto) -> tuple[str, int]:
    """Layout and number of channels of an image input.

    Returns:
        ("NCHW" or "NHWC", 1 or 3).

    Raises:
        BadModelError: It is not a float32 or uint8 tensor of rank 4 with 1 or 3 channels.
    """
    shape = shape_of(value)
    if len(shape) == 4 and value.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.UINT8):
        for layout, channels in (("NCHW", shape[1]), ("NHWC", shape[3])):
            if channels in (1, 3):
                assert isinstance(channels, int)
                return layout, channels
    raise BadModelError(
        path, f"its input {value.name} is no batch of images: float32 or uint8 of rank 4 with 1 or 3 channels is needed"
    )


def input_specification(path: PathLike, model: ModelProto) -> Preprocessing:
    """How images are prepared for a classifier: what its metadata says, else values from -1 to 1 in its input's shape.

    Raises:
        BadModelError: The metadata is damaged or contradicts the input.
    """
    value = runtime_inputs(model.graph)[0]
    layout, channels = image_channels(path, value)
    shape = shape_of(value)
    stated = read_metadata(path, model).preprocessing
    size = tuple(shape[2:] if layout == "NCHW" else shape[1:3])
    if stated is not None:
        wanted = tuple(stated.crop)
        fits = all(not isinstance(have, int) or have == want for have, want in zip(size, wanted, strict=True))
        if not fits or stated.layout != layout or len(stated.channels) != channels:
            raise BadModelError(path, "its input has another shape than the preprocessing in its metadata", REMEDY)
        return stated
    height, width = (length if isinstance(length, int) else DEFAULT_SIZE for length in size)
    specification = Preprocessing(
        resize=round(max(height, width) * 256 / 224),
        crop=(height, width),
        channels="RGB" if channels == 3 else "L",
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
        layout=layout,
    )
    is_uint8 = value.type.tensor_type.elem_type == TensorProto.UINT8
    return specification.with_uint8_input() if is_uint8 else specification


def write_model(path: PathLike, model: ModelProto) -> None:
    """Writes a model atomically; the same model gives the same bytes.

    Raises:
        OutputError: The file cannot be written.
    """
    write_bytes(path, serialize(model))


def read_metadata(path: PathLike, model: ModelProto) -> ModelMetadata:
    """What the model says about itself; empty for models of other tools.

    Raises:
        BadModelError: The toolkit's entries are damaged.
    """
    return ModelMetadata.from_properties({entry.key: entry.value for entry in model.metadata_props}, str(path))


def store_metadata(model: ModelProto, metadata: ModelMetadata) -> None:
    """Replaces the toolkit's entries in ``metadata_props``; those of other tools stay; all are sorted by key."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    own = ModelMetadata.from_properties(properties, "")
    for key in own.to_properties():
        properties.pop(key, None)
    properties.update(metadata.to_properties())
    del model.metadata_props[:]
    for key in sorted(properties):
        model.metadata_props.add(key=key, value=properties[key])


def _check_header(path: PathLike, model: ModelProto) -> None:
    # Almost any short file parses as a message of unknown fields, so what every model has is asked for.
    if not model.HasField("graph") or not model.opset_import or not model.graph.node:
        raise BadModelError(path, "is not an ONNX model, or is truncated", REMEDY)
    opset, newest = opset_of(model), onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise BadModelError(path, f"has opset {opset}; {OLDEST_OPSET} to {newest} can be read")
    if not model.graph.output:
        raise BadModelError(path, "has no output")


def _is_text(message: Message) -> bool:
    """Whether all strings of a message are UTF-8; protobuf does not check that while it parses, but on access."""
    try:
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_STRING:
                texts = [value] if isinstance(value, (str, bytes)) else value
                if not all(isinstance(text, str) for text in texts):
                    return False
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                children = [value] if isinstance(value, Message) else value
                if not all(_is_text(child) for child in children):
                    return False
    except UnicodeDecodeError:
        return False
    return True


def _load_external_data(path: PathLike, model: ModelProto) -> None:
    folder = Path(path).resolve().parent
    external = [tensor for tensor in _all_tensors(model.graph) if tensor.data_location == TensorProto.EXTERNAL]
    for tensor in external:
        _check_external(path, folder, tensor)
    try:
        for tensor in external:
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise BadModelError(path, f"its external data cannot be read: {first_line(error)}") from error


def _check_external(path: PathLike, folder: Path, tensor: TensorProto) -> None:
    """Refuses places outside the model's folder, missing files and files that end too early."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    relative = PurePosixPath(location)
    target = (folder / location).resolve() if location and "\0" not in location else folder
    inside = folder in target.parents and not relative.is_absolute() and ".." not in relative.parts
    if not inside:
        raise BadModelError(
            path, f"tensor {tensor.name}: its external data is outside the model's folder: {location!r}"
        )
    try:
        size = target.stat().st_size
    except OSError as error:
        raise BadModelError(
            path, f"its external data {location} cannot be read: {reason(error)}", f"put {location} beside the model"
        ) from error
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", "0"))
    except ValueError:
        raise BadModelError(path, f"tensor {tensor.name}: offset or length of its external data is no number") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise BadModelError(path, f"its external data {location} is too short for tensor {tensor.name}", REMEDY)


def _all_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Initializers and attributes of a graph and its subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for subgraph in subgraphs(node):
            yield from _all_tensors(subgraph)
