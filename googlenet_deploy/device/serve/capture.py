"""Stores the images with the least certain answers, to be labelled next, in bounded space.

A name begins with the probability of the best class, so that a sorted listing is the order in which to label, then the
class, then the first digits of the content's SHA-256, so that a repeated image is stored once. When the limits are
reached, an image replaces more certain ones. Other files in the folder are left alone.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

from googlenet_deploy.device.files import reason, sha256_bytes, write_bytes
from googlenet_deploy.device.serve.metrics import metric
from googlenet_deploy.device.serve.options import MEBIBYTE
from googlenet_deploy.errors import OutputError

_NAME = re.compile(r"([01]\.\d{4})-class\d+-([0-9a-f]{16})\.[a-z]{3,4}")
DIGITS = 16


class _Kept(NamedTuple):
    confidence: float
    size: int
    path: Path


class LowConfidenceFolder:
    """The folder of such images; may be used by several threads.

    Args:
        folder: The folder, created if missing; images of earlier runs count.
        images: Most images.
        megabytes: Most MiB.
        report: Called with a line about the first image that cannot be written.

    Attributes:
        captured: Number of images stored in this run.

    Raises:
        OutputError: The folder cannot be created or read.
    """

    def __init__(self, folder: str, images: int, megabytes: float, report: Callable[[str], None]) -> None:
        self._folder, self._most, self._bytes = Path(folder), images, int(megabytes * MEBIBYTE)
        self._report, self._failures, self.captured = report, 0, 0
        self._lock = threading.Lock()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._kept = dict(self._present())
        except OSError as error:
            raise OutputError(folder, f"cannot be used: {reason(error)}", "choose another folder") from error

    def keep(self, content: bytes, suffix: str, confidence: float, index: int) -> bool:
        """Stores an image if it is new and there is room, or a more certain one to remove; returns whether it did.

        Args:
            content: The image file.
            suffix: Suffix of its format: ".jpg".
            confidence: Probability of its best class.
            index: That class.
        """
        digest = sha256_bytes(content)[:DIGITS]
        path = self._folder / f"{min(confidence, 1.0):.4f}-class{index}-{digest}{suffix}"
        with self._lock:
            if digest in self._kept or not self._make_room(len(content), confidence):
                return False
            try:
                write_bytes(path, content)
            except OutputError as error:
                self._failures += 1
                if self._failures == 1:
                    self._report(f"{error.message}; further ones are counted in /metrics")
                return False
            self._kept[digest] = _Kept(confidence, len(content), path)
            self.captured += 1
        return True

    def lines(self) -> List[str]:
        """For `/metrics`."""
        with self._lock:
            size = sum(item.size for item in self._kept.values())
            return [
                *metric("captured_images_total", "counter", "Images kept in this run.", [({}, self.captured)]),
                *metric("captured_images", "gauge", "Images in the folder.", [({}, len(self._kept))]),
                *metric("captured_bytes", "gauge", "Their size.", [({}, size)]),
                *metric("capture_failures_total", "counter", "Images not written.", [({}, self._failures)]),
            ]

    def _present(self) -> List[Tuple[str, _Kept]]:
        found = []
        for path in sorted(self._folder.iterdir()):
            name = _NAME.fullmatch(path.name)
            if name is not None and path.is_file():
                found.append((name.group(2), _Kept(float(name.group(1)), path.stat().st_size, path)))
        return found

    def _make_room(self, size: int, confidence: float) -> bool:
        """Removes more certain images until one of `size` bytes fits; removes nothing if that is not enough."""
        count, total = len(self._kept), sum(item.size for item in self._kept.values())
        removed: Dict[str, _Kept] = {}
        for digest, item in sorted(self._kept.items(), key=lambda pair: -pair[1].confidence):
            if count < self._most and total + size <= self._bytes:
                break
            if item.confidence <= confidence:
                return False
            removed[digest] = item
            count, total = count - 1, total - item.size
        if count >= self._most or total + size > self._bytes:
            return False
        for digest, item in removed.items():
            try:
                item.path.unlink()
            except FileNotFoundError:
                pass
            except OSError:
                return False
            del self._kept[digest]
        return True


class Pace:
    """Passes one item per interval, since consecutive camera frames are nearly the same.

    Args:
        seconds: The interval.
        clock: Seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock, self._next = seconds, clock, 0.0

    def due(self) -> bool:
        """Whether the interval is over; if so, the next one begins."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True
