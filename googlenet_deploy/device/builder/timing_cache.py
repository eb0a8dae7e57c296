"""TensorRT's timing cache on disk: kept between builds, hashed, and not used with another TensorRT version.

TensorRT itself only warns about a cache of another version and then builds without it, so version, GPU and hash are
recorded in a file beside it: ``X.json``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from googlenet_deploy.device.files import PathLike, reason, sha256_bytes, write_bytes, write_json
from googlenet_deploy.errors import InputError


@dataclass(frozen=True)
class TimingCache:
    """A timing cache.

    Attributes:
        data: The cache serialised by TensorRT; empty for a new one.
        note: Note for the user: reused, new, or why an existing cache is not used.
    """

    data: bytes
    note: str


def load_timing_cache(path: PathLike, library: str, gpu: str) -> TimingCache:
    """Reads a timing cache, or starts an empty one.

    Args:
        path: The file; it need not exist yet.
        library: TensorRT's name and version.
        gpu: Name of the GPU.

    Raises:
        InputError: The file exists but cannot be read, or is not a timing cache.
    """
    file = Path(path)
    if not file.exists():
        return TimingCache(b"", f"timing cache {path}: new, so every kernel is timed")
    try:
        data = file.read_bytes()
        stamp = _stamp(file)
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    if stamp is None:
        raise InputError(
            path, "is not a timing cache of this tool: its .json is missing", "delete it, or name another file"
        )
    made = (str(stamp.get("library")), str(stamp.get("gpu")))
    if made != (library, gpu):
        return TimingCache(
            b"", f"timing cache {path}: made by {made[0]} on {made[1]}, not {library} on {gpu}: not used, and replaced"
        )
    if stamp.get("sha256") != sha256_bytes(data):
        return TimingCache(b"", f"timing cache {path}: damaged (its hash differs): not used, and replaced")
    return TimingCache(data, f"timing cache {path}: reused ({len(data)} bytes)")


def describe_change(path: PathLike, before: bytes, after: bytes) -> str:
    """Describes what a build did to the timing cache: hits leave it unchanged, every miss adds to it."""
    if after == before:
        return f"timing cache {path}: every kernel was in it"
    if not before:
        return f"timing cache {path}: {len(after)} bytes written"
    return f"timing cache {path}: some kernels were not in it and were timed ({len(before)} -> {len(after)} bytes)"


def save_timing_cache(path: PathLike, data: bytes, library: str, gpu: str) -> None:
    """Writes a timing cache, and the file with its version, GPU and hash.

    Raises:
        OutputError: It cannot be written.
    """
    write_bytes(path, data)
    write_json(_stamp_path(Path(path)), {"library": library, "gpu": gpu, "sha256": sha256_bytes(data)})


def _stamp(file: Path) -> Optional[dict]:  # type: ignore[type-arg] # Python 3.8
    try:
        values = json.loads(_stamp_path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _stamp_path(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")
