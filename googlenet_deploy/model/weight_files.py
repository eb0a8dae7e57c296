"""The files of a checkpoint: usually one, or the shards listed in an index.

The index is Hugging Face's: JSON with ``weight_map``, which names the shard of every tensor. Shards are next to their
index. This module needs no PyTorch, so that weights can be hashed without importing it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from googlenet_deploy.device.files import reason, sha256_file
from googlenet_deploy.errors import BadWeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

INDEX_SUFFIX = ".index.json"
# Files in a folder written by Hugging Face's libraries, in search order.
FOLDER_FILES = (
    "model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin",
)  # fmt: skip
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}(?P<suffix>\.\w+)")
MAX_INDEX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class WeightFiles:
    """The files of a checkpoint.

    Attributes:
        files: The files that hold tensors, sorted by name.
        index: The index that lists them; None if one file holds everything.
        places: The file of each tensor, according to the index; empty without one.
    """

    files: tuple[Path, ...]
    index: Path | None = None
    places: Mapping[str, str] = field(default_factory=dict)

    def sha256(self) -> str:
        """The file's hash; for several files the hash of all their hashes, the index's first."""
        if self.index is None:
            return sha256_file(self.files[0])
        digests = "".join(sha256_file(path) for path in (self.index, *self.files))
        return hashlib.sha256(digests.encode("ascii")).hexdigest()


def find_weight_files(source: str | Path) -> WeightFiles:
    """The files of a checkpoint, given as a file, an index, one of its shards, or the folder that holds it.

    Raises:
        BadWeightsError: There is no checkpoint, or a shard is missing.
    """
    path = Path(source)
    if path.is_dir():
        inside = next((path / name for name in FOLDER_FILES if (path / name).is_file()), None)
        if inside is None:
            raise BadWeightsError(path, "is a folder without model.safetensors", "pass the checkpoint's file")
        path = inside
    shard = _SHARD.fullmatch(path.name)
    if shard is not None:
        index = path.with_name(f"{shard['stem']}{shard['suffix']}{INDEX_SUFFIX}")
        if not index.is_file():
            raise BadWeightsError(path, f"is one shard of several, and {index.name} is not beside it", "pass the index")
        path = index
    return _listed(path) if path.name.endswith(INDEX_SUFFIX) else WeightFiles((path,))


def _listed(index: Path) -> WeightFiles:
    places = _weight_map(index)
    files = tuple(index.with_name(name) for name in sorted(set(places.values())))
    for path in files:
        if not path.is_file():
            raise BadWeightsError(index, f"lists {path.name}, which is not beside it", "download all shards")
    return WeightFiles(files, index, places)


def _weight_map(index: Path) -> dict[str, str]:
    try:
        with index.open("rb") as stream:
            content = json.loads(stream.read(MAX_INDEX_BYTES).decode("utf-8"))
    except OSError as error:
        raise BadWeightsError(index, f"cannot be read: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise BadWeightsError(index, "is not a JSON index of shards, or is damaged") from error
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise BadWeightsError(index, "has no weight_map that names the shard of each tensor")
    for name in places.values():
        if not isinstance(name, str) or name in ("", ".", "..") or re.search(r"[/\\\0]", name):
            raise BadWeightsError(index, f"lists the shard {name!r}, which is not the name of a file beside it")
    return places
