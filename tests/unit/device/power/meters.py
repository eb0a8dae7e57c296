"""Meters made up for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from googlenet_deploy.device.power.meter import Limits, MeterGoneError, Rail


class ScriptedMeter:
    """Gives what `values` yields: numbers for one rail, dictionaries, or errors to raise."""

    name = "scripted"
    covers = "test"
    period = 0.05
    source = "made up"

    def __init__(
        self,
        values: Iterator[object],
        rails: tuple[Rail, ...] = (Rail("A", True, Limits(0.01, 0.02, 0.001)),),
        *,
        counts_energy: bool = False,
        paced: bool = False,
        lag: float = 0.0,
        after_read: Callable[[], None] = lambda: None,
    ) -> None:
        self.values, self.rails = values, rails
        self.counts_energy, self.paced, self.lag = counts_energy, paced, lag
        self.notes: list[str] = []
        self.closed = 0
        self.after_read = after_read

    def read(self) -> dict[str, float]:
        value = next(self.values, None)
        self.after_read()
        if value is None:
            raise MeterGoneError("scripted: ended")
        if isinstance(value, Exception):
            raise value
        if isinstance(value, dict):
            return value
        assert isinstance(value, (int, float))
        return {self.rails[0].name: float(value)}

    def close(self) -> None:
        self.closed += 1
