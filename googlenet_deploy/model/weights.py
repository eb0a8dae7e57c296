"""All kinds of weights that the toolkit reads, recognised by their content.

==========================  ====================================================================
``bvlc``, ``torchvision``   published weights, downloaded once (`download.py`)
``.caffemodel``             Caffe's binary form, old and new (`caffemodel.py`)
safetensors, our marker     the toolkit's own checkpoint (`checkpoint.py`)
``.pth`` or safetensors     a state dict of a GoogLeNet, wrapped or not (`checkpoint_forms.py`), by its tensors' names:
                            torchvision's, Caffe's (`caffe_names.py`), or those of the plain net
==========================  ====================================================================

Nothing is ever unpickled with code execution.

torchvision's model applies ``transform_input`` to ImageNet-normalised images, which undoes that normalisation. A state
dict does not record this; our preprocessing includes both steps (`specification.TORCHVISION`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from googlenet_deploy.device.files import sha256_file
from googlenet_deploy.device.labels import imagenet_classes
from googlenet_deploy.device.specification import BVLC, PLAIN, TORCHVISION, Preprocessing
from googlenet_deploy.errors import BadWeightsError, requires
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.caffe_names import from_caffe_name, is_caffe_named
from googlenet_deploy.model.download import PUBLISHED, fetch
from googlenet_deploy.model.weight_files import find_weight_files

with requires("export"):
    import torch

    from googlenet_deploy.model.caffemodel import read_caffemodel
    from googlenet_deploy.model.checkpoint import FORMAT, Checkpoint, load_checkpoint
    from googlenet_deploy.model.checkpoint_forms import (
        CheckpointContent,
        choose_state_dict,
        file_kind,
        listed,
        read_checkpoint,
    )
    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.model.state_dict import differences, dtype_note, load_state_dict, required_names, unwrap

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor

    from googlenet_deploy.model.state_dict import Unwrapped

# The preprocessing for a state dict, which does not record it.
CONVENTIONS = {"bvlc": BVLC, "torchvision": TORCHVISION, "plain": PLAIN}
# The share of matching tensors from which a file is assigned to an architecture that it does not fit exactly.
RECOGNISABLE = 0.5


def load_weights(
    source: str | Path, *, auxiliary: bool = False, num_classes: int | None = None, key: str | None = None
) -> Checkpoint:
    """Loads a GoogLeNet.

    Args:
        source: A file, or "bvlc" or "torchvision" for published weights.
        auxiliary: Add the auxiliary classifiers, for training; freshly initialised if the file has none.
        num_classes: The number of classes that the caller expects; None uses that of the file.
        key: Which of several state dicts in the file to use; None chooses automatically, see `checkpoint_forms`.

    Raises:
        BadWeightsError: The file is missing, damaged, of an unknown kind, or does not fit.
        DownloadError: Published weights could not be fetched.
    """
    path = fetch(str(source)) if str(source) in PUBLISHED else Path(source)
    checkpoint = replace(_load_file(path, auxiliary, key), source=str(source))
    if num_classes is not None and checkpoint.model.num_classes != num_classes:
        raise BadWeightsError(path, f"has {checkpoint.model.num_classes} classes, not {num_classes}")
    return checkpoint


def _load_file(path: Path, auxiliary: bool, key: str | None) -> Checkpoint:
    files = find_weight_files(path)
    if files.index is None and file_kind(files.files[0]) == "other":
        caffe = read_caffemodel(path)
        checkpoint = _from_caffe(path, caffe.tensors, caffe.preprocessing, auxiliary)
        return replace(checkpoint, source_sha256=sha256_file(path))
    content = read_checkpoint(path)
    if content.metadata.get("format") == FORMAT:
        return load_checkpoint(files.files[0], auxiliary=auxiliary)
    tensors, notes = choose_state_dict(content, key)
    if is_caffe_named(set(tensors.tensors)):
        checkpoint = _from_caffe(path, tensors.tensors, BVLC, auxiliary)
    else:
        checkpoint = _from_state_dict(path, content, tensors.tensors, auxiliary, key)
    notes = (*notes, *checkpoint.notes, *dtype_note(tensors.tensors))
    return replace(checkpoint, source_sha256=files.sha256(), notes=notes)


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


@cache
def tensor_names(architecture: str) -> tuple[str, ...]:
    """The state-dict names of an architecture, auxiliary classifiers included."""
    with torch.device("meta"):
        return tuple(GoogLeNet(ARCHITECTURES[architecture], 2, auxiliary=True).state_dict())


def _from_state_dict(
    path: Path, content: CheckpointContent, tensors: Mapping[str, Tensor], auxiliary: bool, key: str | None
) -> Checkpoint:
    unwrapped = {name: unwrap(tensors, tensor_names(name), path, key) for name in ARCHITECTURES}
    nearest = max(ARCHITECTURES, key=lambda name: _share(name, unwrapped[name].tensors))
    found = unwrapped[nearest]
    if _share(nearest, found.tensors) < RECOGNISABLE:
        raise BadWeightsError(
            path, _unknown(nearest, found, content), "for another network pass --module FILE.py:CALLABLE"
        )
    checkpoint = _build(path, nearest, found.tensors, CONVENTIONS[nearest], auxiliary, found.prefix)
    return replace(checkpoint, notes=found.notes)


def _share(architecture: str, tensors: Collection[str]) -> float:
    """How well an architecture matches a file, 0 to 1: shared names divided by all names that either needs."""
    required = set(required_names(tensor_names(architecture), tensors))
    known = {name for name in tensors if not name.endswith("num_batches_tracked")}
    return len(required & known) / len(required | known)


def _unknown(nearest: str, found: Unwrapped, content: CheckpointContent) -> str:
    wanted = tensor_names(nearest)
    where = f" (keys: {content.key_hint()})" if len(content.found) > 1 else ""
    prefix = f", names begin with {found.prefix!r}" if found.prefix else ""
    differ = "; ".join(differences(required_names(wanted, found.tensors), wanted, found.tensors))
    return (
        f"is not a GoogLeNet: it contains {listed(list(found.tensors))}{where}{prefix}. The nearest architecture is "
        f"{nearest}: it {differ}{_classifier(found.tensors)}"
    )


def _classifier(tensors: Mapping[str, Tensor]) -> str:
    last = next((tensor for _, tensor in reversed(list(tensors.items())) if tensor.dim() == 2), None)
    return "" if last is None else f"; its classifier has {last.shape[0]} classes"


def _build(
    path: Path,
    architecture: str,
    tensors: Mapping[str, Tensor],
    preprocessing: Preprocessing,
    auxiliary: bool,
    prefix: str = "",
) -> Checkpoint:
    """A checkpoint of a known architecture; its classes are ImageNet's if it has a thousand."""
    classifier = tensors.get("fc.weight")
    if classifier is None or classifier.dim() != 2 or classifier.shape[0] < 2:
        raise BadWeightsError(path, f"has no classifier of a {architecture} GoogLeNet (fc.weight)")
    model = GoogLeNet(ARCHITECTURES[architecture], classifier.shape[0], auxiliary=auxiliary)
    seen = f"a {architecture} GoogLeNet of {classifier.shape[0]} classes"
    load_state_dict(model, tensors, path, seen=f"{seen}, names begin with {prefix!r}" if prefix else seen)
    classes = imagenet_classes() if model.num_classes == 1000 else ()
    return Checkpoint(
        model=model.eval(),
        architecture=model.architecture,
        preprocessing=preprocessing,
        class_names=tuple(entry.name for entry in classes),
        class_ids=tuple(entry.wordnet_id for entry in classes),
        source=str(path),
    )
