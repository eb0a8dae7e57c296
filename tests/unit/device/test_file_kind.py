from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from googlenet_deploy.device.engine.manifest import read_manifest
from googlenet_deploy.device.file_kind import recognise
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.onnx_model.header import read_onnx
from googlenet_deploy.errors import BadImageError, BadModelError, InputError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"1" * 64 + b"\nsize 28068239\n"


def png() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (3, 2)).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"ftrt" + bytes(200), "TensorRT engine"),
        (b"PK\x03\x04" + bytes(40), "ZIP archive"),
        (pickle.dumps({"a": 1}), "pickle"),
        (save({"x": np.zeros(2, np.float32)}), "safetensors"),
        (b"\n<!DOCTYPE html><html>404</html>", "web page"),
        (png(), "an image"),
        (bytes(1000), "begins with zeros"),
    ],
)
def test_what_is_no_onnx_model_is_named(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert kind in recognise(path)[0]
    with pytest.raises(BadModelError, match=kind) as caught:
        read_onnx(path)
    assert caught.value.remedy


def test_nothing_is_said_of_what_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x08\x07hello")
    assert recognise(tmp_path / "x") == ("", "")
    assert recognise(tmp_path / "missing") == ("", "")
    assert recognise(tmp_path) == ("", "")


def test_nothing_is_taken_out_of_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert recognise(tmp_path / "pipe") == ("", "")
    assert InputError(tmp_path / "pipe", "is damaged").problem == "is damaged"


def test_lfs_pointers_of_every_kind(tmp_path: Path) -> None:
    for name in ("m.onnx", "photo.jpg", "m.engine"):
        (tmp_path / name).write_bytes(LFS)
    for read, name, kind in (
        (read_onnx, "m.onnx", BadModelError),
        (load_image, "photo.jpg", BadImageError),
        (read_manifest, "m.engine", BadModelError),
    ):
        with pytest.raises(kind, match=f"{name}: is a Git LFS pointer") as caught:
            read(tmp_path / name)
        assert "git lfs pull" in (caught.value.remedy or "")


def test_an_engine_without_a_manifest(tmp_path: Path) -> None:
    engine = tmp_path / "m.engine"
    with pytest.raises(BadModelError, match=r"m\.engine: the engine and its manifest cannot be read: no such file"):
        read_manifest(engine)
    engine.write_bytes(b"ftrt" + bytes(100))
    with pytest.raises(BadModelError, match="manifest cannot be read") as caught:
        read_manifest(engine)
    assert "--no-manifest" in (caught.value.remedy or "")
    engine.write_bytes(png())
    with pytest.raises(BadModelError, match="not an engine but an image"):
        read_manifest(engine)
