"""No meter: energy is reported as not measured, with the reason."""

from __future__ import annotations

import time
from typing import Callable

from googlenet_deploy.device.power.meter import NotMeasured


class NoSampler:
    """Replaces `sampler.Sampler` if there is no meter; returns the reason, never a number.

    Args:
        reason: Why nothing is measured.
        clock: As for `Sampler`.
    """

    meter = None

    def __init__(self, reason: NotMeasured, clock: Callable[[], float] = time.perf_counter) -> None:
        self.reason, self.clock = reason, clock

    def __enter__(self) -> NoSampler:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing."""

    def energy(self, start: float, end: float) -> NotMeasured:  # noqa: ARG002 - as Sampler's
        """The reason."""
        return self.reason
