"""A live source that is reopened, with increasing waits, when it breaks or falls silent."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Callable, Iterator, Optional, Union

from googlenet_deploy.errors import DeviceError, InputError

if TYPE_CHECKING:
    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.stream.video import Video

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds; each wait is twice the one before
# A connection that has lasted this long counts as stable, so that the next break gets all attempts again.
SOUND_SECONDS = 60.0


class Reconnecting:
    """The frames of a live source across its breaks; iterates once. None means "still waiting".

    Frame numbers continue across breaks.

    Args:
        video: The source, open.
        open_again: Reopens it.
        attempts: Consecutive reconnections after which the break is final.
        stop: Ends the waiting.
        report: Called with a line about each break.
        clock: Seconds.

    Attributes:
        count: Number of reconnections after which frames arrived again.

    Raises:
        InputError: While iterating: it broke, and all attempts failed.
    """

    def __init__(
        self,
        video: Video,
        open_again: Callable[[], Video],
        attempts: int,
        *,
        stop: threading.Event,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.video, self.open_again, self.attempts = video, open_again, attempts
        self.stop, self.report, self.clock = stop, report, clock
        self.count = 0
        self._tried = 0

    def __iter__(self) -> Iterator[Optional[Union[ImageSource, Skipped]]]:
        video: Optional[Video] = self.video
        while True:
            try:
                if video is None:
                    video = self._opened_again()
                yield from self._frames(video)
            except (InputError, DeviceError) as error:
                self._give_up_after_the_last(error)
                yield from self._wait(error.message)
                if self.stop.is_set():
                    return
                video = None
            else:
                return

    def _opened_again(self) -> Video:
        video = self.open_again()
        video.frames_before = self.video.frames_before
        self.video = video
        return video

    def _frames(self, video: Video) -> Iterator[Union[ImageSource, Skipped]]:
        began, first = self.clock(), True
        try:
            for item in video:
                if first and self._tried:
                    self.count += 1
                first = False
                yield item
        finally:
            if not first and self.clock() - began >= SOUND_SECONDS:
                self._tried = 0

    def _give_up_after_the_last(self, error: Union[InputError, DeviceError]) -> None:
        if self._tried < self.attempts:
            return
        if not self._tried:
            raise error
        raise InputError(
            self.video.name,
            f"broke and did not come back: {self._tried} reconnections, the last: {_problem(error)}",
            "check the camera and the network; --reconnect N tries more often",
        ) from error

    def _wait(self, why: str) -> Iterator[None]:
        """Waits, and yields None every second, so that the source is not taken for dead."""
        wait = min(FIRST_WAIT * 2**self._tried, LONGEST_WAIT)
        self._tried += 1
        self.report(f"{why}; reconnecting in {wait:g} s (attempt {self._tried} of {self.attempts})")
        end = self.clock() + wait
        while not self.stop.is_set() and self.clock() < end:
            yield None
            self.stop.wait(min(1.0, max(0.0, end - self.clock())))


def _problem(error: Union[InputError, DeviceError]) -> str:
    return error.problem if isinstance(error, InputError) else error.message
