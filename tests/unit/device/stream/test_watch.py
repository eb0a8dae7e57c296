"""A folder that fills: complete files once, changed ones again, and nothing of what vanishes."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from googlenet_deploy.device.stream.watch import WatchedFolder
from googlenet_deploy.errors import InputError


def write(path: Path, text: str, time: int = 1) -> None:
    """A file whose time of change is the test's, not the clock's."""
    path.write_text(text)
    os.utime(path, ns=(time, time))


def names(folder: WatchedFolder) -> list[str]:
    return [Path(name).name for name in folder.ready()]


@pytest.fixture
def watched(tmp_path: Path) -> WatchedFolder:
    write(tmp_path / "before.jpg", "x")
    return WatchedFolder(tmp_path, threading.Event(), interval=0)


def test_a_file_is_taken_once_and_only_when_it_no_longer_grows(watched: WatchedFolder, tmp_path: Path) -> None:
    assert watched.present == 1
    write(tmp_path / "a.jpg", "", time=2)
    assert names(watched) == []
    write(tmp_path / "a.jpg", "ha", time=3)
    assert names(watched) == []
    write(tmp_path / "a.jpg", "half", time=4)
    assert names(watched) == []
    assert names(watched) == ["a.jpg"]
    assert names(watched) == []


def test_an_empty_file_is_not_complete(watched: WatchedFolder, tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", "")
    assert [names(watched) for _ in range(3)] == [[], [], []]
    assert watched.left_over() == [str(tmp_path / "a.jpg")]


def test_what_was_given_out_is_not_left_over(watched: WatchedFolder, tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", "x", time=2)
    assert watched.left_over() == [str(tmp_path / "a.jpg")]
    assert [names(watched), names(watched)] == [[], ["a.jpg"]]
    assert watched.left_over() == []
    write(tmp_path / "before.jpg", "changed", time=5)
    assert watched.left_over() == [str(tmp_path / "before.jpg")]


def test_a_file_that_is_changed_later_is_taken_again(watched: WatchedFolder, tmp_path: Path) -> None:
    write(tmp_path / "before.jpg", "changed", time=5)
    assert [names(watched) for _ in range(3)] == [[], ["before.jpg"], []]


def test_oldest_first_in_subfolders_too(watched: WatchedFolder, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "c.png", "x", time=1)
    write(tmp_path / "b.png", "x", time=2)
    write(tmp_path / "a.png", "x", time=3)
    assert [names(watched), names(watched)] == [[], ["c.png", "b.png", "a.png"]]


def test_temporary_and_other_files_are_left_alone(watched: WatchedFolder, tmp_path: Path) -> None:
    for name in (".a.jpg", "notes.txt", "a.jpg.part"):
        write(tmp_path / name, "x")
    (tmp_path / "folder.jpg").mkdir()
    assert [names(watched), names(watched)] == [[], []]


def test_a_file_that_vanishes_may_come_again(watched: WatchedFolder, tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", "x", time=2)
    assert names(watched) == []
    (tmp_path / "a.jpg").unlink()
    assert names(watched) == []
    write(tmp_path / "a.jpg", "x", time=2)
    assert [names(watched), names(watched)] == [[], ["a.jpg"]]
    (tmp_path / "a.jpg").unlink()
    assert names(watched) == []
    write(tmp_path / "a.jpg", "x", time=2)
    assert [names(watched), names(watched)] == [[], ["a.jpg"]]


def test_a_dangling_link_is_no_file(watched: WatchedFolder, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert [names(watched), names(watched)] == [[], []]


def test_a_subfolder_that_goes_is_no_harm(
    watched: WatchedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    original = os.scandir

    def scandir(folder: str) -> object:
        if folder == str(gone):
            shutil.rmtree(gone, ignore_errors=True)
        return original(folder)

    monkeypatch.setattr("googlenet_deploy.device.images.folders.os.scandir", scandir)
    assert names(watched) == []


def test_a_folder_that_goes_is_said(watched: WatchedFolder, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path)
    with pytest.raises(InputError, match="cannot be watched any more: no such file"):
        names(watched)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", "x")
    for path in (tmp_path / "a.jpg", tmp_path / "none"):
        with pytest.raises(InputError, match="is not a folder to watch"):
            WatchedFolder(path, threading.Event())


def test_iteration_goes_on_until_it_is_stopped(tmp_path: Path) -> None:
    stop = threading.Event()
    folder = WatchedFolder(tmp_path, stop, interval=0)
    write(tmp_path / "a.jpg", "x")
    got = []
    for source in folder:
        got.append(Path(source.name).name)
        if len(got) == 1:
            write(tmp_path / "b.jpg", "x")
        else:
            stop.set()
    assert got == ["a.jpg", "b.jpg"]
