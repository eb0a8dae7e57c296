"""Caffe's binary ``.caffemodel``: a serialised ``NetParameter`` in either of its two forms.

The published bvlc_googlenet.caffemodel has the old form: ``layers`` of `V1LayerParameter` whose blobs store num,
channels, height and width. Newer files have ``layer`` of `LayerParameter` with blobs that store a shape. Only the
fields that matter here are described below, with the numbers of BVLC's ``src/caffe/proto/caffe.proto``; protobuf skips
all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.files import reason
from googlenet_deploy.device.specification import BVLC, Preprocessing
from googlenet_deploy.errors import BadWeightsError, UsageError, requires

with requires("export"):
    import numpy as np
    import torch
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.message import DecodeError
    from torch import Tensor

if TYPE_CHECKING:
    from pathlib import Path

PARAMETERS = ("weight", "bias")

# message -> field -> (number, type, repeated, packed); a type in capitals is a message above it.
_FIELDS: dict[str, dict[str, tuple[int, str, bool, bool]]] = {
    "BlobShape": {"dim": (1, "int64", True, True)},
    "BlobProto": {
        "num": (1, "int32", False, False),
        "channels": (2, "int32", False, False),
        "height": (3, "int32", False, False),
        "width": (4, "int32", False, False),
        "data": (5, "float", True, True),
        "shape": (7, "BlobShape", False, False),
        "double_data": (8, "double", True, True),
    },
    "TransformationParameter": {
        "scale": (1, "float", False, False),
        "crop_size": (3, "uint32", False, False),
        "mean_value": (5, "float", True, False),
    },
    "V1LayerParameter": {
        "name": (4, "string", False, False),
        "blobs": (6, "BlobProto", True, False),
        "transform_param": (36, "TransformationParameter", False, False),
    },
    "LayerParameter": {
        "name": (1, "string", False, False),
        "blobs": (7, "BlobProto", True, False),
        "transform_param": (100, "TransformationParameter", False, False),
    },
    "NetParameter": {
        "name": (1, "string", False, False),
        "layers": (2, "V1LayerParameter", True, False),
        "layer": (100, "LayerParameter", True, False),
    },
}


@dataclass(frozen=True)
class CaffeModel:
    """The content of a caffemodel: tensors by ``LAYER.weight`` and ``LAYER.bias``, and the preprocessing."""

    tensors: dict[str, Tensor]
    preprocessing: Preprocessing


def read_caffemodel(path: Path) -> CaffeModel:
    """Reads a caffemodel of either form.

    The mean values, the scale and the crop of its data layer go into the preprocessing; otherwise the values that BVLC
    published with the model are used. Channels are in BGR order, as always in Caffe.

    Raises:
        BadWeightsError: The file is not a caffemodel, or is damaged.
    """
    try:
        net = _message("NetParameter").FromString(path.read_bytes())
    except OSError as error:
        raise BadWeightsError(path, f"cannot be read: {reason(error)}") from error
    except DecodeError as error:
        raise BadWeightsError(
            path, "is of no kind that is known, or is damaged", "pass a .caffemodel, .pth or .safetensors file"
        ) from error
    layers = [*net.layers, *net.layer]
    tensors = {}
    for layer in layers:
        name = _text(layer.name)
        for parameter, blob in zip(PARAMETERS, layer.blobs, strict=False):
            tensors[f"{name}.{parameter}"] = _tensor(blob, name, parameter, path)
    if not tensors:
        raise BadWeightsError(path, "contains no weights: it is not a caffemodel, or only a network's definition")
    return CaffeModel(tensors, _preprocessing(layers, path))


def _text(name: str | bytes) -> str:
    """A name as text; protobuf returns bytes if it is not UTF-8."""
    return name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")


def _tensor(blob: Any, layer: str, parameter: str, path: Path) -> Tensor:  # noqa: ANN401 - made at run time
    values = np.array(blob.data if len(blob.data) else blob.double_data, dtype=np.float32)
    shape = list(blob.shape.dim) if blob.HasField("shape") else [blob.num, blob.channels, blob.height, blob.width]
    if any(size < 0 for size in shape) or math.prod(shape) != values.size:
        raise BadWeightsError(path, f"layer {layer} has {values.size} values for a {parameter} of shape {shape}")
    return torch.from_numpy(values.reshape(_squeezed(shape, layer, parameter)))


def _squeezed(shape: list[int], layer: str, parameter: str) -> list[int]:
    """The old form pads every shape with ones at the front to four dimensions; ours has no padding."""
    dimensions = 1 if parameter == "bias" else 2 if layer.endswith(("/fc", "/classifier")) else 4
    while len(shape) > dimensions and shape[0] == 1:
        shape = shape[1:]
    return shape


def _preprocessing(layers: list[Any], path: Path) -> Preprocessing:
    for layer in layers:
        transform = layer.transform_param
        means = tuple(float(value) for value in transform.mean_value)
        if len(means) not in {1, 3}:
            continue
        crop = int(transform.crop_size) or BVLC.crop[0]
        scale = float(transform.scale) if transform.HasField("scale") else 1.0
        # Caffe subtracts the mean first and then scales: (x - mean) * scale.
        means = tuple(value * scale for value in (means * 3)[:3])
        try:
            return replace(BVLC, crop=(crop, crop), scale=scale, mean=means)
        except UsageError as error:
            raise BadWeightsError(path, f"its data layer makes no sense: {error.message}") from error
    return BVLC


def _message(name: str) -> Any:  # noqa: ANN401 - the class is made at run time
    """The class of one of the messages above."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file_descriptor())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))


def _file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, fields in _FIELDS.items():
        description = file.message_type.add(name=message)
        for name, (number, kind, repeated, packed) in fields.items():
            label = "LABEL_REPEATED" if repeated else "LABEL_OPTIONAL"
            field = description.field.add(name=name, number=number)
            field.label = getattr(descriptor_pb2.FieldDescriptorProto, label)
            if kind in _FIELDS:
                field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                field.type_name = f".caffe.{kind}"
            else:
                field.type = getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{kind.upper()}")
            if packed:
                field.options.packed = True
    return file
