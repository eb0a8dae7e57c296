"""Finds the files listed in a table, in whatever form their names are written."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from googlenet_deploy.device.images.folders import SUFFIXES, is_image_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class FileNames:
    """The files of a folder by their names.

    A name is looked up as written, then as a path relative to the table's folder or to a folder with the same name as
    the images' folder, as an absolute path, with backslashes, and finally ignoring case, Unicode normalisation and a
    missing suffix. An ambiguous name finds no file.

    Args:
        root: The folder of images.
        files: Its files, as paths that begin with `root`.
        table: The table whose names are looked up.
        anywhere: Whether a name may also lead to a file outside the folder, or to one that `files` does not hold.
    """

    def __init__(self, root: Path, files: Iterable[str], table: Path, *, anywhere: bool = False) -> None:
        self.root, self.table, self.anywhere = root, table, anywhere
        self.names = {os.path.relpath(path, root).replace(os.sep, "/") for path in files}
        self._loose = _unique(self.names, _loose)
        images = {name for name in self.names if is_image_name(name)}
        self._stems = _unique(images, lambda name: _loose(name.rpartition(".")[0]))
        self._bases = (root.resolve(), table.parent.resolve())

    def find(self, written: str) -> str | None:
        """The file's path relative to the folder, with slashes; None if there is no such file, or several.

        A file outside the folder keeps its path, which is absolute or begins with "..".
        """
        if self.anywhere and written and is_file(self.root / written):
            return _tidy(written)
        for name in (written, written.replace("\\", "/")):
            found = self._relative(name)
            if found is not None:
                return found
        return None

    def _relative(self, name: str) -> str | None:
        if not name:
            return None
        candidates = [_tidy(name), *self._inside(name)]
        for candidate in candidates:
            if candidate in self.names:
                return candidate
        for candidate in candidates:
            loose = _loose(candidate)
            found = self._loose.get(loose)
            if found is None and PurePosixPath(candidate).suffix.lower() not in SUFFIXES:
                found = self._stems.get(loose)
            if found is not None:
                return found
        return None

    def _inside(self, name: str) -> list[str]:
        """A path made relative to the folder, if it leads into it from elsewhere."""
        root, table = self._bases
        path = Path(name)
        found = []
        for place in (path,) if path.is_absolute() else (table / path, path.absolute()):
            try:
                found.append(Path(os.path.normpath(place)).relative_to(root).as_posix())
            except ValueError:
                continue
        parts = PurePosixPath(_tidy(name)).parts
        found += ["/".join(parts[index + 1 :]) for index, part in enumerate(parts[:-1]) if part == root.name]
        return found


def is_file(path: Path) -> bool:
    """Whether a path leads to a file; names that no file can have lead nowhere."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _tidy(name: str) -> str:
    return os.path.normpath(name).replace(os.sep, "/")


def _loose(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _unique(names: Iterable[str], key: Callable[[str], str]) -> dict[str, str | None]:
    """The names by a key; None for a key shared by several names."""
    found: dict[str, str | None] = {}
    for name in names:
        own = key(name)
        found[own] = None if own in found else name
    return found
