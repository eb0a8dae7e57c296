"""ONNX files: read with full checks, written atomically and reproducibly."""

from __future__ import annotations

from googlenet_deploy.device.files import PathLike, write_bytes
from googlenet_deploy.device.onnx_model.header import REMEDY, read_model
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.runner.protocol import IMAGE_DIMENSIONS
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.device.text import printable
from googlenet_deploy.errors import BadModelError, VerificationError, requires
from googlenet_deploy.graph.edit import name_nodes
from googlenet_deploy.graph.fold import fold_constants
from googlenet_deploy.graph.graph import GraphView, integer, runtime_inputs, serialize, shape_of
from googlenet_deploy.graph.inference_mode import to_inference_mode
from googlenet_deploy.graph.inline import inline_functions
from googlenet_deploy.graph.pass_manager import check_model, find_problem
from googlenet_deploy.graph.single_precision import to_single_precision

with requires("export"):
    from google.protobuf.message import DecodeError
    from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

IR_WITHOUT_CONSTANT_INPUTS = 4
# Operators that keep the number of channels and may come before the first convolution.
_BEFORE_THE_FIRST_LAYER = frozenset(
    {"Add", "BatchNormalization", "Cast", "Clip", "Div", "Identity", "Mul", "Pad", "Sub"}
)
DEFAULT_SIZE = 224  # pixels; if the model leaves height and width open


def load_model(path: PathLike, *, repairable: bool = False) -> ModelProto:
    """Reads an ONNX file of any origin, including its external data, with the checks of `onnx_model.header`.

    Nodes without a name get one, and dimensions below 1 are left open; nothing else is changed.

    Args:
        path: The file.
        repairable: Accept scales that make no sense, for callers that report and replace them.

    Raises:
        BadModelError: It is missing, truncated, not ONNX, inconsistent, of an opset below 7, or its external
            data is missing, too short or outside the model's folder.
    """
    file = read_model(path, repairable=repairable)
    try:
        model: ModelProto = ModelProto.FromString(file.content)
    except DecodeError:
        raise BadModelError(path, "is not an ONNX model, or is truncated", REMEDY) from None
    if model.ir_version < IR_WITHOUT_CONSTANT_INPUTS and _has_plain_constants(model.graph):
        model.ir_version = IR_WITHOUT_CONSTANT_INPUTS
    name_nodes(model.graph)
    problem = find_problem(model.graph)
    if problem:
        raise BadModelError(path, f"is damaged: {printable(problem, 300)}", REMEDY)
    return model


def load_classifier(path: PathLike, notes: list[str] | None = None) -> ModelProto:
    """Reads an ONNX image classifier that passes the checker and has one image tensor as input.

    Its functions are inlined and constant expressions are folded, so that every weight is an initializer; a model in
    float64 or float16 becomes float32.

    Args:
        path: The file.
        notes: Where to report what was changed beyond that.

    Raises:
        BadModelError: See `load_model`; or the checker rejects it, or it does not have exactly one input of rank 4.
    """
    model = load_model(path)
    try:
        inline_functions(model)
        inputs = runtime_inputs(model.graph)
        if len(inputs) != 1:
            names = ", ".join(printable(value.name) for value in inputs[:5]) or "none"
            raise BadModelError(path, f"has {len(inputs)} inputs ({names}); an image classifier has one")
        _state_channels(model, inputs[0])
        converted = to_single_precision(model)
        image_channels(path, inputs[0])
        check_model(model)
    except VerificationError as error:
        raise BadModelError(path, error.message, REMEDY) from error
    if converted and notes is not None:
        notes.append(converted)
    changes = to_inference_mode(model)
    if notes is not None:
        notes += changes
    fold_constants(model)
    return model


def _has_plain_constants(graph: GraphProto) -> bool:
    """Whether constants are not listed as inputs: until IR version 4 they had to be, but every runtime reads both."""
    return not {tensor.name for tensor in graph.initializer} <= {value.name for value in graph.input}


def _state_channels(model: ModelProto, value: ValueInfoProto) -> None:
    """Sets an open number of channels to what the convolution that reads the image takes, in place.

    Exporters that are told to leave every dimension open also leave this one open.
    """
    dimensions = value.type.tensor_type.shape.dim
    if len(dimensions) != IMAGE_DIMENSIONS or dimensions[1].HasField("dim_value") or dimensions[3].dim_value in (1, 3):
        return
    view, name = GraphView(model), value.name
    while (node := view.only_reader(name)) is not None and node.op_type in _BEFORE_THE_FIRST_LAYER:
        name = node.output[0]
    weight = None if node is None or node.op_type != "Conv" else view.find_constant(node.input[1])
    if node is not None and weight is not None and node.input[0] == name:
        dimensions[1].dim_value = weight.shape[1] * integer(node, "group", 1)


def image_channels(path: PathLike, value: ValueInfoProto) -> tuple[str, int]:
    """Layout and number of channels of an image input.

    Returns:
        ("NCHW" or "NHWC", 1 or 3).

    Raises:
        BadModelError: It is not a float32 or uint8 tensor of rank 4 with 1 or 3 channels.
    """
    shape = shape_of(value)
    if len(shape) == IMAGE_DIMENSIONS and value.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.UINT8):
        for layout, channels in (("NCHW", shape[1]), ("NHWC", shape[3])):
            if channels in (1, 3):
                assert isinstance(channels, int)
                return layout, channels
    needed = "float32 or uint8 of rank 4 with 1 or 3 channels is needed"
    raise BadModelError(path, f"its input {printable(value.name)} is not a batch of images: {needed}")


def input_specification(path: PathLike, model: ModelProto) -> Preprocessing:
    """How images are prepared for a classifier: by its metadata, else to values from -1 to 1 in its input's shape.

    Raises:
        BadModelError: The metadata is damaged or contradicts the input.
    """
    value = runtime_inputs(model.graph)[0]
    layout, channels = image_channels(path, value)
    shape = shape_of(value)
    stated = read_metadata(path, model).preprocessing
    size = tuple(shape[2:] if layout == "NCHW" else shape[1:3])
    if stated is not None:
        wanted = stated.input_shape
        fits = all(not isinstance(have, int) or have == want for have, want in zip(shape[1:], wanted, strict=True))
        if not fits or stated.layout != layout:
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
    """Writes a model atomically; the same model always yields the same bytes.

    Raises:
        OutputError: The file cannot be written.
    """
    write_bytes(path, serialize(model))


def read_metadata(path: PathLike, model: ModelProto) -> ModelMetadata:
    """The model's metadata; empty for models of other tools.

    Raises:
        BadModelError: The toolkit's entries are damaged.
    """
    return ModelMetadata.from_properties({entry.key: entry.value for entry in model.metadata_props}, str(path))


def store_metadata(model: ModelProto, metadata: ModelMetadata) -> None:
    """Replaces the toolkit's entries in ``metadata_props`` and keeps those of other tools; all are sorted by key."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    own = ModelMetadata.from_properties(properties, "")
    for key in own.to_properties():
        properties.pop(key, None)
    properties.update(metadata.to_properties())
    del model.metadata_props[:]
    for key in sorted(properties):
        model.metadata_props.add(key=key, value=properties[key])
