from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from googlenet_deploy.device.files import (
    atomic_open,
    atomic_path,
    check_writable,
    exclusive,
    in_turn,
    reason,
    sha256_file,
    write_bytes,
    write_json,
    write_text,
)
from googlenet_deploy.errors import InputError, OutputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_written_whole_into_new_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "file.bin"
    write_bytes(path, b"\0\1\2")
    assert path.read_bytes() == b"\0\1\2"
    assert names(path.parent) == ["file.bin"]


def test_the_umask_decides_the_permissions_as_for_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file_and_nothing_else(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")

    def write_half() -> None:
        with atomic_open(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["file"]


def test_the_old_file_stands_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with atomic_path(path) as temporary:
        assert temporary.suffix == ".onnx"  # some libraries go by it
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_folder_or_a_file_in_the_way_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path, words in ((tmp_path, "folder"), (tmp_path / "file" / "out", "not a directory|file exists")):
        with pytest.raises(OutputError, match=rf"cannot be written: .*({words})") as caught:
            write_bytes(path, b"x")
        assert caught.value.path == str(path)
        assert caught.value.remedy
    assert names(tmp_path) == ["file"]


def test_a_name_that_is_too_long_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="file name too long"):
        write_bytes(tmp_path / ("x" * 300), b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="permission denied"):
            write_bytes(tmp_path / "file", b"x")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs /proc, which even root cannot write")
def test_a_place_that_nobody_may_write_is_one_clear_error() -> None:
    with pytest.raises(OutputError, match=r"/proc/new: cannot be written"):
        write_bytes("/proc/new", b"x")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_error_and_the_device_stays_a_device() -> None:
    with pytest.raises(OutputError, match="/dev/full: cannot be written: no space left on device"):
        write_bytes("/dev/full", b"x")
    assert Path("/dev/full").is_char_device()


def test_a_device_takes_the_content_and_stays_a_device() -> None:
    write_bytes(os.devnull, b"x")
    assert Path(os.devnull).is_char_device()


def test_a_pipe_takes_the_content_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_bytes(pipe, b"through the pipe")
    reader.join()
    assert received == [b"through the pipe"]
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_an_open_file_is_added_to_not_replaced(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as stream:
        print("first", file=stream, flush=True)
        write_text(f"/proc/self/fd/{stream.fileno()}", "second\n")
    assert log.read_text(encoding="utf-8") == "first\nsecond\n"


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, file = tmp_path / "link", tmp_path / "there" / "file"
    link.symlink_to(file)
    for content in (b"new", b"newer"):
        write_bytes(link, content)
        assert link.is_symlink()
        assert file.read_bytes() == content
    assert names(file.parent) == ["file"]


def test_places_are_tried_without_leaving_anything(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    check_writable(tmp_path / "old", None, tmp_path / "new" / "deep" / "file", "/dev/null")
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "old"
    for place in (tmp_path, tmp_path / "old" / "file", tmp_path / ("x" * 300)):
        with pytest.raises(OutputError, match="cannot be written: "):
            check_writable(tmp_path / "fine", place)
    assert names(tmp_path) == ["old"]


def test_json_is_readable_utf8_and_refuses_what_json_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"b": "äpfel", "a": [1.5, None]})
    assert path.read_text(encoding="utf-8") == '{\n  "b": "äpfel",\n  "a": [\n    1.5,\n    null\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert "äpfel" in path.read_text(encoding="utf-8")


def test_file_names_that_are_not_text_survive_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    write_json(tmp_path / "file.json", [name])
    assert json.loads((tmp_path / "file.json").read_text(encoding="utf-8")) == [name]


def test_sha256_of_a_file_of_several_blocks(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8200
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    with pytest.raises(InputError, match="cannot be read: no such file or directory"):
        sha256_file(tmp_path / "none")


def test_reason_is_the_systems_own_words() -> None:
    assert reason(FileNotFoundError(2, "No such file or directory")) == "no such file or directory"
    assert reason(OSError("Something Else")) == "something else"


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "new" / ".lock"
    script = (
        "import sys, time; from googlenet_deploy.device.files import exclusive\n"
        "with exclusive(sys.argv[1], 'out', 'is busy', 'wait'): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="out: is busy") as caught, exclusive(lock, "out", "is busy", "wait"):
            pass
        assert caught.value.remedy == "wait"
        process.kill()
    assert lock.exists()  # nobody could remove it, which does not matter
    with exclusive(lock, "out", "is busy", "wait"):
        assert lock.exists()
    assert not lock.exists()


def test_a_lock_s_file_that_its_holder_has_just_removed_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, flock = tmp_path / "lock", fcntl.flock

    def late(stream: Any, operation: int) -> None:
        lock.unlink()  # as another process does that held it until now
        flock(stream, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(OutputError, match="busy"), exclusive(lock, "out", "busy", "wait"):
        pass


def test_files_that_belong_together_are_replaced_in_turn(tmp_path: Path) -> None:
    folder, order = tmp_path / "new", []

    def second() -> None:
        with in_turn(folder):
            order.append("second")

    with in_turn(folder):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
    assert names(folder) == []
