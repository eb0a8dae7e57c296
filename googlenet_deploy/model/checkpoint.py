"""The toolkit's own checkpoint: a safetensors file with everything that an export needs.

The tensors have torchvision's state-dict names. The header's ``__metadata__`` (strings only, by the safetensors
specification) holds the marker ``format: googlenet_deploy``, the architecture, the width, and as JSON the
class names, the preprocessing and the training record; of a pruned network also the channels of every convolution.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from googlenet_deploy.device.files import atomic_path, sha256_file
from googlenet_deploy.device.onnx_model.metadata import parse_names
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadWeightsError, UsageError, requires
from googlenet_deploy.model.architecture import Architecture, get_architecture
from googlenet_deploy.model.widths import LARGEST_FACTOR, parse_widths, scaled_widths

with requires("export"):
    from safetensors import SafetensorError
    from safetensors.torch import save_file
    from torch import nn

    from googlenet_deploy.model.checkpoint_forms import read_safetensors
    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.model.state_dict import load_state_dict

FORMAT = "googlenet_deploy"
# A damaged or hostile header must not make us build a model that fills the memory.
MAX_CLASSES = 1_000_000


class NetworkName(Protocol):
    """What identifies a network."""

    @property
    def name(self) -> str:
        """Its name in the model's metadata."""
        ...


@dataclass
class TorchClassifier:
    """A PyTorch classifier with everything that an export needs.

    Attributes:
        model: The network, in eval mode.
        architecture: Which network it is.
        preprocessing: How its images are prepared.
        class_names: One per logit; empty if unknown.
        class_ids: WordNet ids, one per logit; empty if the classes have none.
        training_record: How it was trained, JSON-serialisable; empty for published weights.
        source: The file or name it was loaded from.
        source_sha256: Hash of that file.
        notes: Notes on choices and omissions during loading.
    """

    model: nn.Module
    architecture: NetworkName
    preprocessing: Preprocessing
    class_names: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()
    training_record: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    source_sha256: str = ""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The network's name in the model's metadata."""
        return self.architecture.name

    @property
    def title(self) -> str:
        """The network as a report names it: "timm:resnet18", "GoogLeNet (bvlc), pruned to 61 % of its channels"."""
        return self.name

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        raise NotImplementedError


@dataclass
class Checkpoint(TorchClassifier):
    """A GoogLeNet.

    Attributes:
        architecture: Which of the GoogLeNets it is.
    """

    model: GoogLeNet
    architecture: Architecture

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return self.model.num_classes

    @property
    def title(self) -> str:
        """Its architecture, its width unless that is 1, and the share of its channels that pruning left."""
        model, text = self.model, f"GoogLeNet ({self.name})"
        if model.width != 1:
            text += f", width {model.width:g}"
        full = scaled_widths(model.width)
        if model.widths != full:
            share = sum(model.widths.channels.values()) / sum(full.channels.values())
            text += f", pruned to {100 * share:.0f} % of its channels"
        return text


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, atomically; equal checkpoints produce identical files.

    Auxiliary classifiers are kept if the model has them, so that training can continue.

    Raises:
        OutputError: The file cannot be written.
    """
    model = checkpoint.model
    pruned = model.widths != scaled_widths(model.width)
    metadata = {
        "format": FORMAT,
        "architecture": checkpoint.architecture.name,
        "width": repr(model.width),
        **({"widths": model.widths.to_json()} if pruned else {}),
        "num_classes": str(model.num_classes),
        "class_names": json.dumps(list(checkpoint.class_names), ensure_ascii=False),
        "class_ids": json.dumps(list(checkpoint.class_ids)),
        "preprocessing": checkpoint.preprocessing.to_json(),
        "training_record": json.dumps(checkpoint.training_record, ensure_ascii=False, sort_keys=True),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            # safetensors reports a full disk as its own error; the atomic file turns OSError into a clear error.
            raise OSError(str(error)) from error
        _sort_metadata(temporary)


def load_checkpoint(path: str | Path, *, auxiliary: bool = False) -> Checkpoint:
    """Reads what `save_checkpoint` wrote.

    Args:
        path: The file.
        auxiliary: Keep the auxiliary classifiers; they are freshly initialised if the file has none.

    Raises:
        BadWeightsError: The file is damaged, or its tensors do not fit its stated architecture.
    """
    tensors, metadata = read_safetensors(path)
    try:
        architecture = get_architecture(metadata["architecture"])
        width, num_classes = float(metadata["width"]), int(metadata["num_classes"])
        widths = parse_widths(metadata["widths"]) if "widths" in metadata else None
        names, ids = parse_names(metadata.get("class_names", "[]")), parse_names(metadata.get("class_ids", "[]"))
        record = _parse_record(metadata.get("training_record", "{}"))
        preprocessing = Preprocessing.from_json(metadata["preprocessing"])
    except KeyError as error:
        raise BadWeightsError(path, f"its metadata is damaged: there is no {error}") from error
    except (ValueError, UsageError) as error:
        raise BadWeightsError(path, f"its metadata is damaged: {error}") from error
    if not 0 < width <= LARGEST_FACTOR or not 1 < num_classes <= MAX_CLASSES:
        raise BadWeightsError(path, f"its metadata is damaged: width {width}, {num_classes} classes")
    for words in (names, ids):
        if words and len(words) != num_classes:
            raise BadWeightsError(path, f"it names {len(words)} classes and has {num_classes} logits")
    channels = len(preprocessing.channels)
    model = GoogLeNet(architecture, num_classes, width=width, widths=widths, auxiliary=auxiliary, in_channels=channels)
    load_state_dict(model, tensors, path)
    return Checkpoint(
        model=model.eval(),
        architecture=architecture,
        preprocessing=preprocessing,
        class_names=names,
        class_ids=ids,
        training_record=record,
        source=str(path),
        source_sha256=sha256_file(path),
    )


def _parse_record(text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except RecursionError:
        record = None
    if not isinstance(record, dict):
        raise ValueError("the training record is not a JSON object")  # noqa: TRY004 - what the file says, not a caller
    return record


def _sort_metadata(path: Path) -> None:
    """Sorts the metadata of a safetensors file by key; the library's own order is random.

    The file begins with the header's length, 8 bytes little-endian, and the header, JSON that spaces may pad.
    """
    with path.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        assert len(text) <= length
        stream.seek(8)
        stream.write(text.ljust(length))
