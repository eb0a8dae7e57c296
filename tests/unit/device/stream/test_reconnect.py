"""Sources that break and come back, by a clock that the test turns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.stream.reconnect import Reconnecting
from googlenet_deploy.errors import InputError


class Clock:
    """Seconds; a wait lets them pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Stop(threading.Event):
    """An event on which nobody waits really."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self.clock.now += timeout or 0.0
        return self.is_set()


class Source:
    """Gives so many frames, each after so many seconds, and breaks."""

    live = True

    def __init__(self, clock: Clock, frames: int, seconds: float = 0.1) -> None:
        self.name, self.clock, self.count, self.seconds, self.frames_before = "rtsp://x", clock, frames, seconds, 0

    def __iter__(self) -> Iterator[ImageSource]:
        for _ in range(self.count):
            self.clock.now += self.seconds
            yield ImageSource(f"{self.name}#{self.frames_before}")
            self.frames_before += 1
        raise InputError(self.name, f"gave no more frames after {self.frames_before}")


def collect(made: Reconnecting) -> tuple[list[str], InputError]:
    got: list[str] = []
    try:
        for item in made:
            if item is not None:
                got.append(item.name)  # noqa: PERF401 - kept when it breaks
    except InputError as error:
        return got, error
    raise AssertionError("it never broke")


def make(sessions: list[int | None], attempts: int, seconds: float = 0.1) -> tuple[Reconnecting, list[str], Clock]:
    clock = Clock()
    reports: list[str] = []
    later = iter(sessions[1:])

    def again() -> Any:
        frames = next(later)
        if frames is None:
            raise InputError("rtsp://x", "cannot be opened")
        return Source(clock, frames, seconds)

    first: Any = Source(clock, sessions[0] or 0, seconds)
    return Reconnecting(first, again, attempts, stop=Stop(clock), report=reports.append, clock=clock), reports, clock


def test_frames_are_numbered_on_across_breaks_and_waits_grow() -> None:
    made, reports, clock = make([2, None, None, 3], attempts=3)
    got, error = collect(made)
    assert got == [f"rtsp://x#{index}" for index in range(5)]
    assert [line.rpartition("; ")[2] for line in reports] == [
        "reconnecting in 1 s (attempt 1 of 3)",
        "reconnecting in 2 s (attempt 2 of 3)",
        "reconnecting in 4 s (attempt 3 of 3)",
    ]
    assert clock.now == pytest.approx(0.5 + 1 + 2 + 4)
    assert made.count == 1
    assert "3 reconnections, the last: gave no more frames after 5" in error.message
    assert "--reconnect" in (error.remedy or "")


def test_a_connection_that_lasted_has_all_attempts_again() -> None:
    made, reports, _ = make([1, 70, 70, 70, None, None], attempts=2, seconds=1.0)
    got, _ = collect(made)
    assert len(got) == 211
    assert ["attempt 1 of 2" in line for line in reports] == [True, True, True, True, False]
    assert made.count == 3


def test_without_attempts_the_break_is_the_sources_own() -> None:
    made, reports, _ = make([2], attempts=0)
    got, error = collect(made)
    assert (len(got), reports) == (2, [])
    assert error.message == "rtsp://x: gave no more frames after 2"


def test_no_wait_is_longer_than_half_a_minute() -> None:
    made, reports, clock = make([0, *[None] * 8], attempts=8)
    collect(made)
    assert clock.now == pytest.approx(1 + 2 + 4 + 8 + 16 + 30 + 30 + 30)
    assert len(reports) == 8


def test_a_stop_ends_the_waiting() -> None:
    made, _, _ = make([1, 1], attempts=5)
    got = []
    for item in made:
        got.append(item)
        if item is None:
            made.stop.set()
    assert [item is None for item in got] == [False, True]
