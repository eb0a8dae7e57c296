"""Reads the kernel's one-value files, and handles all the ways in which they fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from googlenet_deploy.device.files import reason
from googlenet_deploy.errors import DeviceError

CHUNK = 65536
LARGEST = 2**22  # /proc/cpuinfo of a large server has half a megabyte


class LostReadingError(DeviceError):
    """One value could not be read; the next attempt may succeed."""


def read_text(path: Path) -> str:
    """The content of a file, at most `LARGEST` bytes, without the white space and NULs around it.

    Python's file objects fail on sensors of powered-down units, which return EAGAIN.

    Raises:
        LostReadingError: The file is gone, may not be read, or its device does not respond.
    """
    try:
        handle = os.open(str(path), os.O_RDONLY)
        try:
            data = b""
            while len(data) < LARGEST:
                chunk = os.read(handle, CHUNK)
                if not chunk:
                    break
                data += chunk
            return data.decode("utf-8", "replace").strip("\0 \t\r\n")
        finally:
            os.close(handle)
    except OSError as error:
        raise LostReadingError(f"{path}: cannot be read: {reason(error)}") from error


def read_int(path: Path) -> int:
    """The integer in a file.

    Raises:
        LostReadingError: As for `read_text`, or the file contains something else.
    """
    text = read_text(path)
    try:
        return int(text)
    except ValueError:
        raise LostReadingError(f"{path}: is not an integer: {text[:40]!r}") from None


def try_text(path: Path) -> str:
    """Like `read_text`, but returns "" if it cannot be read."""
    try:
        return read_text(path)
    except LostReadingError:
        return ""


def try_int(path: Path) -> Optional[int]:
    """Like `read_int`, but returns None if it cannot be read or contains something else."""
    try:
        return read_int(path)
    except LostReadingError:
        return None


def natural_key(path: Path) -> tuple:  # type: ignore[type-arg] # Python 3.8
    """Sorts ``cpu2`` before ``cpu10``."""
    digits = "".join(letter for letter in path.name if letter.isdigit())
    return (path.name.rstrip("0123456789"), int(digits) if digits else -1, path.name)
