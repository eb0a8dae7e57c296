"""The manifest of a bundle, and what is refused of a folder that is not what it says."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.device.bundle.manifest import (
    MANIFEST,
    SUMS,
    BundleFile,
    BundleManifest,
    is_safe_path,
    parse_manifest,
    read_manifest,
    sums_text,
    verify_folder,
)
from googlenet_deploy.errors import BadBundleError

CONTENT = {"models/model.onnx": b"weights", "build.sh": b"#!/bin/sh\n", "Namen.txt": "Möwe\n".encode()}


def manifest_of(content: dict[str, bytes]) -> BundleManifest:
    files = tuple(
        BundleFile(path, len(data), hashlib.sha256(data).hexdigest(), "model", path.endswith(".sh"))
        for path, data in sorted(content.items())
    )
    return BundleManifest("jetson", "orin-nano", "int8", "1.2.3", {"weights_sha256": "ab"}, files)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    manifest = manifest_of(CONTENT)
    for path, data in CONTENT.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    (tmp_path / MANIFEST).write_text(manifest.to_text(), encoding="utf-8")
    (tmp_path / SUMS).write_text(sums_text(manifest), encoding="utf-8")
    return tmp_path


def test_a_whole_bundle_is_accepted_and_named(folder: Path) -> None:
    manifest = verify_folder(folder)
    assert manifest == manifest_of(CONTENT)
    assert manifest.file("build.sh").executable


def test_a_file_that_is_not_there_has_no_record() -> None:
    with pytest.raises(BadBundleError, match="nothing: is not in the bundle"):
        manifest_of(CONTENT).file("nothing")


def test_the_shell_accepts_the_same_sums(folder: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "--quiet", SUMS]
    assert subprocess.run(command, cwd=folder, check=False).returncode == 0


def test_what_the_device_writes_is_left_alone(folder: Path) -> None:
    (folder / "on-device").mkdir()
    (folder / "on-device" / "model.engine").write_bytes(b"engine")
    verify_folder(folder)


@pytest.mark.parametrize("path", [*CONTENT, MANIFEST, SUMS])
def test_every_byte_counts(folder: Path, path: str) -> None:
    original = (folder / path).read_bytes()
    for position in range(len(original)):
        changed = bytearray(original)
        changed[position] ^= 1
        (folder / path).write_bytes(changed)
        with pytest.raises(BadBundleError):
            verify_folder(folder)


@pytest.mark.parametrize("path", [*CONTENT, MANIFEST, SUMS])
def test_a_missing_file_is_named(folder: Path, path: str) -> None:
    (folder / path).unlink()
    with pytest.raises(BadBundleError, match=path):
        verify_folder(folder)


def test_an_added_file_is_named(folder: Path) -> None:
    (folder / "models" / "other.onnx").write_bytes(b"")
    with pytest.raises(BadBundleError, match=r"models/other.onnx does not belong"):
        verify_folder(folder)


def test_a_cut_file_tells_its_sizes(folder: Path) -> None:
    (folder / "models/model.onnx").write_bytes(b"weig")
    with pytest.raises(BadBundleError, match="4 bytes instead of 7"):
        verify_folder(folder)


def test_a_link_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "model.onnx"
    elsewhere.write_bytes(CONTENT["models/model.onnx"])
    (folder / "models/model.onnx").unlink()
    (folder / "models/model.onnx").symlink_to(elsewhere)
    with pytest.raises(BadBundleError, match="not a plain file"):
        verify_folder(folder)


def test_many_problems_are_counted(folder: Path) -> None:
    for number in range(5):
        (folder / f"extra{number}").write_bytes(b"")
    with pytest.raises(BadBundleError, match="and 2 more"):
        verify_folder(folder)


def test_a_newer_version_is_refused_with_advice(folder: Path) -> None:
    values = json.loads((folder / MANIFEST).read_text())
    values["version"] = 2
    (folder / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(BadBundleError, match="newer version") as caught:
        read_manifest(folder)
    assert "update googlenet-deploy" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is not a manifest"),
        ("[" * 100_000, "is not a manifest"),
        ("[]", "is not a manifest"),
        ('{"format": "another"}', "is not a manifest"),
        ('{"format": "googlenet-deploy bundle", "version": "x"}', "another version"),
        ('{"format": "googlenet-deploy bundle", "version": 1}', "is missing"),
    ],
)
def test_what_is_no_manifest_is_refused(text: str, match: str) -> None:
    with pytest.raises(BadBundleError, match=match):
        parse_manifest(text, "manifest.json")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../b", "a//b", "a/", "", ".", "a\\b", "C:x", "a\nb", 7])
def test_a_path_that_leaves_the_folder_is_refused(path: object) -> None:
    assert not is_safe_path(path)
    text = manifest_of(CONTENT).to_text().replace('"build.sh"', json.dumps(path))
    with pytest.raises(BadBundleError, match="not a path inside the bundle"):
        parse_manifest(text, "manifest.json")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(BadBundleError, match="not a kind of bundle"):
        parse_manifest(manifest_of(CONTENT).to_text().replace('"jetson"', '"toaster"'), "manifest.json")


def test_a_manifest_that_is_not_text_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"\xff\xfe")
    with pytest.raises(BadBundleError, match="not UTF-8"):
        read_manifest(folder)


@given(st.dictionaries(st.from_regex(r"[a-zäß0-9_]{1,8}(/[a-z.]{3,8})?", fullmatch=True), st.binary(), max_size=5))
def test_a_manifest_survives_its_text(content: dict[str, bytes]) -> None:
    content = {path: data for path, data in content.items() if is_safe_path(path)}
    manifest = manifest_of(content)
    assert parse_manifest(manifest.to_text(), "m") == manifest
