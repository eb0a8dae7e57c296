"""Frames with their answers drawn on them: one image, a folder of images, or a video."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Sequence, Set, Tuple

import numpy as np
from PIL import Image, ImageDraw

from googlenet_deploy.device.files import atomic_path, reason
from googlenet_deploy.device.images.folders import SUFFIXES
from googlenet_deploy.device.labels import short_name
from googlenet_deploy.device.stream.inputs import VIDEO_SUFFIXES
from googlenet_deploy.errors import OutputError, UsageError, requires

if TYPE_CHECKING:
    from googlenet_deploy.device.stream.answers import Answer

VIDEO_CODES: Dict[str, str] = {".mp4": "mp4v", ".m4v": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
FRAMES_PER_SECOND = 25.0
LONGEST_PAUSE = 60.0  # seconds for which one frame is repeated
LINES = 3
_PADDING, _LINE_HEIGHT = 4, 14


def annotated(image: Image.Image, answer: Answer) -> Image.Image:
    """A copy of the image with the best classes in the upper left corner."""
    copy = image.convert("RGB")
    draw = ImageDraw.Draw(copy)
    for number, entry in enumerate(answer.classes[:LINES]):
        value = f"{entry.score:.2f}" if entry.probability is None else f"{entry.probability:.1%}"
        # Pillow's built-in font has Latin letters only.
        text = f"{short_name(entry.name)} {value}".encode("latin-1", "replace").decode("latin-1")
        corner = (_PADDING, _PADDING + number * _LINE_HEIGHT)
        box = draw.textbbox(corner, text)
        draw.rectangle((box[0] - 2, box[1] - 1, box[2] + 2, box[3] + 1), fill=(0, 0, 0))
        draw.text(corner, text, fill=(255, 255, 255))
    return copy


class Annotations:
    """Writes annotated frames; a context manager.

    Args:
        path: ``x.mp4``, ``.m4v``, ``.mkv`` or ``.avi`` for a video (needs OpenCV), ``x.png`` or ``.jpg`` for one image,
            anything else is a folder, in which each frame gets its own file.
        single: Whether there is at most one image, as required for an image file.
        rate: Frames per second of a video; None uses 25.
        time_of: Returns when the frame of a given name is to be shown, in seconds on its source's clock; None if
            unknown. A video repeats frames until the next one is due, so that it runs as fast as its source.

    Attributes:
        resized: Number of frames that were resized to the size of a video's first frame.

    Raises:
        UsageError: An image file was requested, but there may be several frames, or the format is not supported.
        MissingExtraError: OpenCV is not installed.
        OutputError: Something cannot be written.
    """

    def __init__(
        self,
        path: str,
        *,
        single: bool,
        rate: Optional[float] = None,
        time_of: Callable[[str], Optional[float]] = lambda _name: None,
    ) -> None:
        self.path, self.resized = Path(path), 0
        suffix = self.path.suffix.lower()
        self._is_image = suffix in IMAGE_SUFFIXES
        self._video: Optional[_Video] = _Video(self.path, rate) if suffix in VIDEO_CODES else None
        self._time_of = time_of
        self._used: Set[str] = set()
        if suffix in (SUFFIXES | VIDEO_SUFFIXES) - {*IMAGE_SUFFIXES, *VIDEO_CODES} and not self.path.is_dir():
            known = ", ".join((*VIDEO_CODES, *IMAGE_SUFFIXES))
            raise UsageError(f"--annotate {path}: {suffix} files are not written", f"pass a folder, or one of {known}")
        if self._is_image and not single:
            raise UsageError(f"--annotate {path}: is one image, but there may be several", "pass a folder or a video")

    def write(self, images: Sequence[Image.Image], answers: Sequence[Answer]) -> None:
        """Draws and writes a batch."""
        for image, answer in zip(images, answers):
            frame = annotated(image, answer)
            if self._video is not None:
                self.resized += self._video.write(frame, answer.image.rpartition("#")[0], self._time_of(answer.image))
            else:
                _save(frame, self.path if self._is_image else self._file_for(answer.image))

    def __enter__(self) -> Annotations:
        """The writer itself."""
        return self

    def __exit__(self, kind: Optional[type], error: Any, traceback: Any) -> None:  # noqa: ANN401
        """Completes a video, or removes it after an error."""
        if self._video is not None:
            self._video.close(keep=kind is None or issubclass(kind, KeyboardInterrupt))

    def _file_for(self, name: str) -> Path:
        """A separate file for each image, whatever folders they come from; a video's frames are numbered."""
        base = re.sub(r"[^\w.#-]", "_", Path(name).name)
        stem, suffix = (base, ".jpg") if "#" in base else (Path(base).stem, Path(base).suffix.lower())
        suffix = suffix if suffix in IMAGE_SUFFIXES else ".png"
        candidate, number = f"{stem}{suffix}", 2
        while candidate in self._used:
            candidate, number = f"{stem}-{number}{suffix}", number + 1
        self._used.add(candidate)
        return self.path / candidate


