"""Reads the tensors of a checkpoint of any form: the only reader of ``.pth`` and safetensors.

A file holds a state dict, or a dictionary with one or more state dicts besides epochs, options and optimiser states.
`read_checkpoint` finds all of them and `choose_state_dict` selects one: that of the requested key; otherwise the moving
average of the weights (EMA) if there is one, which is reported; otherwise the only one.

Nothing is ever unpickled with code execution; see `allowed_types.py`.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.files import reason
from googlenet_deploy.errors import BadWeightsError, first_line, requires
from googlenet_deploy.model.weight_files import WeightFiles, find_weight_files

with requires("export"):
    import torch
    from safetensors import SafetensorError, safe_open
    from torch import Tensor

    from googlenet_deploy.model.allowed_types import allowed_types

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"
HEADER_BYTES = 9
# Keys under which training scripts keep the weights, the usual ones first.
KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params")
EMA = re.compile(r"(^|[._])ema([._]|$)")
MAX_DEPTH = 5
SHOWN = 4
UNSUPPORTED = re.compile(r"GLOBAL ([\w.]+)")


@dataclass(frozen=True)
class StateDict:
    """Tensors by name.

    Attributes:
        key: Its key in the file, such as "state_dict_ema" or "ema.module"; "" for the file itself.
        tensors: The tensors as stored in the file.
    """

    key: str
    tensors: dict[str, Tensor]

    @property
    def is_average(self) -> bool:
        """Whether it is a moving average of the weights."""
        return is_average(self.key)


@dataclass(frozen=True)
class CheckpointContent:
    """The content of a checkpoint.

    Attributes:
        files: Its files.
        found: Every state dict in it; at least one.
        metadata: Metadata of a safetensors file; empty for others.
        unusable: Keys of averages that are not state dicts.
    """

    files: WeightFiles
    found: tuple[StateDict, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    unusable: tuple[str, ...] = ()

    def key_hint(self) -> str:
        """The keys that can be chosen."""
        return ", ".join(item.key or "''" for item in self.found)


def is_average(name: str) -> bool:
    """Whether a key or a prefix denotes a moving average: "ema", "model_ema", "ema.module."."""
    return EMA.search(name) is not None


def file_kind(path: Path) -> str:
    """Which reader a file needs, by its first bytes: "safetensors", "torch" or "other".

    Raises:
        BadWeightsError: The file cannot be read, or is empty.
    """
    try:
        with path.open("rb") as stream:
            header = stream.read(HEADER_BYTES)
    except OSError as error:
        raise BadWeightsError(
            path, f"cannot be read: {reason(error)}", "pass a file, or bvlc or torchvision"
        ) from error
    if not header:
        raise BadWeightsError(path, "is empty")
    if header[8:9] == b"{":  # eight bytes of length, then a JSON object
        return "safetensors"
    return "torch" if header.startswith((ZIP_MAGIC, PICKLE_MAGIC)) else "other"


def read_checkpoint(source: str | Path) -> CheckpointContent:
    """Reads all state dicts of a checkpoint.

    Args:
        source: A ``.pth`` or safetensors file, an index of shards, one of its shards, or a folder of these.

    Raises:
        BadWeightsError: The file is missing, damaged, of another kind, holds no tensors, or would run code.
    """
    files = find_weight_files(source)
    if files.index is not None:
        return CheckpointContent(files, (StateDict("", _from_shards(files)),))
    path = files.files[0]
    kind = file_kind(path)
    if kind == "other":
        raise BadWeightsError(path, "is not a checkpoint: neither safetensors nor a PyTorch file")
    if kind == "safetensors":
        tensors, metadata = read_safetensors(path)
        if not tensors:
            raise BadWeightsError(path, "contains no tensors")
        return CheckpointContent(files, (StateDict("", tensors),), metadata)
    content = read_torch(path)
    found: list[StateDict] = []
    unusable: list[str] = []
    _walk(content, "", found, unusable, set())
    if not found:
        keys = [str(key) for key in content][:SHOWN] if isinstance(content, dict) else []
        inside = f"; its keys are {', '.join(keys)}" if keys else ""
        raise BadWeightsError(path, f"does not contain a state dict: a dictionary of tensors{inside}")
    return CheckpointContent(files, tuple(found), unusable=tuple(unusable))


def choose_state_dict(content: CheckpointContent, key: str | None) -> tuple[StateDict, tuple[str, ...]]:
    """Selects the state dict to load, with notes on the choice for the user.

    Args:
        content: The checkpoint's content.
        key: The requested key; None chooses automatically. A key that does not exist is treated as a prefix of tensor
            names, which `state_dict.py` looks for.

    Raises:
        BadWeightsError: Several are equally good.
    """
    path = _path(content)
    if key is not None:
        exact = [item for item in content.found if item.key == key]
        if exact:
            return exact[0], (f"weights are those under {key!r}, as asked",)
        with_prefix = [item for item in content.found if any(name.startswith(f"{key}.") for name in item.tensors)]
        if len(with_prefix) == 1:
            return with_prefix[0], (f"weights are those named {key}.*, as asked",)
        raise BadWeightsError(
            path, f"contains no weights under {key!r}; --weights-key can be one of {content.key_hint()}"
        )
    unusable = tuple(f"{name!r} in the file is not a state dict and was left out" for name in content.unusable)
    averages = [item for item in content.found if item.is_average]
    if len(averages) == 1:
        others = [item.key for item in content.found if not item.is_average]
        choice = f"; --weights-key {others[0]} uses the others" if others and others[0] else ""
        return averages[0], (f"weights are the moving average (EMA) under {averages[0].key!r}{choice}", *unusable)
    if averages:
        keys = ", ".join(item.key for item in averages)
        raise BadWeightsError(path, f"contains several moving averages: {keys}", "choose one with --weights-key")
    return _usual(content, path), unusable


def _usual(content: CheckpointContent, path: Path) -> StateDict:
    if len(content.found) == 1:
        return content.found[0]
    for key in ("", *KEYS):
        for item in content.found:
            if item.key == key:
                return item
    raise BadWeightsError(path, f"contains several state dicts: {content.key_hint()}", "choose one with --weights-key")


def _path(content: CheckpointContent) -> Path:
    return content.files.index or content.files.files[0]


def _walk(content: object, key: str, found: list[StateDict], unusable: list[str], seen: set[int]) -> None:
    """Collects the state dicts of nested dictionaries, in their order."""
    if not isinstance(content, dict) or id(content) in seen or key.count(".") >= MAX_DEPTH:
        return
    seen.add(id(content))
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if any(tensor.dim() > 1 for tensor in tensors.values()):
        found.append(StateDict(key, tensors))
    for name, value in content.items():
        if not isinstance(name, str) or name.startswith("optimizer"):
            continue
        before = len(found)
        inner = f"{key}.{name}" if key else name
        _walk(value, inner, found, unusable, seen)
        if is_average(inner) and len(found) == before and isinstance(value, dict | list | tuple) and value:
            unusable.append(inner)


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """All tensors of a safetensors file, and its metadata.

    Raises:
        BadWeightsError: The file is not safetensors, or is damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
            return tensors, stream.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise BadWeightsError(path, f"is not a safetensors file, or is damaged: {error}") from error


