"""Frames of video files, cameras and network streams, through OpenCV.

A Jetson's CSI camera and GStreamer pipelines need an OpenCV that was built with GStreamer, as JetPack's is; PyPI's is
not.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Optional, Union

# FFmpeg inside OpenCV writes to stderr by itself unless it is told not to, before it is loaded.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

from googlenet_deploy.device.images.pipeline import Skipped
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.errors import DeviceError, InputError, requires

with requires("opencv"):
    import cv2
    import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BAD_FRAMES = 30  # in a row; a second of video, behind which nothing more is expected
OPEN_MILLISECONDS, READ_MILLISECONDS = 10_000, 10_000
_CAMERA = re.compile(r"(camera|csi):(\d+)")
# NVIDIA, Accelerated GStreamer user guide: nvarguscamerasrc gives NV12 in NVMM memory, nvvidconv brings it out.
_CSI = (
    "nvarguscamerasrc sensor-id={index} ! video/x-raw(memory:NVMM),format=NV12 ! nvvidconv ! "
    "video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
)


class Video:
    """A source of frames; iterates once.

    Args:
        name: A video file, ``camera:0``, ``csi:0``, ``rtsp://...``, ``http://...``, or a GStreamer pipeline (with
            ``!``, ending in an appsink).

    Attributes:
        live: Whether frames come in real time.
        frames: How many frames a file says that it has; None where that is not known.

    Raises:
        InputError: It cannot be opened.
        DeviceError: This OpenCV has no GStreamer, which is needed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.live = not is_video_file(name)
        self._capture = _open(name)
        if not self._capture.isOpened():
            self._capture.release()
            raise InputError(name, "cannot be opened as a video", _remedy(name))
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)) if not self.live else 0
        self.frames: Optional[int] = count if count > 0 else None

    def __iter__(self) -> Iterator[Union[ImageSource, Skipped]]:
        """The frames, named ``name#0``, ``name#1``, and those that cannot be decoded.

        Raises:
            InputError: A camera or stream gives no more frames, or a file ends before its time.
        """
        try:
            yield from self._live_frames() if self.live else self._file_frames()
        finally:
            self._capture.release()

    def _live_frames(self) -> Iterator[Union[ImageSource, Skipped]]:
        index = 0
        while True:
            frame = self._read()
            if frame is None:
                raise InputError(
                    self.name,
                    f"gave no more frames after {index}: it was unplugged, or the stream ended",
                    "check the cable or the address, and start again",
                )
            yield ImageSource(f"{self.name}#{index}", pixels=frame)
            index += 1

    def _file_frames(self) -> Iterator[Union[ImageSource, Skipped]]:
        index = bad = 0
        while True:
            frame = self._read()
            if frame is not None:
                yield from (Skipped(f"{self.name}#{index - bad + i}", "cannot be decoded") for i in range(bad))
                bad = 0
                yield ImageSource(f"{self.name}#{index}", pixels=frame)
            elif bad == MOST_BAD_FRAMES or self.frames is None or index >= self.frames:
                break
            else:
                bad += 1
            index += 1
        done = index - bad
        if not done:
            raise InputError(self.name, "holds no frame that can be decoded")
        if self.frames is not None and done < self.frames:
            yield Skipped(self.name, f"ends after {done} of {self.frames} frames: it is damaged or cut short")

    def _read(self) -> Optional[NDArray[np.uint8]]:
        try:
            good, frame = self._capture.read()
        except cv2.error:
            return None
        if not good or frame is None:
            return None
        pixels: NDArray[np.uint8] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        return pixels


def is_video_file(name: str) -> bool:
    """Whether a name is a file, not a camera, address or pipeline."""
    return Path(name).exists() and not _CAMERA.fullmatch(name)


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer."""
    return re.search(r"GStreamer:\s*YES", cv2.getBuildInformation()) is not None


def _open(name: str) -> Any:  # noqa: ANN401 - cv2.VideoCapture
    camera = _CAMERA.fullmatch(name)
    if camera and camera.group(1) == "camera":
        return cv2.VideoCapture(int(camera.group(2)))
    if camera or "!" in name:
        if not has_gstreamer():
            raise DeviceError(
                f"{name}: this OpenCV was built without GStreamer",
                "use JetPack's own OpenCV (apt install nvidia-opencv), or one built with -D WITH_GSTREAMER=ON",
            )
        pipeline = _CSI.format(index=camera.group(2)) if camera else name
        return cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    if "://" in name:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MILLISECONDS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MILLISECONDS]
        return cv2.VideoCapture(name, cv2.CAP_FFMPEG, limits)
    return cv2.VideoCapture(name)


def _remedy(name: str) -> str:
    if _CAMERA.fullmatch(name):
        return "is the camera plugged in, free, and allowed for this user? (ls -l /dev/video*; groups)"
    if "://" in name:
        return "is the address right, and does the network reach it?"
    return "is it a complete video in a format that this OpenCV decodes?"
