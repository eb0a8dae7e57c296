"""Samples a meter in a background thread, and computes the energy of any window since the start.

For example::

    with Sampler(meter) as sampler:
        start = sampler.begin()
        work()
        energy = sampler.energy(start, sampler.clock())
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from typing import TYPE_CHECKING, Callable

from googlenet_deploy.device.power.energy import Measured, Trace, energy_between, max_gap
from googlenet_deploy.device.power.meter import MeterGoneError
from googlenet_deploy.device.system.sysfs import LostReadingError

if TYPE_CHECKING:
    from googlenet_deploy.device.power.meter import Meter

SECONDS_TO_STOP = 3.0


class Sampler:
    """A context manager that reads `meter` and closes it on exit.

    The time of a reading is half-way between the clock before and after it; for a reading that waits for its value
    (tegrastats) it is the time at which the value arrived.

    Args:
        meter: The meter.
        clock: Seconds, monotonic; the windows use the same clock.
    """

    def __init__(self, meter: Meter, clock: Callable[[], float] = time.perf_counter) -> None:
        self.meter, self.clock = meter, clock
        self.trace = Trace()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)

    def __enter__(self) -> Sampler:
        """Starts sampling."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the thread and closes the meter; a meter that does not respond is abandoned after a few seconds."""
        self._stop.set()
        if self.meter.paced:
            self.meter.close()  # the only way to end a waiting read
        self._thread.join(SECONDS_TO_STOP)
        if not self.meter.paced:
            self.meter.close()

    def sample(self) -> bool:
        """Takes one reading; False if the meter has ended."""
        before = self.clock()
        try:
            values = self.meter.read()
        except LostReadingError as error:
            with self._changed:
                self.trace.lost, self.trace.last_loss = self.trace.lost + 1, error.message
            return True
        except MeterGoneError as error:
            with self._changed:
                self.trace.ended = error.message
                self._changed.notify_all()
            return False
        after = self.clock()
        with self._changed:
            self.trace.times.append(after if self.meter.paced else (before + after) / 2)
            self.trace.values.append(values)
            self._changed.notify_all()
        return True

    def begin(self) -> float:
        """The current time as the start of a window; waits until there is an earlier reading."""
        self.wait_for(self.clock())
        return self.clock()

    def wait_for(self, moment: float) -> None:
        """Waits until there is a reading at or after `moment`, the meter has ended, or it is silent for too long."""
        if not self._thread.is_alive():
            return
        with self._changed:
            self._changed.wait_for(
                lambda: bool(self.trace.ended) or (bool(self.trace.times) and self.trace.times[-1] >= moment),
                timeout=2 * max_gap(self.meter) + self.meter.period,
            )

    def energy(self, start: float, end: float) -> Measured:
        """The energy from `start` to `end`, both on the sampler's clock; waits for the reading after `end`."""
        self.wait_for(end)
        with self._changed:
            snapshot = Trace(
                list(self.trace.times),
                list(self.trace.values),
                self.trace.lost,
                self.trace.last_loss,
                self.trace.ended,
            )
        return energy_between(snapshot, self.meter, start, end)

    def forget(self, before: float) -> None:
        """Drops the readings that no window from `before` on needs, so that memory stays bounded in a long run."""
        with self._changed:
            unneeded = max(0, bisect_right(self.trace.times, before) - 1)
            del self.trace.times[:unneeded]
            del self.trace.values[:unneeded]

    def _run(self) -> None:
        next_time = self.clock()
        while not self._stop.is_set() and self.sample():
            if self.meter.paced:
                continue
            # Missed readings are skipped, not made up for.
            next_time = max(next_time + self.meter.period, self.clock())
            self._stop.wait(max(0.0, next_time - self.clock()))
