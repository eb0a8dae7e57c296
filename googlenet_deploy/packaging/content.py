"""The content of a bundle, and writing it atomically as a folder or an archive."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from googlenet_deploy import __version__
from googlenet_deploy.device.bundle.manifest import (
    DEVICE_FOLDER,
    MANIFEST,
    SUMS,
    BundleFile,
    BundleManifest,
    is_safe_path,
    sums_text,
    verify_folder,
)
from googlenet_deploy.device.files import PathLike, in_turn, reason, sha256_file, write_bytes
from googlenet_deploy.device.onnx_model.header import read_model
from googlenet_deploy.errors import InputError, OutputError
from googlenet_deploy.packaging.archive import unpack_archive, verify_archive, write_archive

ARCHIVE_SUFFIX = ".zip"


@dataclass(frozen=True)
class Entry:
    """One file to be packed.

    Attributes:
        path: POSIX path in the bundle.
        source: The file to copy, or the content itself.
        role: Its purpose.
        executable: Whether it is a program.
    """

    path: str
    source: Path | bytes
    role: str
    executable: bool = False

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    def record(self) -> BundleFile:
        """The file's record in the manifest.

        Raises:
            InputError: The source cannot be read.
        """
        digest = hashlib.sha256(self.source).hexdigest() if isinstance(self.source, bytes) else sha256_file(self.source)
        return BundleFile(self.path, self.size, digest, self.role, self.executable)


@dataclass(frozen=True)
class BundleResult:
    """A bundle that was written.

    Attributes:
        manifest: Its manifest.
        notes: Notes for the user.
    """

    manifest: BundleManifest
    notes: tuple[str, ...]


class BundleContent:
    """The files of a bundle under construction, each path once."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def add_text(self, path: str, text: str, role: str, *, executable: bool = False) -> None:
        """Adds a text file, UTF-8."""
        self._add(Entry(path, text.encode("utf-8"), role, executable))

    def add_bytes(self, path: str, data: bytes, role: str, *, executable: bool = False) -> None:
        """Adds a file with this content."""
        self._add(Entry(path, data, role, executable))

    def add_model(self, path: str, source: PathLike) -> None:
        """Adds an ONNX model as one file: a copy, or a merged one if its values are in external files.

        Raises:
            BadModelError: It cannot be read, or is damaged.
        """
        model = read_model(source)
        if model.external:
            self.add_bytes(path, model.content, "model")
        else:
            self.add_file(path, source, "model")

    def add_file(self, path: str, source: PathLike, role: str, *, executable: bool = False) -> None:
        """Adds a copy of a file.

        Raises:
            InputError: It cannot be read.
        """
        file = Path(source)
        if not file.is_file():
            raise InputError(file, "is not a file, so it cannot be packed")
        self._add(Entry(path, file, role, executable))

    def _add(self, entry: Entry) -> None:
        assert is_safe_path(entry.path), entry.path
        assert entry.path.split("/")[0] != DEVICE_FOLDER, entry.path
        assert entry.path not in (*self.entries, MANIFEST, SUMS), entry.path
        self.entries[entry.path] = entry

    def manifest(self, kind: str, target: str, precision: str, made_from: Mapping[str, str]) -> BundleManifest:
        """The manifest of everything added so far."""
        files = tuple(sorted((entry.record() for entry in self.entries.values()), key=lambda item: item.path))
        return BundleManifest(kind, target, precision, __version__, made_from, files)


def write_bundle(output: PathLike, content: BundleContent, manifest: BundleManifest) -> None:
    """Writes a bundle: an archive if the name ends in ``.zip``, otherwise a folder.

    The same content produces the same bytes. An existing folder is replaced if it is a bundle or empty.

    Raises:
        OutputError: It cannot be written, for instance for lack of space, or something else exists there.
    """
    entries = [Entry(MANIFEST, manifest.to_text().encode("utf-8"), "manifest")]
    entries.append(Entry(SUMS, sums_text(manifest).encode("utf-8"), "hashes"))
    entries += sorted(content.entries.values(), key=lambda entry: entry.path)
    target = Path(output)
    if target.suffix.lower() == ARCHIVE_SUFFIX:
        write_archive(target, [(entry.path, entry.source, entry.executable) for entry in entries])
        return
    with new_folder(target) as folder:
        for entry in entries:
            _write_entry(folder, entry)


@contextmanager
def new_folder(target: PathLike) -> Iterator[Path]:
    """Yields a temporary folder that replaces `target` when the block ends without an error.

    Raises:
        OutputError: It cannot be made, or something exists there that is neither a bundle nor an empty folder.
    """
    path = Path(target)
    _refuse_foreign(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        with in_turn(path.parent):
            _refuse_foreign(path)  # it may have appeared in the meantime
            _replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_entry(folder: Path, entry: Entry) -> None:
    path = folder / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(entry.source, bytes):
        write_bytes(path, entry.source)
    else:
        shutil.copyfile(entry.source, path)
    path.chmod(0o755 if entry.executable else 0o644)


def _refuse_foreign(path: Path) -> None:
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise OutputError(path, "is a folder with other things in it", "choose another place with --output")
    if path.exists() and not path.is_dir():
        raise OutputError(path, "is a file", "choose another place with --output, or a name that ends in .zip")


def _replace(temporary: Path, path: Path) -> None:
    """Moves the new folder into place; the old one is moved aside first, and restored if that fails."""
    if not path.exists():
        temporary.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    os.replace(path, old)  # noqa: PTH105 - an empty folder as target, which Path.rename takes too
    try:
        temporary.rename(path)
    except OSError:
        with suppress(OSError):
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _cannot_write(path: Path, error: OSError) -> OutputError:
    remedy = "choose another place with --output, or free some space"
    return OutputError(path, f"cannot be written: {reason(error)}", remedy)


def verify_bundle(path: PathLike) -> BundleManifest:
    """Finds any altered, missing or additional file of a bundle, packed or unpacked.

    Raises:
        BadBundleError: There is one, the bundle is of a newer version, or it is not a bundle.
        InputError: The path does not exist.
    """
    place = Path(path)
    if not place.exists():
        raise InputError(path, "no such file or folder")
    return verify_folder(place) if place.is_dir() else verify_archive(place)


def unpack_bundle(path: PathLike, folder: PathLike) -> BundleManifest:
    """Verifies a packed bundle and unpacks it atomically.

    Raises:
        BadBundleError: See `verify_bundle`.
        OutputError: The folder cannot be written, or something else exists there.
    """
    if not Path(path).exists():
        raise InputError(path, "no such file or folder")
    with new_folder(folder) as temporary:
        return unpack_archive(path, temporary)
