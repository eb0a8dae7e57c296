"""Strips text, EXIF and other metadata from image files; no network sees it, and it may be damaged or huge.

Pixel data stays byte for byte as in the file. Nothing is decoded here, and damage is left to the decoder.
"""

from __future__ import annotations

import struct

# Chunks that affect how a PNG's pixels are read; every other ancillary chunk is metadata.
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_WEBP_DROPPED = (b"EXIF", b"XMP ")
_JPEG_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))
_JPEG_SCAN = 0xDA
# APP1 and others contain EXIF, XMP and text; APP0 (JFIF) and APP14 (Adobe) state how colours are stored.
_JPEG_DROPPED = (*range(0xE1, 0xEE), 0xEF, 0xFE)


def strip_png(data: bytes) -> bytes:
    """A PNG file with only the chunks that affect its pixels."""
    kept, place = [data[:8]], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        end = place + 12 + length
        if data[place + 4 : place + 8] in _PNG_KEPT:
            kept.append(data[place:end])
        place = end
    return b"".join(kept) + data[place:]


def strip_webp(data: bytes) -> bytes:
    """A WebP file without EXIF and XMP."""
    if data[8:12] != b"WEBP":
        return data
    kept, place = [data[8:12]], 12
    while place + 8 <= len(data):
        (length,) = struct.unpack("<I", data[place + 4 : place + 8])
        end = place + 8 + length + length % 2
        if data[place : place + 4] not in _WEBP_DROPPED:
            kept.append(data[place:end])
        place = end
    body = b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def strip_jpeg(data: bytes) -> bytes:
    """A JPEG file without application segments and comments, except those that state how colours are stored."""
    kept, place = [data[:2]], 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _JPEG_SCAN:
            break
        if marker in _JPEG_WITHOUT_LENGTH or marker == 0xFF:
            end = place + (1 if marker == 0xFF else 2)
        else:
            end = place + 2 + struct.unpack(">H", data[place + 2 : place + 4])[0]
        if marker not in _JPEG_DROPPED:
            kept.append(data[place:end])
        place = end
    return b"".join(kept) + data[place:]
