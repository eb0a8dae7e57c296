"""Zip archives: byte-identical on every machine, and unpacked without trusting any of their fields.

Members are stored, not deflated: weights hardly compress (BVLC's by 7 %), and different versions of zlib may produce
different bytes. Times are the format's earliest (1 January 1980), and the order is that of the entries.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from googlenet_deploy.device.bundle.manifest import (
    DEVICE_FOLDER,
    MANIFEST,
    BundleManifest,
    is_safe_path,
    parse_manifest,
    problems_of,
    refuse_problems,
)
from googlenet_deploy.device.files import PathLike, atomic_open, reason
from googlenet_deploy.errors import BadBundleError

BLOCK = 1 << 20
LARGEST_TOTAL = 4 * 2**30  # bytes, unpacked
MOST_MEMBERS = 10_000
LARGEST_MANIFEST = 4 * 2**20
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_REMEDY = "copy the bundle again, or make it again with `googlenet-deploy bundle`"


def write_archive(path: PathLike, members: Sequence[tuple[str, Path | bytes, bool]]) -> None:
    """Writes an archive atomically.

    Args:
        path: The archive to write.
        members: (path in the archive, source, executable).

    Raises:
        OutputError: It cannot be written.
    """
    with atomic_open(path) as stream:
        write_members(stream, members)


def write_members(stream: BinaryIO, members: Sequence[tuple[str, Path | bytes, bool]]) -> None:
    """Writes members to a stream, after its existing content."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, source, executable in members:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = _UNIX
            info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            info.file_size = len(source) if isinstance(source, bytes) else source.stat().st_size
            with archive.open(info, "w") as member:
                for block in _blocks(source):
                    member.write(block)


def verify_archive(path: PathLike) -> BundleManifest:
    """Checks every member of a packed bundle against its manifest, without unpacking.

    Raises:
        BadBundleError: It is not a bundle, or members are missing, altered or unexpected.
    """
    with _opened(path) as archive:
        return _verify(Path(path), archive, _members(path, archive))


def unpack_archive(path: PathLike, folder: Path) -> BundleManifest:
    """Verifies a packed bundle and unpacks it into an empty folder.

    Raises:
        BadBundleError: See `verify_archive`; or the archive is larger than its headers state.
    """
    with _opened(path) as archive:
        members = _members(path, archive)
        manifest = _verify(Path(path), archive, members)
        programs = {item.path for item in manifest.files if item.executable}
        for name, info in members.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as stream:
                for block in _content(path, archive, info):
                    stream.write(block)
            target.chmod(0o755 if name in programs else 0o644)
    return manifest


@contextmanager
def _opened(path: PathLike) -> Iterator[zipfile.ZipFile]:
    with _blamed_on(path):
        archive = zipfile.ZipFile(path)
    with archive:
        yield archive


@contextmanager
def _blamed_on(path: PathLike) -> Iterator[None]:
    """Attributes any exception to the archive; for reading only, not for writing."""
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise BadBundleError(path, f"cannot be read: {reason(error)}") from error
    except OSError as error:  # such as a seek before the file's start, if bytes in its middle are missing
        raise BadBundleError(path, f"is damaged, or cannot be read: {reason(error)}", _REMEDY) from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, ValueError) as error:
        raise BadBundleError(path, f"is not a bundle, or is damaged: {error}", _REMEDY) from error
    except (struct.error, zlib.error, OverflowError) as error:
        raise BadBundleError(path, f"is damaged: {error}", _REMEDY) from error
    except RuntimeError as error:  # zipfile's error for an encrypted member
        raise BadBundleError(path, f"cannot be read: {error}", _REMEDY) from error


def _members(path: PathLike, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by name; all are plain files inside the folder, and their total size is limited."""
    infos = archive.infolist()
    if len(infos) > MOST_MEMBERS or sum(info.file_size for info in infos) > LARGEST_TOTAL:
        raise BadBundleError(path, f"would unpack to more than {MOST_MEMBERS} files or {LARGEST_TOTAL >> 30} GiB")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        problem = _problem(info, members)
        if problem:
            raise BadBundleError(path, f"member {info.orig_filename!r} {problem}", _REMEDY)
        members[info.filename] = info
    return members


def _problem(info: zipfile.ZipInfo, members: dict[str, zipfile.ZipInfo]) -> str:
    """Why a member is rejected; empty if it is valid."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    parts = info.filename.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts))]
    faults = {
        "would be written outside the folder": info.filename != info.orig_filename or not is_safe_path(info.filename),
        "is where only the device writes": parts[0] == DEVICE_FOLDER,
        "is a link or no plain file": kind not in (0, stat.S_IFREG),
        "is encrypted": bool(info.flag_bits & 1),
        "is there twice": info.filename in members,
        "is below a file": any(name in members for name in above),
    }
    return next((fault for fault, found in faults.items() if found), "")


def _verify(path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> BundleManifest:
    info = members.get(MANIFEST)
    if info is None:
        raise BadBundleError(
            path, f"is not a bundle: it contains no {MANIFEST}", "pass what `googlenet-deploy bundle` wrote"
        )
    if info.file_size > LARGEST_MANIFEST:
        raise BadBundleError(path, "has a manifest of an impossible size", _REMEDY)
    data = b"".join(_content(path, archive, info))
    try:
        manifest = parse_manifest(data.decode("utf-8"), f"{path}: {MANIFEST}")
    except UnicodeDecodeError as error:
        raise BadBundleError(path, f"is damaged: {MANIFEST} is not UTF-8 text", _REMEDY) from error
    sizes = {name: item.file_size for name, item in members.items()}
    refuse_problems(path, problems_of(manifest, sizes, lambda name: _digest(path, archive, members[name])))
    return manifest


def _digest(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    digest = hashlib.sha256()
    try:
        for block in _content(path, archive, info):
            digest.update(block)
    except BadBundleError as error:
        if isinstance(error.__cause__, zipfile.BadZipFile):
            return ""  # its own checksum fails: altered, as the hash would also show
        raise
    return digest.hexdigest()


def _content(path: PathLike, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """The content of a member, reading no more than its header states."""
    left = info.file_size
    with _blamed_on(path):
        stream = archive.open(info)
    with stream:
        while True:
            with _blamed_on(path):
                block = stream.read(BLOCK)
            if not block:
                return
            left -= len(block)
            if left < 0:
                raise BadBundleError(path, f"member {info.filename!r} is larger than its header states", _REMEDY)
            yield block


def _blocks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as stream:
        yield from iter(lambda: _read(stream), b"")


def _read(stream: BinaryIO) -> bytes:
    return stream.read(BLOCK)