class _Video:
    def __init__(self, path: Path, rate: Optional[float]) -> None:
        with requires("opencv"):
            import cv2  # noqa: PLC0415 - optional
        self.cv2, self.path = cv2, path
        self.rate = rate or FRAMES_PER_SECOND
        self.temporary = path.with_name(f".{path.stem}.unfinished{path.suffix}")
        self.size: Optional[Tuple[int, int]] = None
        self.writer: Any = None
        self._written = 0
        self._last: Any = None
        self._source: Optional[str] = None
        self._origin: Tuple[int, float] = (0, 0.0)  # the output frame and the source's time at the start of this source

    def write(self, frame: Image.Image, source: str, seconds: Optional[float]) -> bool:
        """Writes a frame; returns whether it had to be resized.

        Args:
            frame: The frame.
            source: Its source; each source has its own clock.
            seconds: When it is to be shown on that clock; None for immediately after the previous frame.
        """
        if self.size is None:
            self._open(frame.size)
        resized = frame.size != self.size
        assert self.size is not None
        pixels = np.asarray(frame.resize(self.size) if resized else frame)
        if seconds is not None:
            self._repeat_until(source, seconds)
        self._last = np.ascontiguousarray(pixels[:, :, ::-1])
        self.writer.write(self._last)
        self._written += 1
        return resized

    def _repeat_until(self, source: str, seconds: float) -> None:
        first, began = self._origin
        if source != self._source or seconds < began:
            self._source, self._origin = source, (self._written, seconds)
            return
        due = first + round((seconds - began) * self.rate)
        if due - self._written > LONGEST_PAUSE * self.rate:  # a jump of the clock, not a pause
            self._origin = (self._written, seconds)
            return
        while self._written < due:
            self.writer.write(self._last)
            self._written += 1

    def close(self, *, keep: bool) -> None:
        if self.writer is None:
            return
        self.writer.release()
        self.writer = None
        try:
            if keep:
                self.temporary.replace(self.path)
            else:
                self.temporary.unlink()
        except OSError as error:
            raise OutputError(self.path, f"cannot be written: {reason(error)}") from error

    def _open(self, size: Tuple[int, int]) -> None:
        # Most codecs need even sizes.
        self.size = (size[0] - size[0] % 2 or 2, size[1] - size[1] % 2 or 2)
        code = self.cv2.VideoWriter.fourcc(*VIDEO_CODES[self.path.suffix.lower()])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(self.path, f"cannot be written: {reason(error)}") from error
        self.writer = self.cv2.VideoWriter(str(self.temporary), code, self.rate, self.size)
        if not self.writer.isOpened():
            raise OutputError(self.path, "cannot be written as a video", "choose .avi, or a folder for single images")


def _save(image: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        image.save(temporary, "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG")
