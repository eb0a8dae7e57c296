"""Files: atomic writing, locks between processes, and hashes.

Every output goes to a temporary name in the target's folder and is renamed when complete (POSIX
``rename`` is atomic within a file system), so a killed run leaves the old file or none. There are two exceptions: a
link is followed and its target replaced; a device or pipe such as ``/dev/stdout`` gets the finished content written to
it, since a rename would replace it with a plain file.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Optional, TextIO, Union

from googlenet_deploy.errors import InputError, OutputError

PathLike = Union[str, "os.PathLike[str]"]
CACHE_VARIABLE = "GOOGLENET_DEPLOY_CACHE"

# The open files of this process; they may refer to a file that other programs also write.
_OPEN_FILES = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path` and renames it to `path` when the block ends without an error.

    Missing parent folders are created. On any error, Ctrl-C included, the temporary file is removed and an existing
    file at `path` is left unchanged. Content for a device or pipe is kept in the system's temporary folder until then.

    Raises:
        OutputError: The folder or file cannot be written, or the disk is full.
    """
    target = Path(path)
    try:
        streams = _is_stream(target)
        if not streams:
            target = Path(os.path.realpath(str(target)))
        temporary = _temporary_for(target, streams)
    except OSError as error:
        raise _output_error(path, error) from error
    try:
        yield temporary
        if streams:
            with temporary.open("rb") as content, target.open("ab") as stream:
                shutil.copyfileobj(content, stream)
        else:
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def check_writable(*paths: Optional[PathLike]) -> None:
    """Rejects, before long work starts, paths where results could not be written; creates nothing.

    Args:
        paths: The output files; None for outputs that were not requested. Devices and pipes are not checked.

    Raises:
        OutputError: A path is a folder, or no file can be created there.
    """
    for path in paths:
        if path is None:
            continue
        try:
            if _is_stream(Path(path)):
                continue
            target = Path(os.path.realpath(str(path)))
            if target.is_dir():
                raise IsADirectoryError("it is a folder")
            folder = next(parent for parent in target.parents if parent.exists())
            with tempfile.NamedTemporaryFile(prefix=f".{target.name}.", dir=str(folder)):
                pass
        except OSError as error:
            raise _output_error(path, error) from error


@contextmanager
def atomic_open(path: PathLike) -> Iterator[BinaryIO]:
    """Opens a binary file that appears at `path` when the block ends without an error; see `atomic_path`."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        yield stream


@contextmanager
def exclusive(lock: PathLike, output: PathLike, busy: str, remedy: str, *, keep: bool = False) -> Iterator[None]:
    """Holds a lock while the block runs; it ends with the process, however that ends.

    Args:
        lock: The lock's file; it and missing parent folders are created.
        output: What is protected, for messages.
        busy: What another process does that holds the lock.
        remedy: What to do then.
        keep: Leave the lock's file in its place.

    Raises:
        OutputError: Another process holds the lock, or the file cannot be created.
    """
    path = Path(lock)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    except OSError as error:
        raise OutputError(output, f"cannot be written: {reason(error)}", "choose another --output") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise OutputError(output, f"cannot be locked: {reason(error)}", "choose a local folder") from error
            raise OutputError(output, busy, remedy) from error
        if not _is_at(stream, path):  # the other process removed it at its end, just now
            raise OutputError(output, busy, remedy)
        try:
            yield
        finally:
            if not keep:
                with suppress(OSError):
                    path.unlink()


@contextmanager
def in_turn(folder: PathLike) -> Iterator[None]:
    """Waits until no other process replaces files of a folder that belong together, such as an engine and its manifest.

    It leaves no file. On a file system without locks it does not wait.
    """
    handle = None
    with suppress(OSError):
        Path(folder).mkdir(parents=True, exist_ok=True)
        handle = os.open(str(folder), os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def write_bytes(path: PathLike, data: bytes) -> None:
    """Writes `data` to `path` atomically; see `atomic_path`."""
    with atomic_open(path) as stream:
        stream.write(data)


def write_text(path: PathLike, text: str) -> None:
    r"""Writes `text` as UTF-8 to `path` atomically; see `atomic_path`.

    A file name that is not UTF-8 is written with ``\udcXX`` for each invalid byte XX, which JSON reads back as the same
    name.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: PathLike, value: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Writes `value` as indented JSON, keys in the order given, atomically; see `atomic_path`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_file(path: PathLike) -> str:
    """The SHA-256 of a file's content, as 64 lower-case hexadecimal digits.

    Raises:
        InputError: The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    return digest.hexdigest()


def sha256_bytes(data: bytes) -> str:
    """The SHA-256 of bytes, as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def reason(error: OSError) -> str:
    """The operating system's message for an error, in lower case: ``no such file or directory``."""
    return (error.strerror or str(error)).lower()


def _is_stream(target: Path) -> bool:
    """Whether the path leads to a device, pipe or socket, or to an open file of this process."""
    if not target.exists() or target.is_dir():
        return False
    return str(target).startswith(_OPEN_FILES) or not target.is_file()


def _temporary_for(target: Path, streams: bool) -> Path:
    """Creates an empty file that will become `target`, or whose content will be written to it."""
    if streams:
        folder = tempfile.gettempdir()
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError("it is a folder")
        folder = str(target.parent)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=folder)
    os.close(handle)
    return Path(name)


def _is_at(stream: TextIO, path: Path) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except OSError:
        return False


def _output_error(target: PathLike, error: OSError) -> OutputError:
    return OutputError(
        target,
        f"cannot be written: {reason(error)}",
        "choose another place, or free some space",
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def cache_folder() -> Path:
    """$GOOGLENET_DEPLOY_CACHE, else googlenet-deploy in $XDG_CACHE_HOME or ~/.cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "googlenet-deploy"
