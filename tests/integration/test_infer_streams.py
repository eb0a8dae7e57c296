"""The infer command on videos, cameras and folders that fill, and how it ends."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.images.pipeline import Skipped
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.stream import inputs, reconnect, watch
from googlenet_deploy.errors import InputError

NAMES = ("red", "green", "blue")
COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Ten frames, red, green and blue in turn."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed (the extra opencv brings it)")
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 64))
    for index in range(10):
        writer.write(np.full((64, 64, 3), COLOURS[index % 3][::-1], np.uint8))
    writer.release()
    return path


def classes(json_lines: str) -> list[str]:
    return [json.loads(line)["classes"][0]["name"] for line in json_lines.splitlines()]


def pixels(index: int) -> Any:
    return np.full((16, 16, 3), COLOURS[index % 3], np.uint8)


class Camera:
    """Stands in for `video.Video`."""

    live, frames, rate = True, None, None
    name, frames_before, notes = "camera:0", 0, ()

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield item


def use_camera(monkeypatch: pytest.MonkeyPatch, items: list[Any]) -> None:
    monkeypatch.setattr(inputs, "_video", lambda name: Camera(items))


def test_a_video_frame_by_frame(
    colour_model: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, drawn = tmp_path / "a.csv", tmp_path / "drawn.avi"
    arguments = ["infer", str(colour_model), str(clip), "--json", "-", "--csv", str(table), "--annotate", str(drawn)]
    assert main([*arguments, "--batch", "4", "--top-k", "1"]) == 0
    captured = capsys.readouterr()
    assert classes(captured.out) == [NAMES[index % 3] for index in range(10)]
    assert json.loads(captured.out.splitlines()[3])["image"] == f"{clip}#3"
    assert "10 images, 0 skipped" in captured.err
    assert len(list(csv.DictReader(io.StringIO(table.read_text())))) == 10
    assert drawn.stat().st_size > 1000


def test_videos_stand_beside_images(
    colour_model: Path, clip: Path, colour_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", str(colour_model), str(colour_images / "blue.png"), str(clip), "--json", "-"]) == 0
    assert classes(capsys.readouterr().out) == ["blue", *(NAMES[index % 3] for index in range(10))]


def test_a_bad_frame_is_counted_and_the_stream_goes_on(
    colour_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [ImageSource("camera:0#0", pixels=pixels(0)), Skipped("camera:0#1", "cannot be decoded")]
    items += [ImageSource("camera:0#2", pixels=pixels(2)), InputError("camera:0", "gave no more frames after 3")]
    use_camera(monkeypatch, items)
    assert main(["infer", str(colour_model), "camera:0", "--json", "-"]) == 1
    captured = capsys.readouterr()
    assert classes(captured.out) == ["red", "blue"]
    assert "skipped: camera:0#1: cannot be decoded" in captured.err
    assert "2 images, 1 skipped" in captured.err
    assert "error: camera:0: gave no more frames after 3" in captured.err


def test_a_camera_that_is_too_fast_loses_frames_and_says_so(
    colour_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [ImageSource(f"camera:0#{index}", pixels=pixels(index)) for index in range(3000)]
    use_camera(monkeypatch, [*frames, InputError("camera:0", "gave no more frames")])
    assert main(["infer", str(colour_model), "camera:0", "--json", "-", "--batch", "1"]) == 1
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    lost = 3000 - len(rows)
    assert lost > 0
    assert f"note: {lost} frames came too fast and were dropped" in captured.err
    for row in rows:  # each answer still belongs to its own frame
        assert row["classes"][0]["name"] == NAMES[int(row["image"].partition("#")[2]) % 3]


def test_many_bad_files_are_counted_and_few_are_named(
    colour_model: Path, colour_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(25):
        (colour_images / f"bad{index:02}.png").write_bytes(b"x")
    assert main(["infer", str(colour_model), str(colour_images), "--json", "-"]) == 0
    err = capsys.readouterr().err
    assert err.count("skipped: ") == 11
    assert "skipped: ... and 15 more" in err
    assert "3 images, 25 skipped" in err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["camera:0", "photo.jpg"], 2, "does not end"),
        (["photo.jpg", "--watch", "."], 2, "--watch accepts no other input"),
        ([], 2, "name what to classify"),
        (["--watch", "nowhere"], 1, "is not a folder to watch"),
        (["x.png", "--json", "-", "--csv", "-"], 2, "both"),
        (["none.mp4"], 1, "no such file or folder"),
    ],
)
def test_what_makes_no_sense_is_refused(
    colour_model: Path, arguments: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", str(colour_model), *arguments]) == status
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["camera:0", "csi:0", "rtsp://host/x", "a ! b ! appsink", "clip.mp4"])
def test_without_opencv_the_error_names_it(
    colour_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    monkeypatch.setattr(inputs, "find_spec", lambda module: None)
    assert main(["infer", str(colour_model), name]) == 1
    err = capsys.readouterr().err
    assert f"{name}: videos, cameras and streams need OpenCV" in err
    assert "googlenet-deploy[opencv]" in err


@pytest.mark.parametrize("value", ["-1", "nan", "soon"])
def test_a_latency_that_is_none_is_refused(colour_model: Path, value: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["infer", str(colour_model), "x.png", "--max-latency", value])
    assert caught.value.code == 2


class Process:
    """The command in a process of its own, whose lines can be awaited."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "googlenet_deploy", "infer", *map(str, arguments)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.guard = threading.Timer(120, self.process.kill)  # a hang fails the test instead of stopping all
        self.guard.start()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def warning(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def end(self, number: int) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate()
        self.guard.cancel()
        return self.process.returncode, out, err


def save(path: Path, index: int) -> None:
    Image.new("RGB", (16, 16), COLOURS[index]).save(path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_watched_folder_until_a_signal(colour_model: Path, tmp_path: Path, number: int) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    save(folder / "before.png", 0)
    process = Process(colour_model, "--watch", folder, "--json", "-")
    assert "left alone: 1 image that had been there before" in process.warning()
    save(folder / "a.png", 2)
    assert classes(process.line()) == ["blue"]
    half = (folder / "a.png").read_bytes()[:40]
    (folder / "half.png").write_bytes(half)
    save(folder / ".hidden.png", 0)
    (folder / ".hidden.png").rename(folder / "b.png")
    assert classes(process.line()) == ["red"]
    save(folder / "half.png", 1)  # it is complete now
    assert classes(process.line()) == ["green"]
    (folder / "empty.png").write_bytes(b"")
    status, out, err = process.end(number)
    assert (status, out) == (0, "")
    assert "3 images, 1 skipped" in err
    assert f"note: not classified: 1 image empty, not complete or too late, such as {folder}/em" in err
    assert "half.png: " in err
    assert "Traceback" not in err


def test_a_file_that_vanishes_is_counted_and_watching_goes_on(
    colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()

    def ready(self: watch.WatchedFolder) -> Iterator[str]:
        save(folder / "a.png", 1)
        yield str(folder / "vanished.png")
        yield str(folder / "a.png")
        raise InputError(str(folder), "cannot be watched any more: no such file or directory")

    monkeypatch.setattr(watch.WatchedFolder, "ready", ready)
    assert main(["infer", str(colour_model), "--watch", str(folder), "--json", "-"]) == 1
    captured = capsys.readouterr()
    assert classes(captured.out) == ["green"]
    assert "vanished.png: cannot be read: no such file" in captured.err
    assert "cannot be watched any more" in captured.err


def test_a_signal_ends_a_long_job_after_the_batch_with_what_was_done(
    colour_model: Path, colour_images: Path, tmp_path: Path
) -> None:
    many = [colour_images / "red.png"] * 20_000
    listing = "\n".join(map(str, many))
    table = tmp_path / "a.csv"
    command = [sys.executable, "-m", "googlenet_deploy", "infer", str(colour_model), "-", "--json", "-"]
    process = subprocess.Popen(
        [*command, "--csv", str(table), "--top-k", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    guard = threading.Timer(120, process.kill)
    guard.start()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(listing)
    process.stdin.close()
    first = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait() == 128 + signal.SIGTERM, err
    guard.cancel()
    done = len(classes(first + rest))
    assert 0 < done < 20_000
    assert f"{done} images, 0 skipped" in err
    assert len(table.read_text().splitlines()) == 1 + done


class Pages(BaseHTTPRequestHandler):
    """A video, a picture, and a camera that sends three frames and hangs up."""

    files: ClassVar[dict[str, tuple[str, bytes]]] = {}
    frame = b""

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        if self.path == "/camera":
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(self.frame)
            with contextlib.suppress(OSError):
                for _ in range(3):
                    self.wfile.write(part + self.frame + b"\r\n")
            return
        kind, content = self.files.get(self.path, ("", b""))
        if not kind:
            self.send_error(404)
            return
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content[start:])


@pytest.fixture
def pages(clip: Path) -> Iterator[str]:
    """The server's address, on loopback."""
    picture = io.BytesIO()
    Image.fromarray(pixels(2)).save(picture, "JPEG")
    Pages.files = {"/clip.avi": ("video/x-msvideo", clip.read_bytes()), "/photo": ("image/jpeg", picture.getvalue())}
    Pages.frame = picture.getvalue()
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_addresses_with_an_end_are_worked_through(
    colour_model: Path, clip: Path, pages: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{pages}/photo", f"{pages}/clip.avi", f"file://{clip}"]
    assert main(["infer", str(colour_model), *names, "--json", "-", "--top-k", "1"]) == 0
    captured = capsys.readouterr()
    video = [NAMES[index % 3] for index in range(10)]
    assert classes(captured.out) == ["blue", *video, *video]
    assert "21 images, 0 skipped" in captured.err
    assert "dropped" not in captured.err


def test_a_stream_that_hangs_up_is_opened_again(
    colour_model: Path, pages: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reconnect, "FIRST_WAIT", 0.01)
    arguments = ["infer", str(colour_model), f"{pages}/camera", "--json", "-", "--top-k", "1", "--reconnect", "2"]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert len(classes(captured.out)) == 9
    assert set(classes(captured.out)) == {"blue"}
    assert "reconnecting in 0.02 s (attempt 2 of 2)" in captured.err
    assert "broke and was opened again 2 times" in captured.err
    assert "2 reconnections, the last: gave no more frames after 9" in captured.err


def test_a_server_that_refuses_is_quoted(colour_model: Path, pages: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", str(colour_model), f"{pages}/none.mp4", "--json", "-"]) == 1
    assert "none.mp4: cannot be opened as a video: the server answers 404 Not Found" in capsys.readouterr().err


def test_reconnect_is_for_what_has_no_end(colour_model: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", str(colour_model), str(clip), "--reconnect", "3"]) == 2
    assert "--reconnect is for cameras and streams" in capsys.readouterr().err
