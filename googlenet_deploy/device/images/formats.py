"""Identifies files that Pillow cannot open by their first bytes, so that the message has the cause and the remedy."""

from __future__ import annotations

from typing import Optional, Tuple

import PIL

HEAD = 512  # bytes that are examined

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")
_SIGNATURES: Tuple[Tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the image: fetch it with `git lfs pull`"),
    (b"%PDF", "is a PDF document, not an image"),
    (b"\x00\x00\x00\x0cJXL ", "is JPEG XL, which is not supported: convert it to PNG or JPEG"),
    (b"\xff\x0a", "is JPEG XL, which is not supported: convert it to PNG or JPEG"),
    (b"PK\x03\x04", "is a ZIP archive, not an image: unpack it"),
    (b"\x1f\x8b", "is a gzip archive, not an image: unpack it"),
    (b"\x00\x05\x16\x07", "is an AppleDouble file of macOS, which contains no pixels"),
    (b"\x1aE\xdf\xa3", "is a video, not an image"),
    (b"\x00\x00\x00\x0cjP  ", "is JPEG 2000, which this Pillow cannot read: install one with OpenJPEG"),
)


def name_unknown(head: bytes) -> str:
    """Why a file that Pillow does not recognise cannot be used.

    Args:
        head: Its first `HEAD` bytes.
    """
    if not head:
        return "is empty"
    brand = iso_brand(head)
    if brand is not None:
        return _name_iso(head, brand)
    words = next((words for signature, words in _SIGNATURES if head.startswith(signature)), "")
    return words or _name_markup(head) or "is not an image of a known format"


def _name_iso(head: bytes, brand: bytes) -> str:
    if is_heic(head):
        return "is HEIC, which needs pillow-heif: pip install 'googlenet-deploy[heif]', or convert it to JPEG"
    if brand in _AVIF:
        return f"is AVIF, which this Pillow ({PIL.__version__}) cannot read: use Pillow 11.3 or newer, or convert it"
    return "is a video or another file of the MPEG-4 family, not an image"


def _name_markup(head: bytes) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<svg", b"<?xml")) and b"<svg" in start:
        return "is not an image of pixels but an SVG drawing: convert it to PNG"
    if start.startswith((b"<!doctype html", b"<html")):
        return "is an HTML page, not an image: the download went wrong"
    return ""


def is_heic(head: bytes) -> bool:
    """Whether a file starts like HEIC or HEIF."""
    return iso_brand(head) in _HEIC and not any(brand in head[8:64] for brand in _AVIF)


def iso_brand(head: bytes) -> Optional[bytes]:
    """The major brand of an ISO/IEC 14496-12 file (HEIC, AVIF, MP4); None for others."""
    return head[8:12] if head[4:8] == b"ftyp" else None
