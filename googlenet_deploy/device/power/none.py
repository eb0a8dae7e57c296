"""No meter: the figures are not measured, and say why."""

from __future__ import annotations

import time
from typing import Callable

from googlenet_deploy.device.power.meter import NotMeasured


class NoSampler:
    """Takes the place of `sampler.Sampler` where there is no meter; gives the reason, never a number.

    Args:
        reason: Why nothing is measured.
        clock: As for `Sampler`.
    """

    meter = None

    def __init__(self, reason: NotMeasured, clock: Callable[[], float] = time.perf_counter) -> None:
        self.reason, self.clock = reason, clock

    def __enter__(self) -> NoSampler:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to end."""

    def energy(self, start: float, end: float) -> NotMeasured:  # noqa: ARG002 - as Sampler's
        """The reason."""
        return self.reason
