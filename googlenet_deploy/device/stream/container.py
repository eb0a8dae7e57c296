"""Detects video files that are shorter than their container states, which no frame count can show.

It reads the top-level sizes: of RIFF chunks (AVI), of boxes (ISO/IEC 14496-12: MP4, MOV, 3GP), and of EBML elements
(RFC 8794: Matroska, WebM). Other containers state no sizes.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Optional

from googlenet_deploy.device.files import PathLike

_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"sidx", b"moof")
_EBML = b"\x1a\x45\xdf\xa3"
MOST_ELEMENTS = 100_000


def missing_bytes(path: PathLike) -> Optional[int]:
    """How many bytes a video file lacks.

    Returns:
        0 for a complete file; None if its container does not state it, or it cannot be read.
    """
    try:
        size = Path(path).stat().st_size
        with Path(path).open("rb") as stream:
            start = stream.read(12)
            if start[:4] == b"RIFF":
                end = _end_of_riff(stream, size)
            elif start[4:8] in _BOXES:
                end = _end_of_boxes(stream, size)
            elif start[:4] == _EBML:
                end = _end_of_elements(stream, size)
            else:
                return None
    except (OSError, ValueError):
        return None
    return None if end is None else max(0, end - size)


def _end_of_riff(stream: BinaryIO, size: int) -> Optional[int]:
    """AVI of more than a gigabyte has several RIFF chunks; a size of 0 was never filled in."""
    position = 0
    for _ in range(MOST_ELEMENTS):
        if position >= size:
            return position
        stream.seek(position)
        header = stream.read(8)
        if len(header) < 8 or header[:4] != b"RIFF":
            return position  # appended data is not part of the video
        length = int.from_bytes(header[4:], "little")
        if length == 0:
            return None
        position += 8 + length + length % 2
        if position == size + 1:  # some writers leave out the last padding byte
            return size
    return None


def _end_of_boxes(stream: BinaryIO, size: int) -> Optional[int]:
    position = 0
    for _ in range(MOST_ELEMENTS):
        if position >= size:
            return position
        stream.seek(position)
        header = stream.read(16)
        if len(header) < 8:
            return position + 8
        length = int.from_bytes(header[:4], "big")
        if length == 1 and len(header) == 16:
            length = int.from_bytes(header[8:], "big")
        if length == 0:  # up to the end of the file
            return size
        if length < 8:
            return None
        position += length
    return None


def _end_of_elements(stream: BinaryIO, size: int) -> Optional[int]:
    """The EBML header and the segment; a recorder that was not stopped leaves the segment's size unknown."""
    position = 0
    while position < size:
        stream.seek(position)
        data = stream.read(16)
        if len(data) < 2:
            return None
        first = _vint_length(data[0])
        length = _vint_length(data[first]) if first < len(data) else 9
        if first + length > len(data):
            return None
        value = int.from_bytes(data[first : first + length], "big") & ((1 << (7 * length)) - 1)
        if value == (1 << (7 * length)) - 1:
            return None
        position += first + length + value
    return position


def _vint_length(first: int) -> int:
    return next((count for count in range(1, 9) if first & (0x80 >> (count - 1))), 9)
