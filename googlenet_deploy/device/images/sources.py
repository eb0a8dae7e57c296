"""The images that a command processes: files, folders, globs, and standard input."""

from __future__ import annotations

import glob
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Iterable, List, NamedTuple, Optional

import numpy as np

from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.images.folders import is_leftover, search_folder
from googlenet_deploy.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

STDIN = "-"
# First bytes of JPEG, PNG and binary PGM and PPM. All other images have a NUL byte, which no path can contain.
_IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"P5\n", b"P6\n")


class ImageSource(NamedTuple):
    """One image.

    Attributes:
        name: Its name; its path if there is neither content nor pixels.
        data: The content of an image file.
        pixels: A decoded frame, uint8 (H, W, 3) in RGB order.
    """

    name: str
    data: Optional[bytes] = None
    pixels: Optional[NDArray[np.uint8]] = None


@dataclass
class Sources:
    """Images, and the files found with them that are not images.

    Attributes:
        images: In the order of the arguments; the content of a folder sorted by path.
        other_files: Files in folders that are not images by the rule of `folders.py`.
        notes: Descriptions of what else was left out.
    """

    images: List[ImageSource] = field(default_factory=list)
    other_files: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)


def find_images(arguments: Iterable[PathLike], stdin: Optional[BinaryIO] = None) -> Sources:
    """Expands arguments into images.

    A file is accepted whatever its suffix; a folder and its subfolders are searched for images by `search_folder`; a
    pattern with ``*``, ``?`` or ``[`` is expanded, without leftovers of systems and tools; ``-`` reads standard input:
    an image, or paths that each end in a line break or, as written by ``find -print0``, in a NUL byte.

    Raises:
        InputError: A file, folder or pattern has no images.
    """
    sources = Sources()
    for argument in map(str, arguments):
        try:
            _add(argument, stdin, sources)
        except OSError as error:
            raise InputError(argument, f"cannot be read: {reason(error)}") from error
    return sources


def read_image_list(path: PathLike) -> Sources:
    """Reads a text file of image paths, one per line, relative to the file's folder.

    Raises:
        InputError: The file cannot be read, is not text, or lists no images.
    """
    listing = Path(path)
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(path, "is not a text file with one image per line") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise InputError(path, "names no images")
    return Sources([ImageSource(str(listing.parent / name)) for name in names])


def _add(argument: str, stdin: Optional[BinaryIO], sources: Sources) -> None:
    path = Path(argument)
    if argument == STDIN:
        sources.images.extend(_from_stdin(stdin))
    elif path.is_dir():
        _add_folder(path, sources)
    elif path.exists():
        sources.images.append(ImageSource(argument))
    elif glob.has_magic(argument):
        _add_pattern(argument, sources)
    else:
        raise InputError(argument, "no such file or folder")


def _add_folder(folder: Path, sources: Sources) -> None:
    content = search_folder(folder)
    sources.images += [ImageSource(path) for path in content.images]
    sources.other_files += content.other_files
    sources.notes += content.notes


def _add_pattern(pattern: str, sources: Sources) -> None:
    names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob does not accept absolute patterns
    if not names:
        raise InputError(pattern, "no file matches")
    for name in names:
        if Path(name).is_dir():
            _add_folder(Path(name), sources)
        elif is_leftover(Path(name).name):
            sources.other_files.append(name)
        else:
            sources.images.append(ImageSource(name))


def _from_stdin(stream: Optional[BinaryIO]) -> List[ImageSource]:
    if stream is None:
        if sys.stdin is None:
            raise InputError("standard input", "is closed")
        stream = sys.stdin.buffer
    data = stream.read()
    if _is_image(data):
        return [ImageSource("standard input", data)]
    separator = "\0" if b"\0" in data else "\n"
    names = os.fsdecode(data).split(separator)
    if separator == "\n":
        names = [line.strip() for line in names]
    return [ImageSource(name) for name in names if name]


def _is_image(data: bytes) -> bool:
    """Whether standard input is an image: it has bytes that no list of paths has, with or without ``-print0``."""
    if data.startswith(_IMAGE_MAGIC):
        return True
    if b"\0" not in data:
        return False
    paths = data.split(b"\0")
    return paths[-1] != b"" or not all(_may_be_path(path) for path in paths[:-1])


def _may_be_path(text: bytes) -> bool:
    return bool(text) and (min(text) >= ord(" ") or os.path.lexists(text))
