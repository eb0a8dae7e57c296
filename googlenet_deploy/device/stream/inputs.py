"""What `infer` is given: images, videos, cameras, streams, pipelines, or a folder to watch."""

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
from googlenet_deploy.errors import GoogLeNetDeployError, InputError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.device.stream.video import Video

VIDEO_SUFFIXES = frozenset((
    ".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264", ".h265", ".hevc",
    ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg",
    ".mpg", ".mts", ".mxf", ".ogg", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv", ".y4m",
))  # fmt: skip
# Reconnections to a stream of the network in a row: 1, 2, 4 and 8 s apart.
RECONNECTIONS = 4
SILENCE = 10.0


class StreamInputs(NamedTuple):
    """Frames to classify.

    Attributes:
        frames: Iterates once.
        live: Whether frames come in real time, so that those that are too many are dropped.
        endless: Whether the input ends only when it is told to, or breaks.
        total: How many frames there are; None where that is not known.
        other_files: Files in the folders that are no images.
        notes: What the user should know.
        left_over: Tells, at the end, the files that were not taken; None where all are.
        videos: What the frames of videos, cameras and addresses come from.
        reconnecting: The live source that is opened again when it breaks; None where there is none.
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
        """Frames per second of the first video; None where there is none, or it does not say."""
        return next((video.rate for video in self.videos if video.rate is not None), None)

    def time_of(self, name: str) -> Optional[float]:
        """When a frame is to be shown, in seconds on its own video's clock; None where that is not known."""
        videos = (*self.videos, self.reconnecting.video) if self.reconnecting else self.videos
        times = (video.time_of(name) for video in videos if name.startswith(video.name))
        return next((seconds for seconds in times if seconds is not None), None)

    def closing_notes(self) -> List[str]:
        """What is known at the end only."""
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
    """Opens what the command line names.

    Args:
        arguments: Images, folders, patterns, ``-``, videos, cameras, addresses and pipelines.
        watch: A folder whose new images are to be classified as they come.
        stop: Ends a watched folder, and the waiting for a stream.
        reconnect: Reconnections in a row to a live source that breaks; None takes `RECONNECTIONS` for the network's and
            none for cameras of this machine.
        report: Takes a line about each break.

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
    """Seconds without a frame after which a source counts as dead; None where none are expected at any time.

    A source that is opened again notices silence by itself; then this ends only what does not even wait any more.
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
    notes = [f"{folder.present} images were there before and are left alone"] if folder.present else []
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
