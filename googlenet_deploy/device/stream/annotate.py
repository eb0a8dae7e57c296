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
    """A copy with the best classes in its upper left corner."""
    copy = image.convert("RGB")
    draw = ImageDraw.Draw(copy)
    for number, entry in enumerate(answer.classes[:LINES]):
        value = f"{entry.score:.2f}" if entry.probability is None else f"{entry.probability:.1%}"
        # Pillow's built-in font knows Latin letters alone.
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
            anything else is a folder, in which each frame gets a file of its own.
        single: Whether there is one image at the most, which an image file needs.
        rate: Frames per second of a video; None takes 25.
        time_of: When a frame is to be shown, in seconds on its own source's clock, by its name; None where that is not
            known. A video repeats frames until the next one is due, so that it runs as fast as its source.

    Attributes:
        resized: Frames that were brought to the size of a video's first.

    Raises:
        UsageError: An image file is asked for, but there may be several frames, or a form that is not written.
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
            raise UsageError(f"--annotate {path}: {suffix} files are not written", f"give a folder, or one of {known}")
        if self._is_image and not single:
            raise UsageError(f"--annotate {path}: is one image, but there may be several", "give a folder or a video")

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
        """Completes a video, or takes it away where something failed."""
        if self._video is not None:
            self._video.close(keep=kind is None or issubclass(kind, KeyboardInterrupt))

    def _file_for(self, name: str) -> Path:
        """A file of its own for each image, whatever folders they come from; a video's frames are numbered."""
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
        self._origin: Tuple[int, float] = (0, 0.0)  # the frame and the source's time at which this source began

    def write(self, frame: Image.Image, source: str, seconds: Optional[float]) -> bool:
        """Whether the frame had to be resized.

        Args:
            frame: The frame.
            source: Where it comes from; each source has a clock of its own.
            seconds: When it is to be shown on that clock; None for right after the frame before.
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
        # Most codecs want even sizes.
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
