"""Energy while a server runs: summed over windows of a few seconds, in bounded memory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Callable, List, Optional

from googlenet_deploy.device.power.energy import window_for
from googlenet_deploy.device.power.meter import NotMeasured
from googlenet_deploy.device.power.sampler import Sampler
from googlenet_deploy.device.serve.metrics import comment, metric

if TYPE_CHECKING:
    from googlenet_deploy.device.power.select import AnySampler

SECONDS = 5.0


class EnergyCounter:
    """A context manager that reads a meter in a thread.

    Args:
        sampler: The meter's sampler, or one with the reason why nothing is measured.
        images: Returns the number of images classified so far.
        seconds: Minimum length of a window.
    """

    def __init__(self, sampler: AnySampler, images: Callable[[], int], seconds: float = SECONDS) -> None:
        self._sampler, self._images, self._seconds = sampler, images, seconds
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._reason = "the first window has not ended"
        self._joules, self._watts = 0.0, 0.0
        self._per_image: Optional[float] = None

    def __enter__(self) -> EnergyCounter:
        """Starts reading."""
        self._sampler.__enter__()
        if isinstance(self._sampler, Sampler):
            self._thread = threading.Thread(target=self._run, args=(self._sampler,), name="energy", daemon=True)
            self._thread.start()
        else:
            self._reason = self._sampler.reason.reason
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends the thread and closes the meter."""
        self._stop.set()
        self._sampler.__exit__(*exception)
        if self._thread is not None:
            self._thread.join()

    def lines(self) -> List[str]:
        """For `/metrics`; without a measurement a comment with the reason."""
        if self._reason:
            return [comment(f"energy is not measured: {self._reason}")]
        meter = "" if self._sampler.meter is None else f" ({self._sampler.meter.name}, {self._sampler.meter.covers})"
        found = [
            *metric("energy_joules_total", "counter", f"Energy since the start{meter}.", [({}, self._joules)]),
            *metric("power_watts", "gauge", "Mean power of the latest window.", [({}, self._watts)]),
        ]
        if self._per_image is not None:
            found += metric("energy_joules_per_image", "gauge", "In the latest window.", [({}, self._per_image)])
        return found

    def _run(self, sampler: Sampler) -> None:
        length = window_for(sampler.meter, self._seconds)
        start, before = sampler.begin(), self._images()
        while not self._stop.wait(length):
            end, now = sampler.clock(), self._images()
            measured = sampler.energy(start, end)
            if isinstance(measured, NotMeasured):
                self._reason = measured.reason
            else:
                self._reason, self._watts = "", measured.watts
                self._joules += measured.joules
                self._per_image = measured.joules / (now - before) if now > before else None
            start, before = end, now
            sampler.forget(end)
