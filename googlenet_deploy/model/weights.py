"""Weights of every kind that the toolkit reads, told apart by their content.

==========================  ====================================================================
``bvlc``, ``torchvision``   published weights, downloaded once (`download.py`)
``.caffemodel``             Caffe's binary form, old and new (`caffemodel.py`)
safetensors, Caffe's names  the same weights converted (`caffe_names.py`)
``.pth``                    torchvision's googlenet state dict (`torchvision_weights.py`)
safetensors, our marker     the toolkit's own checkpoint (`checkpoint.py`)
==========================  ====================================================================

Nothing is ever unpickled with code execution.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from googlenet_deploy.device.files import reason, sha256_file
from googlenet_deploy.device.labels import imagenet_classes
from googlenet_deploy.device.specification import BVLC, TORCHVISION, Preprocessing
from googlenet_deploy.errors import BadWeightsError, requires
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.caffe_names import from_caffe_name, is_caffe_named
from googlenet_deploy.model.download import PUBLISHED, fetch

with requires("export"):
    from googlenet_deploy.model.caffemodel import read_caffemodel
    from googlenet_deploy.model.checkpoint import FORMAT, Checkpoint, load_checkpoint, read_safetensors
    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.model.state_dict import load_state_dict
    from googlenet_deploy.model.torchvision_weights import read_torchvision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"
HEADER_BYTES = 9


def load_weights(source: str | Path, *, auxiliary: bool = False, num_classes: int | None = None) -> Checkpoint:
    """Loads a classifier.

    Args:
        source: A file, or "bvlc" or "torchvision" for published weights.
        auxiliary: Give the model its auxiliary classifiers, for training; afresh where the file has none.
        num_classes: The number of classes that the caller counts on; None takes what the file has.

    Raises:
        BadWeightsError: The file is missing, damaged, of an unknown kind, or does not fit.
        DownloadError: Published weights could not be fetched.
    """
    path = fetch(str(source)) if str(source) in PUBLISHED else Path(source)
    checkpoint = replace(_load_file(path, auxiliary), source=str(source))
    if num_classes is not None and checkpoint.model.num_classes != num_classes:
        raise BadWeightsError(path, f"has {checkpoint.model.num_classes} classes, not {num_classes}")
    return checkpoint


def _load_file(path: Path, auxiliary: bool) -> Checkpoint:
    header = _read_header(path)
    if header[8:9] == b"{":  # safetensors: eight bytes of length, then a JSON object
        tensors, metadata = read_safetensors(path)
        if metadata.get("format") == FORMAT:
            return load_checkpoint(path, auxiliary=auxiliary)
        if is_caffe_named(set(tensors)):
            return _from_caffe(path, tensors, BVLC, auxiliary)
        return _from_torchvision(path, tensors, auxiliary)
    if header.startswith((ZIP_MAGIC, PICKLE_MAGIC)):
        return _from_torchvision(path, read_torchvision(path), auxiliary)
    caffe = read_caffemodel(path)
    return _from_caffe(path, caffe.tensors, caffe.preprocessing, auxiliary)


def _read_header(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            header = stream.read(HEADER_BYTES)
    except OSError as error:
        names = " or ".join(PUBLISHED)
        raise BadWeightsError(path, f"cannot be read: {reason(error)}", f"give a file, or {names}") from error
    if not header:
        raise BadWeightsError(path, "is empty")
    return header


def _from_caffe(path: Path, tensors: Mapping[str, Tensor], preprocessing: Preprocessing, auxiliary: bool) -> Checkpoint:
    renamed, unknown = {}, []
    for name, tensor in tensors.items():
        ours = from_caffe_name(name)
        if ours is None:
            unknown.append(name)
        else:
            renamed[ours] = tensor
    if unknown:
        raise BadWeightsError(path, f"has layers that GoogLeNet does not have: {', '.join(sorted(unknown)[:3])}")
    return _build(path, "bvlc", renamed, preprocessing, auxiliary)


def _from_torchvision(path: Path, tensors: Mapping[str, Tensor], auxiliary: bool) -> Checkpoint:
    return _build(path, "torchvision", tensors, TORCHVISION, auxiliary)


def _build(
    path: Path, architecture: str, tensors: Mapping[str, Tensor], preprocessing: Preprocessing, auxiliary: bool
) -> Checkpoint:
    """A checkpoint of a published architecture; its classes are ImageNet's where it has a thousand."""
    classifier = tensors.get("fc.weight")
    if classifier is None or classifier.dim() != 2 or classifier.shape[0] < 2:
        raise BadWeightsError(path, f"has no classifier of a {architecture} GoogLeNet (fc.weight)")
    model = GoogLeNet(ARCHITECTURES[architecture], classifier.shape[0], auxiliary=auxiliary)
    load_state_dict(model, tensors, path)
    classes = imagenet_classes() if model.num_classes == 1000 else ()
    return Checkpoint(
        model=model.eval(),
        architecture=model.architecture,
        preprocessing=preprocessing,
        class_names=tuple(entry.name for entry in classes),
        class_ids=tuple(entry.wordnet_id for entry in classes),
        source=str(path),
        source_sha256=sha256_file(path),
    )
