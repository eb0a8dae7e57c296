"""The inputs of `infer`: images, videos, cameras, streams, pipelines, or a folder to watch."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from googlenet_deploy.device.images.sources import ImageSource, Sources, find_images
from googlenet_deploy.device.stream.address import (
    HttpAnswer,
    ask_server,
    is_address,
    is_camera,
    is_http,
    is_pipeline,
    local_path,
    never_ends,
)
from googlenet_deploy.device.stream.reconnect import Reconnecting
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import GoogLeNetDeployError, InputError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.device.stream.video import Video

VIDEO_SUFFIXES = frozenset((
    ".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264", ".h265", ".hevc",
    ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg",
    ".mpg", ".mts", ".mxf", ".ogg", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv", ".y4m",
))  # fmt: skip
# Consecutive reconnections to a network stream: 1, 2, 4 and 8 s apart.
RECONNECTIONS = 4
SILENCE = 10.0


class StreamInputs(NamedTuple):
    """Frames to classify.

    Attributes:
        frames: Iterates once.
        live: Whether frames arrive in real time, so that excess frames are dropped.
        endless: Whether the input ends only when it is stopped or breaks.
        total: Number of frames; None if unknown.
        other_files: Files in the folders that are not images.
        notes: Notes for the user.
        left_over: Returns, at the end, the files that were not used; None if all are used.
        videos: The sources of the frames of videos, cameras and addresses.
        reconnecting: The live source that is reopened when it breaks; None if there is none.
    """

    frames: Iterator[Optional[Union[ImageSource, Skipped]]]
    live: bool
    endless: bool
    total: Optional[int]
    other_files: List[str]
    notes: List[str]
    left_over: Optional[Callable[[], List[str]]] = None
    videos: Tuple[Video, ...] = ()
    reconnecting: Optional[Reconnecting] = None

    @property
    def rate(self) -> Optional[float]:
        """Frames per second of the first video; None if there is none, or its rate is unknown."""
        return next((video.rate for video in self.videos if video.rate is not None), None)

    def time_of(self, name: str) -> Optional[float]:
        """When a frame is to be shown, in seconds on its video's clock; None if unknown."""
        videos = (*self.videos, self.reconnecting.video) if self.reconnecting else self.videos
        times = (video.time_of(name) for video in videos if name.startswith(video.name))
        return next((seconds for seconds in times if seconds is not None), None)

    def closing_notes(self) -> List[str]:
        """Notes that are known only at the end."""
        notes = [note for video in self.videos for note in video.notes]
        if self.reconnecting is not None and self.reconnecting.count:
            notes.append(f"{self.reconnecting.video.name}: broke and was opened again {self.reconnecting.count} times")
        return notes


def open_inputs(
    arguments: Sequence[str],
    watch: Optional[str],
    stop: threading.Event,
    *,
    reconnect: Optional[int] = None,
    report: Callable[[str], None] = lambda _line: None,
) -> StreamInputs:
    """Opens the inputs from the command line.

    Args:
        arguments: Images, folders, patterns, ``-``, videos, cameras, addresses and pipelines.
        watch: A folder whose new images are to be classified as they arrive.
        stop: Ends watching a folder and waiting for a stream.
        reconnect: Consecutive reconnections to a live source that breaks; None uses `RECONNECTIONS` for network
            streams and 0 for cameras of this machine.
        report: Called with a line about each break.

    Raises:
        UsageError: A camera or watched folder is combined with other inputs.
        InputError: Something does not exist or cannot be opened.
        MissingExtraError: A video needs OpenCV.
        DeviceError: A pipeline needs an OpenCV with GStreamer.
    """
    if watch is not None:
        return _watched(arguments, watch, stop)
    if not arguments:
        raise UsageError("name what to classify", "pass images, folders, videos, camera:0, or --watch FOLDER")
    _check_alone(arguments, filter(never_ends, arguments))
    opened = [_open(local_path(name)) for name in arguments]
    live = [item.video for item in opened if item.video is not None and item.video.live]
    _check_alone(arguments, (video.name for video in live))
    if not live:
        return _finite(arguments, opened)
    attempts = reconnect if reconnect is not None else RECONNECTIONS if is_address(live[0].name) else 0
    again = Reconnecting(live[0], lambda: _video(arguments[0]), attempts, stop=stop, report=report)
    return StreamInputs(iter(again), True, True, None, [], [], videos=(live[0],), reconnecting=again)


def silence_of(inputs: StreamInputs) -> Optional[float]:
    """Seconds without a frame after which a source counts as dead; None if frames may be absent for any time.

    A source that reconnects detects silence itself; the limit then only catches a source that hangs.
    """
    if not inputs.live:
        return None
    return SILENCE if inputs.reconnecting is None or not inputs.reconnecting.attempts else 4 * SILENCE


def _check_alone(arguments: Sequence[str], live: Iterable[str]) -> None:
    first = next(iter(live), None)
    if first is not None and len(arguments) > 1:
        raise UsageError(f"{first} does not end, so it must be the only input", "run one command for each")


class _Opened(NamedTuple):
    """One argument: a video, or images."""

    video: Optional[Video]
    images: Sources


def _open(name: str) -> _Opened:
    if is_camera(name) or is_pipeline(name) or is_video(name):
        return _Opened(_video(name), Sources())
    if not is_address(name):
        return _Opened(None, find_images([name]))
    answer = ask_server(name) if is_http(name) else HttpAnswer(None)
    if answer.picture is not None:
        return _Opened(None, Sources([ImageSource(name, answer.picture)]))
    try:
        video = _video(name)
    except InputError as error:
        problem = f"{error.problem}: {answer.problem}" if answer.problem else error.problem
        raise InputError(name, problem, error.remedy) from error
    if answer.has_end is not None:
        video.live = not answer.has_end
    return _Opened(video, Sources())


def is_video(name: str) -> bool:
    """Whether an argument is a video file by its suffix."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES and Path(name).is_file()


def _watched(arguments: Sequence[str], watch: str, stop: threading.Event) -> StreamInputs:
    from googlenet_deploy.device.stream.watch import WatchedFolder  # noqa: PLC0415 - where it is needed

    if arguments:
        raise UsageError("--watch accepts no other input", f"leave {arguments[0]} out, or run another command for it")
    folder = WatchedFolder(watch, stop)
    notes = [f"left alone: {counted(folder.present, 'image')} that had been there before"] if folder.present else []
    return StreamInputs(iter(folder), False, True, None, [], notes, folder.left_over)


def _finite(arguments: Sequence[str], opened: Sequence[_Opened]) -> StreamInputs:
    counts = [item.video.frames if item.video is not None else len(item.images.images) for item in opened]
    total = None if None in counts else sum(count for count in counts if count is not None)
    if total == 0:
        raise GoogLeNetDeployError(f"{', '.join(arguments)}: no images found")
    others = [name for item in opened for name in item.images.other_files]
    videos = tuple(item.video for item in opened if item.video is not None)
    notes = [note for item in opened for note in item.images.notes]
    return StreamInputs(_frames(opened), False, False, total, others, notes, videos=videos)


def _frames(opened: Sequence[_Opened]) -> Iterator[Union[ImageSource, Skipped]]:
    for item in opened:
        yield from item.images.images if item.video is None else iter(item.video)


def _video(name: str) -> Video:
    if find_spec("cv2") is None:
        error = MissingExtraError("cv2", "opencv")
        error.message = f"{name}: videos, cameras and streams need OpenCV (cv2), which is not installed"
        raise error
    from googlenet_deploy.device.stream import video  # noqa: PLC0415 - optional

    return video.Video(name)
