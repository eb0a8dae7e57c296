"""What `infer` is given: images, videos, cameras, streams, pipelines, or a folder to watch."""

from __future__ import annotations

import re
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, List, NamedTuple, Optional, Sequence, Union

from googlenet_deploy.device.images.sources import ImageSource, find_images
from googlenet_deploy.errors import GoogLeNetDeployError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.device.stream.video import Video

VIDEO_SUFFIXES = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"))
_CAMERA = re.compile(r"(camera|csi):\d+")


class Inputs(NamedTuple):
    """Frames to classify.

    Attributes:
        frames: Iterates once.
        live: Whether frames come in real time, so that those that are too many are dropped.
        endless: Whether the input ends only when it is told to, or breaks.
        total: How many frames there are; None where that is not known.
        other_files: Files in the folders that are no images.
        notes: What the user should know.
        left_over: Tells, at the end, the files that were not taken; None where all are.
    """

    frames: Iterator[Union[ImageSource, Skipped]]
    live: bool
    endless: bool
    total: Optional[int]
    other_files: List[str]
    notes: List[str]
    left_over: Optional[Callable[[], List[str]]] = None


def open_inputs(arguments: Sequence[str], watch: Optional[str], stop: threading.Event) -> Inputs:
    """Opens what the command line names.

    Args:
        arguments: Images, folders, patterns, ``-``, videos, cameras, addresses and pipelines.
        watch: A folder whose new images are to be classified as they come.
        stop: Ends a watched folder.

    Raises:
        UsageError: A camera or watched folder stands beside other inputs.
        InputError: Something does not exist or cannot be opened.
        MissingExtraError: A video needs OpenCV.
        DeviceError: A pipeline needs an OpenCV with GStreamer.
    """
    if watch is not None:
        return _watched(arguments, watch, stop)
    if not arguments:
        raise UsageError("say what to classify", "give images, folders, videos, camera:0, or --watch FOLDER")
    live = [name for name in arguments if is_live(name)]
    if live and len(arguments) > 1:
        raise UsageError(f"{live[0]} does not end, so nothing can stand beside it", "run one command for each")
    if live:
        video = _video(live[0])
        return Inputs(iter(video), True, True, None, [], [])
    return _finite(arguments)


def is_live(name: str) -> bool:
    """Whether an argument is a camera, an address, or a GStreamer pipeline."""
    if _CAMERA.fullmatch(name) or "://" in name:
        return True
    return " ! " in name and not Path(name).exists()


def is_video(name: str) -> bool:
    """Whether an argument is a video file by its suffix."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES and Path(name).is_file()


def _watched(arguments: Sequence[str], watch: str, stop: threading.Event) -> Inputs:
    from googlenet_deploy.device.stream.watch import WatchedFolder  # noqa: PLC0415 - where it is needed

    if arguments:
        raise UsageError("--watch stands alone", f"leave {arguments[0]} out, or run another command for it")
    folder = WatchedFolder(watch, stop)
    notes = [f"{folder.present} images were there before and are left alone"] if folder.present else []
    return Inputs(iter(folder), False, True, None, [], notes, folder.left_over)


def _finite(arguments: Sequence[str]) -> Inputs:
    parts: List[Union[List[ImageSource], Iterator[Union[ImageSource, Skipped]]]] = []
    others: List[str] = []
    total: Optional[int] = 0
    for name in arguments:
        if is_video(name):
            video = _video(name)
            parts.append(iter(video))
            total = None if total is None or video.frames is None else total + video.frames
        else:
            found = find_images([name])
            parts.append(found.images)
            others += found.other_files
            total = None if total is None else total + len(found.images)
    if total == 0:
        raise GoogLeNetDeployError(f"{', '.join(arguments)}: no images found")
    return Inputs((item for part in parts for item in part), False, False, total, others, [])


def _video(name: str) -> Video:
    if find_spec("cv2") is None:
        error = MissingExtraError("cv2", "opencv")
        error.message = f"{name}: videos, cameras and streams need OpenCV (cv2), which is not installed"
        raise error
    from googlenet_deploy.device.stream import video  # noqa: PLC0415 - optional

    return video.Video(name)
