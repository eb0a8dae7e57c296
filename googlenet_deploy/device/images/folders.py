"""Which files of a folder are images, and which folders are classes: one rule for every command.

Symbolic links to folders are followed; a folder that a loop leads to again is reported once and not searched again.
Leftovers of operating systems, file servers and notebooks count neither as images nor as classes, whatever their
suffix: AppleDouble files such as ``._cat.jpg``, thumbnails, and all hidden names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable, List, Set, Tuple

from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.text import counted

SUFFIXES = frozenset(
    (
        ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg",
        ".jpx", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
    )
)  # fmt: skip
# In lower case; hidden names, which begin with a dot, need no entry.
_LEFTOVERS = frozenset(
    (
        "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "#recycle", "@recycle",
        "@recently-snapshot", "#snapshot", "lost+found", "$recycle.bin", "system volume information",
    )
)  # fmt: skip
SHOWN = 3


@dataclass
class FolderContent:
    """The contents of a folder and its subfolders.

    Attributes:
        images: Files with an image's suffix, sorted by path.
        other_files: All other files, including leftovers of systems and tools; sorted by path.
        notes: What else was left out: loops, broken links, unreadable folders.
    """

    images: List[str] = field(default_factory=list)
    other_files: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name, without its path, is hidden or left by an operating system or a tool."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


def is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image in a folder."""
    path = Path(name)
    return not is_leftover(path.name) and path.suffix.lower() in SUFFIXES


def search_folder(folder: PathLike) -> FolderContent:
    """Finds the images in a folder and its subfolders.

    Raises:
        OSError: The folder itself cannot be read.
    """
    content = FolderContent()
    seen: Set[Tuple[int, int]] = set()
    repeated: List[str] = []
    broken: List[str] = []
    # Folders before links to folders, so that images are found under their real paths.
    pending = [(str(folder), False)]
    linked: List[Tuple[str, bool]] = []
    while pending or linked:
        place, left_over = pending.pop() if pending else linked.pop()
        try:
            status = Path(place).stat()
            if (status.st_dev, status.st_ino) in seen:
                repeated.append(place)
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(place), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            if place == str(folder):
                raise
            if not isinstance(error, FileNotFoundError):  # otherwise it was removed meanwhile
                content.notes.append(f"the folder {place} cannot be read and was left out: {reason(error)}")
            continue
        folders = _sort_entries(entries, content, broken, left_over=left_over)
        for each in folders:
            (linked if Path(each[0]).is_symlink() else pending).append(each)
    content.images, content.other_files = _sorted(content.images), _sorted(content.other_files)
    content.notes += _counted(repeated, "links lead to folders that were searched already: they were left out")
    content.notes += _counted(broken, "links lead to nothing: they were left out")
    return content


def class_folders(root: PathLike) -> Tuple[List[Path], List[str]]:
    """The class folders directly in `root`, sorted by name, and the names of leftover folders.

    Raises:
        OSError: The folder cannot be read.
    """
    folders = sorted(path for path in Path(root).iterdir() if path.is_dir())
    return [path for path in folders if not is_leftover(path.name)], [
        path.name for path in folders if is_leftover(path.name)
    ]


def describe_left_out(other_files: Iterable[str]) -> str:
    """Describes how many files were left out and why; empty if there are none."""
    files = list(other_files)
    if not files:
        return ""
    others = [path for path in files if not _is_left_over(path)]
    left = [path for path in files if _is_left_over(path)]
    words = []
    if others:
        words.append(f"not images: {counted(len(others), 'other file')} in the folders ({_listed(others, 1)})")
    if left:
        words.append(f"left by an operating system or a tool: {counted(len(left), 'file')} ({_listed(left, 1)})")
    return "; ".join(words)


def _is_left_over(path: str) -> bool:
    """Whether a file that was left out has the name of a leftover, or is an image in a leftover folder."""
    return is_leftover(Path(path).name) or Path(path).suffix.lower() in SUFFIXES


def _sort_entries(
    entries: List[os.DirEntry[str]], content: FolderContent, broken: List[str], *, left_over: bool
) -> List[Tuple[str, bool]]:
    """Adds the files of one folder to `content`; returns its folders, and whether each is a leftover."""
    folders = []
    for entry in entries:
        leaves = left_over or is_leftover(entry.name)
        try:
            if entry.is_dir():
                folders.append((entry.path, leaves))
            elif not entry.is_file():
                if entry.is_symlink():
                    broken.append(entry.path)
            elif not leaves and is_image_name(entry.name):
                content.images.append(entry.path)
            else:
                content.other_files.append(entry.path)
        except OSError:  # a link to itself, or deleted since the listing
            broken.append(entry.path)
    return folders


def _counted(paths: List[str], what: str) -> List[str]:
    return [f"{len(paths)} {what}: {_listed(sorted(paths))}"] if paths else []


def _listed(paths: List[str], shown: int = SHOWN) -> str:
    return ", ".join(paths[:shown]) + (", ..." if len(paths) > shown else "")


def _sorted(paths: List[str]) -> List[str]:
    return [str(path) for path in sorted(map(Path, paths))]
