"""Archives: the same bytes each time, and nothing hostile gets out of one."""

from __future__ import annotations

import stat
import struct
import threading
import time
import zipfile
from pathlib import Path

import pytest

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.bundle.manifest import MANIFEST, SUMS, BundleManifest, sums_text
from googlenet_deploy.errors import BadBundleError, InputError, OutputError
from googlenet_deploy.packaging import archive as archive_module
from googlenet_deploy.packaging.content import BundleContent, new_folder, unpack_bundle, verify_bundle, write_bundle
from googlenet_deploy.packaging.jetson import JetsonRequest, write_jetson


@pytest.fixture
def content(tmp_path: Path) -> BundleContent:
    made = BundleContent()
    (tmp_path / "weights").write_bytes(bytes(range(256)) * 5000)
    made.add_file("models/model.onnx", tmp_path / "weights", "model")
    made.add_text("build.sh", "#!/bin/sh\n", "script", executable=True)
    made.add_bytes("golden/0.npy", b"", "golden")
    return made


@pytest.fixture
def manifest(content: BundleContent) -> BundleManifest:
    return content.manifest("jetson", "orin-nano", "int8", {})


@pytest.fixture
def bundle(tmp_path: Path, content: BundleContent, manifest: BundleManifest) -> Path:
    write_bundle(tmp_path / "bundle.zip", content, manifest)
    return tmp_path / "bundle.zip"


def hostile(tmp_path: Path, manifest: BundleManifest, info: zipfile.ZipInfo, data: bytes = b"x") -> Path:
    """A bundle with one member more."""
    path = tmp_path / "hostile.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST, manifest.to_text())
        archive.writestr(SUMS, sums_text(manifest))
        archive.writestr(info, data)
    return path


def test_equal_content_gives_equal_bytes(
    bundle: Path, tmp_path: Path, content: BundleContent, manifest: BundleManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 2e9)
    content.entries = dict(reversed(content.entries.items()))
    write_bundle(tmp_path / "again.zip", content, manifest)
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_folder_and_archive_hold_the_same(
    bundle: Path, tmp_path: Path, content: BundleContent, manifest: BundleManifest
) -> None:
    write_bundle(tmp_path / "folder", content, manifest)
    assert unpack_bundle(bundle, tmp_path / "unpacked") == manifest == verify_bundle(tmp_path / "folder")
    for entry in (*content.entries, MANIFEST, SUMS):
        packed, written = tmp_path / "unpacked" / entry, tmp_path / "folder" / entry
        assert packed.read_bytes() == written.read_bytes()
        assert stat.S_IMODE(packed.stat().st_mode) == stat.S_IMODE(written.stat().st_mode)
    assert (tmp_path / "unpacked/build.sh").stat().st_mode & stat.S_IXUSR


def test_other_tools_unpack_it(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == MANIFEST
        assert archive.getinfo("build.sh").external_attr >> 16 == stat.S_IFREG | 0o755


def test_an_altered_byte_of_a_member_is_found(bundle: Path) -> None:
    data = bytearray(bundle.read_bytes())
    data[data.index(bytes(range(256))) + 1000] ^= 1
    bundle.write_bytes(data)
    with pytest.raises(BadBundleError, match=r"models/model.onnx was altered"):
        verify_bundle(bundle)


def test_a_member_replaced_with_a_sound_checksum_is_found(
    tmp_path: Path, content: BundleContent, manifest: BundleManifest
) -> None:
    content.entries.pop("golden/0.npy")
    content.add_bytes("golden/0.npy", b"other", "golden")
    write_bundle(tmp_path / "forged.zip", content, manifest)
    with pytest.raises(BadBundleError, match=r"golden/0.npy was altered"):
        verify_bundle(tmp_path / "forged.zip")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "folder/", "a\\..\\evil", "C:evil"])
def test_a_member_outside_the_folder_is_refused(tmp_path: Path, manifest: BundleManifest, name: str) -> None:
    path = hostile(tmp_path, manifest, zipfile.ZipInfo(name))
    with pytest.raises(BadBundleError, match="outside the folder"):
        unpack_bundle(path, tmp_path / "deep" / "unpacked")
    assert not list(tmp_path.rglob("evil*"))
    assert not (tmp_path / "deep" / "unpacked").exists()


def test_a_link_is_refused(tmp_path: Path, manifest: BundleManifest) -> None:
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(BadBundleError, match="is a link"):
        unpack_bundle(hostile(tmp_path, manifest, info, b"/etc/passwd"), tmp_path / "unpacked")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_doubled_member_is_refused(tmp_path: Path, manifest: BundleManifest) -> None:
    with pytest.raises(BadBundleError, match="is there twice"):
        verify_bundle(hostile(tmp_path, manifest, zipfile.ZipInfo(MANIFEST)))


def test_a_member_below_a_file_is_refused(tmp_path: Path, manifest: BundleManifest) -> None:
    with pytest.raises(BadBundleError, match="is below a file"):
        verify_bundle(hostile(tmp_path, manifest, zipfile.ZipInfo(f"{SUMS}/x")))


