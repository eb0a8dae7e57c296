"""A clock that only moves when a test advances it."""

from __future__ import annotations


class FakeClock:
    """Seconds that only pass by `advance`."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
