"""Identifies files by their first bytes, so that a message can name the file type instead of a parser's error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Tuple

from googlenet_deploy.device.files import PathLike

BYTES = 512
_KINDS: Tuple[Tuple[bytes, str, str], ...] = (
    # First bytes, type, remedy. TensorRT's serialised engines start with these letters, depending on the version.
    (rb"(?:ftrt|ptrt)", "a TensorRT engine", "give it a name that ends in .engine"),
    (rb"PK\x03\x04", "a ZIP archive, as PyTorch's checkpoints and bundles are", "export a checkpoint to ONNX first"),
    (rb"\x80[\x02-\x05]", "a Python pickle, as old PyTorch checkpoints are", "export a checkpoint to ONNX first"),
    (rb".{8}\{\s*\"", "a safetensors file", "export a checkpoint to ONNX first"),
    (rb"\x89HDF\r\n", "an HDF5 file, as Keras writes", "convert it to ONNX with tf2onnx"),
    (rb"(?s).{4}TFL3", "a TensorFlow Lite model", "convert it to ONNX with tf2onnx"),
    (rb"(?i)\s*(?:<!doctype html|<html|<\?xml)", "a web page, as failed downloads leave it", "download it again"),
    (rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|RIFF....WEBP", "an image", "is the order of the arguments right?"),
    (rb"\x1f\x8b", "a gzip archive", "unpack it first"),
    (rb"\x00{64}", "a file that begins with zeros, as an interrupted copy leaves", "copy it again"),
)


def recognise(path: PathLike) -> Tuple[str, str]:
    """Identifies a file, and the remedy.

    Returns:
        ("a TensorRT engine", "give it ..."); two empty texts if it is not recognised or cannot be read.
    """
    try:
        if not Path(path).is_file():  # a pipe must not be read from
            return "", ""
        with Path(path).open("rb") as stream:
            start = stream.read(BYTES)
    except (OSError, ValueError):
        return "", ""
    return next(((kind, remedy) for first, kind, remedy in _KINDS if re.match(first, start, re.DOTALL)), ("", ""))