def test_a_member_where_the_device_writes_is_refused(tmp_path: Path, manifest: BundleManifest) -> None:
    with pytest.raises(BadBundleError, match="only the device writes"):
        verify_bundle(hostile(tmp_path, manifest, zipfile.ZipInfo("on-device/model.engine")))


def test_an_additional_member_is_named(tmp_path: Path, manifest: BundleManifest) -> None:
    with pytest.raises(BadBundleError, match="is missing"):
        verify_bundle(hostile(tmp_path, manifest, zipfile.ZipInfo("more")))


def test_a_bomb_is_refused_before_it_is_unpacked(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "LARGEST_TOTAL", 1_000_000)
    with pytest.raises(BadBundleError, match="would unpack to more than"):
        unpack_bundle(bundle, tmp_path / "unpacked")


def test_a_bomb_that_lies_about_its_size_is_stopped(tmp_path: Path, manifest: BundleManifest) -> None:
    """A deflated member whose headers state 1 byte instead of a million."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, b"0" * 1_000_000)
    size = struct.pack("<I", 1_000_000)
    path.write_bytes(path.read_bytes().replace(size, struct.pack("<I", 1)))
    with pytest.raises(BadBundleError):
        verify_bundle(path)


def test_an_encrypted_member_is_refused(tmp_path: Path, manifest: BundleManifest) -> None:
    path = hostile(tmp_path, manifest, zipfile.ZipInfo("secret"))
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    data[central + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(BadBundleError, match="is encrypted"):
        verify_bundle(path)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_bundle_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(BadBundleError, match="is not a bundle"):
        verify_bundle(tmp_path / "x.zip")


def test_every_cut_archive_is_refused(bundle: Path, tmp_path: Path) -> None:
    data = bundle.read_bytes()
    for length in range(0, len(data), len(data) // 50):
        (tmp_path / "cut.zip").write_bytes(data[:length])
        with pytest.raises(BadBundleError):
            verify_bundle(tmp_path / "cut.zip")


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        verify_bundle(tmp_path / "nothing")
    with pytest.raises(InputError, match="no such file"):
        unpack_bundle(tmp_path / "nothing.zip", tmp_path / "folder")


def test_a_folder_of_something_else_is_not_replaced(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="other things in it"):
        unpack_bundle(bundle, tmp_path / "home")
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def test_a_file_is_not_replaced_by_a_folder(bundle: Path) -> None:
    with pytest.raises(OutputError, match="is a file"):
        unpack_bundle(bundle, bundle)


def test_an_older_bundle_is_replaced(bundle: Path, tmp_path: Path) -> None:
    unpack_bundle(bundle, tmp_path / "folder")
    (tmp_path / "folder" / "build.sh").write_text("altered")
    unpack_bundle(bundle, tmp_path / "folder")
    verify_bundle(tmp_path / "folder")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_interrupted_folder_leaves_the_old_one(tmp_path: Path, bundle: Path) -> None:
    unpack_bundle(bundle, tmp_path / "folder")

    def interrupted() -> None:
        with new_folder(tmp_path / "folder") as temporary:
            (temporary / "half").write_bytes(b"")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    verify_bundle(tmp_path / "folder")


@pytest.mark.parametrize("exists", [False, True])
def test_two_that_write_one_folder_leave_one_whole_bundle(tmp_path: Path, bundle: Path, exists: bool) -> None:
    target = tmp_path / "folder"
    if exists:
        unpack_bundle(bundle, target)
    together, failed = threading.Barrier(4), []

    def write() -> None:
        try:
            with new_folder(target) as temporary:
                unpack_bundle(bundle, temporary / "inner")
                for path in (temporary / "inner").iterdir():
                    path.rename(temporary / path.name)
                (temporary / "inner").rmdir()
                together.wait(20)
        except OutputError as error:
            failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failed == []
    verify_bundle(target)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["bundle2.zip", "bundle2"])
def test_no_space_leaves_nothing(
    tmp_path: Path, content: BundleContent, manifest: BundleManifest, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "open", full)
    monkeypatch.setattr("shutil.copyfile", full)
    before = set(tmp_path.iterdir())
    with pytest.raises(OutputError, match="no space left"):
        write_bundle(tmp_path / name, content, manifest)
    assert set(tmp_path.iterdir()) == before


def test_a_source_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be packed"):
        BundleContent().add_file("a", tmp_path / "nothing", "model")


@pytest.mark.parametrize(("start", "count"), [(40, 20), (200, 1), (1000, 4096), (5000, 100_000)])
def test_bytes_lost_in_the_middle_are_blamed_on_the_archive(
    request_int8: JetsonRequest, tmp_path: Path, start: int, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jetson(tmp_path / "b.zip", request_int8)
    data = (tmp_path / "b.zip").read_bytes()
    (tmp_path / "bad.zip").write_bytes(data[:start] + data[start + count :])
    for command in (["--verify"], ["--output", str(tmp_path / "u"), "--unpack"]):
        assert main(["bundle", *command, str(tmp_path / "bad.zip")]) == 1
        assert "bad.zip" in capsys.readouterr().err.splitlines()[0]
    assert not (tmp_path / "u").exists()
