"""Frames of videos that the test makes, and of cameras that are not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from googlenet_deploy.device.images.pipeline import Skipped
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.errors import DeviceError, InputError

pytest.importorskip("cv2", reason="OpenCV is not installed (the extra opencv brings it)")

import cv2

from googlenet_deploy.device.stream import video
from googlenet_deploy.device.stream.video import Video

COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250))
MakeClip = Callable[..., Path]


def strongest(source: ImageSource) -> int:
    assert source.pixels is not None
    return int(source.pixels.reshape(-1, 3).mean(0).argmax())


def test_frames_come_in_order_as_rgb(make_clip: MakeClip) -> None:
    clip = make_clip(frames=6)
    opened = Video(str(clip))
    frames = list(opened)
    assert (opened.live, opened.frames) == (False, 6)
    assert all(isinstance(frame, ImageSource) for frame in frames)
    assert [frame.name for frame in frames] == [f"{clip}#{index}" for index in range(6)]
    assert [strongest(frame) for frame in frames if isinstance(frame, ImageSource)] == [0, 1, 2, 0, 1, 2]


class Fake:
    """A capture that gives what a test wants: a frame, or None where it fails."""

    def __init__(self, frames: list[Any], count: int = 0, opened: bool = True) -> None:
        self.frames, self.count, self.opened, self.released = list(frames), count, opened, 0

    def isOpened(self) -> bool:
        return self.opened

    def get(self, _: int) -> float:
        return float(self.count)

    def read(self) -> tuple[bool, Any]:
        frame = self.frames.pop(0) if self.frames else None
        if isinstance(frame, Exception):
            raise frame
        return frame is not None, frame

    def release(self) -> None:
        self.released += 1


FRAME = np.zeros((4, 4, 3), np.uint8)


def capture(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []

    def make(*arguments: Any) -> Fake:
        asked.append(arguments)
        return fake

    monkeypatch.setattr(video.cv2, "VideoCapture", make)
    return asked


def test_a_camera_that_vanishes_is_said_after_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake([FRAME, FRAME])
    asked = capture(monkeypatch, fake)
    camera = Video("camera:2")
    assert camera.live
    assert asked == [(2,)]
    got = []
    with pytest.raises(InputError, match=r"camera:2: gave no more frames after 2") as caught:
        got += [frame.name for frame in camera]
    assert "cable" in str(caught.value.remedy)
    assert fake.released == 1


def test_a_bad_frame_in_a_file_is_counted_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"x")
    capture(monkeypatch, Fake([FRAME, None, cv2.error("damaged"), FRAME], count=4))
    frames = list(Video(str(path)))
    assert [type(frame).__name__ for frame in frames] == ["ImageSource", "Skipped", "Skipped", "ImageSource"]
    assert [frame.name.rpartition("#")[2] for frame in frames] == ["0", "1", "2", "3"]


def test_a_count_that_is_not_reached_is_a_note_and_no_damage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Edit lists, variable rates and joined streams make sound files of which fewer frames come than are stated."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"x")
    capture(monkeypatch, Fake([FRAME] * 3, count=500))
    opened = Video(str(path))
    assert [type(frame).__name__ for frame in opened] == ["ImageSource"] * 3
    assert opened.notes == [f"{path}: 3 frames came, its container states 500; the count is often an estimate"]


def test_a_file_that_is_cut_short_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    path.write_bytes(b"RIFF" + (5000).to_bytes(4, "little") + b"AVI " + bytes(100))
    capture(monkeypatch, Fake([FRAME] * 3, count=500))
    opened = Video(str(path))
    frames = list(opened)
    assert len(frames) == 4
    assert frames[-1] == Skipped(str(path), "ends after 3 of 500 frames: it is cut short, 4,896 bytes are missing")
    assert not opened.notes


def test_a_decoder_that_fails_at_the_end_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "clip.ts"
    path.write_bytes(b"x")
    capture(monkeypatch, Fake([FRAME, FRAME, *[cv2.error("damaged")] * 40], count=50))
    frames = list(Video(str(path)))
    assert frames[-1] == Skipped(str(path), "ends after 2 frames with an error of the decoder: it is damaged")


def test_a_file_without_any_frame_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"x")
    capture(monkeypatch, Fake([], count=0))
    with pytest.raises(InputError, match="contains no frame"):
        list(Video(str(path)))


def test_a_damaged_clip_ends_and_hangs_not(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(frames=40)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    frames = list(Video(str(cut)))
    usable = [frame for frame in frames if isinstance(frame, ImageSource)]
    assert 0 < len(usable) < 40
    assert [strongest(frame) for frame in usable] == [index % 3 for index in range(len(usable))]


@pytest.mark.parametrize("content", [b"", b"no video", b"\x00" * 5000])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.mp4: cannot be opened as a video"):
        Video(str(path))
    assert capfd.readouterr().err == ""


def test_a_camera_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake([], opened=False)
    capture(monkeypatch, fake)
    with pytest.raises(InputError, match="camera:7: cannot be opened") as caught:
        Video("camera:7")
    assert "/dev/video" in str(caught.value.remedy)
    assert fake.released == 1


def test_an_address_is_opened_with_limits_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = capture(monkeypatch, Fake([], opened=False))
    with pytest.raises(InputError, match="cannot be opened") as caught:
        Video("rtsp://192.0.2.1/stream")
    assert "network" in str(caught.value.remedy)
    assert asked[0][:2] == ("rtsp://192.0.2.1/stream", cv2.CAP_FFMPEG)
    assert cv2.CAP_PROP_READ_TIMEOUT_MSEC in asked[0][2]


PIPELINE = "videotestsrc ! videoconvert ! appsink"


@pytest.mark.parametrize("name", ["csi:0", PIPELINE])
def test_pipelines_need_an_opencv_with_gstreamer(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(video, "has_gstreamer", lambda: False)
    with pytest.raises(DeviceError, match="built without GStreamer") as caught:
        Video(name)
    assert "JetPack" in str(caught.value.remedy)
    monkeypatch.setattr(video, "has_gstreamer", lambda: True)
    asked = capture(monkeypatch, Fake([FRAME]))
    Video(name)
    assert asked[0][1] == cv2.CAP_GSTREAMER
    assert ("nvarguscamerasrc sensor-id=0 ! " in asked[0][0]) == (name == "csi:0")
    assert asked[0][0].split("!")[-1].strip().startswith("appsink")


def test_gstreamer_is_looked_for_in_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, expected in (("  GStreamer:                   YES (1.20.3)\n", True), ("GStreamer:   NO\n", False)):
        monkeypatch.setattr(video.cv2, "getBuildInformation", lambda text=text: text)
        assert video.has_gstreamer() == expected
