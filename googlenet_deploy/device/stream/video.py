"""Frames of video files, cameras and network streams, through OpenCV.

A Jetson's CSI camera and GStreamer pipelines need an OpenCV that was built with GStreamer, such as JetPack's; PyPI's
packages are not.
"""

from __future__ import annotations

import os
import re
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Iterator, List, Optional, Union

# FFmpeg inside OpenCV writes to stderr unless that is disabled before it is loaded.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

from googlenet_deploy.device.images.pipeline import Skipped
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.stream.address import (
    camera_index,
    csi_index,
    device_path,
    is_address,
    is_camera,
    is_pipeline,
    local_path,
    never_ends,
)
from googlenet_deploy.device.stream.container import missing_bytes
from googlenet_deploy.errors import DeviceError, InputError, requires

with requires("opencv"):
    import cv2
    import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BAD_FRAMES = 30  # in a row: a second of video, after which no good frames are expected
OPEN_MILLISECONDS, READ_MILLISECONDS = 10_000, 5_000
TIMES_KEPT = 4096  # of frames whose time has not been requested yet
HIGHEST_RATE = 1000.0
# NVIDIA, Accelerated GStreamer user guide: nvarguscamerasrc outputs NV12 in NVMM memory, nvvidconv copies it out.
_CSI = (
    "nvarguscamerasrc sensor-id={index} ! video/x-raw(memory:NVMM),format=NV12 ! nvvidconv ! "
    "video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
)


class Video:
    """A source of frames; iterates once.

    Args:
        name: A video file, a camera, an address, or a GStreamer pipeline (with ``!``, ending in an appsink); see
            `address` for their forms.

    Attributes:
        live: Whether frames arrive in real time and have no end.
        frames: Number of frames that a source with an end states, which is often an estimate; None if
            unknown.
        rate: Frames per second that the source states; None if it states none.
        frames_before: Number of frames read before; numbering continues from there.
        notes: Irregularities of the source, complete after its end.

    Raises:
        InputError: It cannot be opened.
        DeviceError: This OpenCV has no GStreamer, which is needed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._capture = _open(name)
        if not self._capture.isOpened():
            self._capture.release()
            raise InputError(name, "cannot be opened as a video", _remedy(name))
        count = 0 if never_ends(name) else int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.live = never_ends(name) or (is_address(name) and count <= 0)
        self.frames: Optional[int] = count if count > 0 else None
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.rate: Optional[float] = rate if 0 < rate <= HIGHEST_RATE else None
        self.frames_before = 0
        self.notes: List[str] = []
        self._decoder_failed = False
        self._times: OrderedDict[str, float] = OrderedDict()

    def __iter__(self) -> Iterator[Union[ImageSource, Skipped]]:
        """Yields the frames, named ``name#0``, ``name#1``, and those that cannot be decoded.

        Raises:
            InputError: A live source stops delivering frames, or a source with an end has none.
        """
        try:
            yield from self._live_frames() if self.live else self._frames_to_the_end()
        finally:
            self._capture.release()

    def time_of(self, name: str) -> Optional[float]:
        """When a frame is to be shown, in seconds on the source's clock; returned only once, None if unknown."""
        return self._times.pop(name, None)

    def _live_frames(self) -> Iterator[Union[ImageSource, Skipped]]:
        while True:
            frame = self._read()
            if frame is None:
                raise InputError(
                    self.name,
                    f"gave no more frames after {self.frames_before}: it was unplugged, or the stream ended",
                    "check the cable or the address, and start again",
                )
            yield self._source(self.frames_before, frame, time.monotonic())
            self.frames_before += 1

    def _frames_to_the_end(self) -> Iterator[Union[ImageSource, Skipped]]:
        index = bad = 0
        while True:
            frame = self._read()
            if frame is not None:
                yield from (Skipped(f"{self.name}#{index - bad + i}", "cannot be decoded") for i in range(bad))
                bad = 0
                yield self._source(index, frame, float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000)
            elif bad == MOST_BAD_FRAMES or self.frames is None or index >= self.frames:
                break
            else:
                bad += 1
            index += 1
        self.frames_before = index - bad
        if not self.frames_before:
            raise InputError(self.name, "contains no frame that can be decoded")
        yield from self._cut()

    def _cut(self) -> Iterator[Skipped]:
        """Reports frames missing at the end; the container's count alone is no proof, since it is often an estimate."""
        done = self.frames_before
        missing = 0 if is_address(self.name) else missing_bytes(local_path(self.name))
        if missing:
            of = f" of {self.frames}" if self.frames is not None and self.frames > done else ""
            yield Skipped(self.name, f"ends after {done}{of} frames: it is cut short, {missing:,} bytes are missing")
        elif self._decoder_failed:
            yield Skipped(self.name, f"ends after {done} frames with an error of the decoder: it is damaged")
        elif self.frames is not None and done < self.frames:
            why = "was the connection lost?" if is_address(self.name) else "the count is often an estimate"
            self.notes.append(f"{self.name}: {done} frames came, its container states {self.frames}; {why}")

    def _source(self, index: int, frame: NDArray[np.uint8], seconds: float) -> ImageSource:
        name = f"{self.name}#{index}"
        self._times[name] = seconds
        if len(self._times) > TIMES_KEPT:
            self._times.popitem(last=False)
        return ImageSource(name, pixels=frame)

    def _read(self) -> Optional[NDArray[np.uint8]]:
        try:
            good, frame = self._capture.read()
        except cv2.error:
            self._decoder_failed = True
            return None
        if not good or frame is None:
            return None
        self._decoder_failed = False
        pixels: NDArray[np.uint8] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        return pixels


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer."""
    return re.search(r"GStreamer:\s*YES", cv2.getBuildInformation()) is not None


def _open(name: str) -> Any:  # noqa: ANN401 - cv2.VideoCapture
    index, csi, device = camera_index(name), csi_index(name), device_path(name)
    if index is not None:
        return cv2.VideoCapture(index)
    if device is not None:
        return cv2.VideoCapture(device, cv2.CAP_V4L2)
    if csi is not None or is_pipeline(name):
        if not has_gstreamer():
            raise DeviceError(
                f"{name}: this OpenCV was built without GStreamer",
                "use JetPack's own OpenCV (apt install nvidia-opencv), or one built with -D WITH_GSTREAMER=ON",
            )
        return cv2.VideoCapture(name if csi is None else _CSI.format(index=csi), cv2.CAP_GSTREAMER)
    if is_address(name):
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MILLISECONDS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MILLISECONDS]
        return cv2.VideoCapture(name, cv2.CAP_FFMPEG, limits)
    return cv2.VideoCapture(local_path(name))


def _remedy(name: str) -> str:
    if is_camera(name):
        return "is the camera plugged in, free, and allowed for this user? (ls -l /dev/video*; groups)"
    if is_address(name):
        return "is the address right, and does the network reach it?"
    return "is it a complete video in a format that this OpenCV decodes?"
