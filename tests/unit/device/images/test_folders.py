"""What is an image and what a class folder: links, loops, and what systems and tools leave behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from googlenet_deploy.device.images.folders import class_folders, describe_left_out, is_leftover, search_folder


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def found(root: Path) -> list[str]:
    return [Path(path).relative_to(root).as_posix() for path in search_folder(root).images]


@pytest.mark.parametrize(
    "name",
    ["._a.jpg", ".DS_Store", "Thumbs.db", "THUMBS.DB", "__MACOSX", "@eaDir", ".ipynb_checkpoints", "lost+found",
     "desktop.ini", "$RECYCLE.BIN", "System Volume Information", ".git", "Icon\r"],
)  # fmt: skip
def test_names_of_leftovers(name: str, tmp_path: Path) -> None:
    assert is_leftover(name)
    touch(tmp_path, "cat/1.jpg", f"{name}/2.jpg", f"cat/{name}/3.jpg")
    assert found(tmp_path) == ["cat/1.jpg"]
    assert [path.name for path in class_folders(tmp_path)[0]] == ["cat"]
    assert class_folders(tmp_path)[1] == [name]
    assert len(search_folder(tmp_path).other_files) == 2


@pytest.mark.parametrize("name", ["_a.jpg", "thumbs", "lost", "MACOSX", "db.jpg"])
def test_names_that_only_look_like_leftovers(name: str) -> None:
    assert not is_leftover(name)


@pytest.mark.parametrize("suffix", [".jpg", ".AVIF", ".jp2", ".tga", ".pnm", ".pbm", ".heic", ".j2k", ".jpe"])
def test_suffixes_of_images(suffix: str, tmp_path: Path) -> None:
    touch(tmp_path, f"a{suffix}", "b.txt")
    assert found(tmp_path) == [f"a{suffix}"]


def test_folders_behind_links_are_searched(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/deep/1.jpg", "root/2.jpg")
    (tmp_path / "root/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/3.jpg").symlink_to(tmp_path / "elsewhere/deep/1.jpg")
    assert found(tmp_path / "root") == ["2.jpg", "3.jpg", "linked/deep/1.jpg"]
    (tmp_path / "classes").mkdir()
    (tmp_path / "classes/tench").symlink_to(tmp_path / "elsewhere")
    assert [path.name for path in class_folders(tmp_path / "classes")[0]] == ["tench"]


def test_loops_end_and_are_said_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/over").symlink_to(tmp_path / "b")
    (tmp_path / "b/back").symlink_to(tmp_path / "a")
    assert found(tmp_path) == ["a/1.jpg", "b/2.jpg"], "by their own names, and once"
    notes = search_folder(tmp_path).notes
    assert len(notes) == 1
    assert notes[0].startswith("3 links lead to folders that were searched already")


def test_links_to_nothing_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    (tmp_path / "2.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    content = search_folder(tmp_path)
    assert len(content.images) == 1
    assert content.notes == [f"2 links lead to nothing: they were left out: {tmp_path}/2.jpg, {tmp_path}/self"]


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "1.jpg", "secret/2.jpg")
    original = os.scandir

    def scandir(folder: str) -> object:
        if folder.endswith("secret"):
            raise PermissionError(13, "Permission denied")
        return original(folder)

    monkeypatch.setattr("os.scandir", scandir)
    content = search_folder(tmp_path)
    assert len(content.images) == 1
    assert "secret cannot be read and was left out: permission denied" in content.notes[0]


def test_what_was_left_out_in_words() -> None:
    assert describe_left_out([]) == ""
    assert describe_left_out(["a/notes.txt"]) == "not images: 1 other file in the folders (a/notes.txt)"
    assert describe_left_out(["a/._1.jpg", "a/._2.jpg", "b.txt"]) == (
        "not images: 1 other file in the folders (b.txt); "
        "left by an operating system or a tool: 2 files (a/._1.jpg, ...)"
    )