def read_torch(path: Path) -> object:
    """Reads what `torch.save` wrote: a zip archive or, before 2020, a bare pickle.

    Raises:
        BadWeightsError: The file is damaged, or would run code when unpickled.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed_types()):
            warnings.simplefilter("ignore")
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except Exception as error:  # torch's three readers may raise almost anything, AssertionError included
        if "TorchScript" in str(error):
            remedy = f"{_SAVE}; or, where you trust it, export --module torch.jit:load --module-args {path.name}"
            raise BadWeightsError(path, "is a TorchScript archive, which contains code", remedy) from error
        raise BadWeightsError(path, f"is not a PyTorch checkpoint, or is damaged: {first_line(error)}") from error
    return content


_SAVE = "save the state dict alone: torch.save(model.state_dict(), path)"


def _refusal(path: Path, error: pickle.UnpicklingError) -> BadWeightsError:
    names = _unsafe_names(path) or UNSUPPORTED.findall(str(error))
    if any(name.startswith("torch.nn.modules.") for name in names):
        own = _first_global(path) or next((name for name in names if not name.startswith("torch.")), names[0])
        lines = f'model = torch.load("{path.name}", weights_only=False)  and  torch.save(model.state_dict(), "new.pth")'
        return BadWeightsError(
            path,
            f"is a whole pickled model ({own}); loading it runs code, which is refused",
            f"save its state dict where you trust the file: {lines}",
        )
    which = f": it contains {listed(names)}" if names else ""
    return BadWeightsError(path, f"is damaged, or would run code when it is loaded, which is refused{which}", _SAVE)


def _unsafe_names(path: Path) -> list[str]:
    """The disallowed types in a file; empty if that cannot be determined."""
    try:
        with torch.serialization.safe_globals(allowed_types()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # noqa: BLE001 - the file is refused anyway, and may be damaged in any way
        return []


def _first_global(path: Path) -> str:
    """The class of the object in a torch zip archive, or an empty string."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as stream:
                found = next(argument for code, argument, _ in pickletools.genops(stream) if code.name == "GLOBAL")
    except (OSError, ValueError, StopIteration, zipfile.BadZipFile):
        return ""
    return str(found).replace(" ", ".")


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _from_shards(files: WeightFiles) -> dict[str, Tensor]:
    assert files.index is not None
    tensors: dict[str, Tensor] = {}
    for path in files.files:
        content: Any = read_safetensors(path)[0] if file_kind(path) == "safetensors" else read_torch(path)
        if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
            raise BadWeightsError(path, "is a shard that is not a dictionary of tensors")
        twice = sorted(set(tensors) & set(content))
        if twice:
            raise BadWeightsError(files.index, f"tensor {twice[0]} is in two shards")
        tensors.update(content)
    missing, extra = sorted(set(files.places) - set(tensors)), sorted(set(tensors) - set(files.places))
    if missing or extra:
        what = f"lists {listed(missing)}, which is in no shard" if missing else f"does not list {listed(extra)}"
        raise BadWeightsError(files.index, what, "download the index and its shards again")
    return tensors
