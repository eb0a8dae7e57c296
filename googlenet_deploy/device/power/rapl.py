"""RAPL: energy counters of processor packages and memory, through the kernel's powercap files.

``energy_uj`` counts microjoules and wraps to zero after ``max_energy_range_uj`` (Documentation/power/powercap). Since
CVE-2020-8694 only root can read it. The total is every package and its memory; "core" and "uncore" are parts of a
package, and "psys" includes it. No error limits of the counters are published.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

from googlenet_deploy.device.power.meter import Limits, MeterGoneError, NotMeasured, Opened, Rail
from googlenet_deploy.device.system.sysfs import LostReadingError, read_int, try_int, try_text

PERIOD = 0.05
LAG = 0.001  # the counters are updated about every millisecond (Intel SDM, volume 3, 15.10)
STEP_JOULES = 61e-6  # 2**-14 J, the usual energy unit (Intel SDM, volume 3, MSR_RAPL_POWER_UNIT)
# No package uses more; after a longer pause a counter may have wrapped unnoticed.
LARGEST_WATTS = 1000.0


class _Domain(NamedTuple):
    name: str
    counter: Path
    range_microjoules: int
    in_total: bool


class RaplMeter:
    """The counters of this machine; see `meter.Meter`.

    Args:
        domains: At least one.
        clock: Seconds, to notice a pause in which a counter could have wrapped twice.

    Raises:
        LostReadingError: A counter cannot be read.
    """

    name = "RAPL"
    covers = "processor packages and their memory"
    counts_energy = True
    period = PERIOD
    lag = LAG
    paced = False
    source = "nobody states the error of RAPL's counters"

    def __init__(self, domains: List[_Domain], clock: Callable[[], float] = time.perf_counter) -> None:
        self._domains, self._clock = domains, clock
        self.rails: Tuple[Rail, ...] = tuple(
            Rail(domain.name, domain.in_total, Limits(None, 0.0, STEP_JOULES)) for domain in domains
        )
        self.notes: List[str] = []
        self._last = {domain.name: read_int(domain.counter) for domain in domains}
        self._joules = {domain.name: 0.0 for domain in domains}
        self._time = clock()
        self._longest = min(domain.range_microjoules for domain in domains) / 1e6 / LARGEST_WATTS

    def read(self) -> Dict[str, float]:
        """Joules since the meter was opened; see `meter.Meter.read`."""
        now = self._clock()
        counts = {domain.name: read_int(domain.counter) for domain in self._domains}
        if now - self._time > self._longest:
            raise MeterGoneError(f"RAPL was not read for {now - self._time:.0f} s: a counter may have wrapped unseen")
        for domain in self._domains:
            step = counts[domain.name] - self._last[domain.name]
            if step < 0:
                step += domain.range_microjoules
            if step < 0:
                raise MeterGoneError(f"{domain.counter}: went back beyond its range of {domain.range_microjoules}")
            self._joules[domain.name] += step / 1e6
        self._last, self._time = counts, now
        return dict(self._joules)

    def close(self) -> None:
        """Does nothing."""


def find_rapl(root: Path = Path("/")) -> List[_Domain]:
    """The packages and memory with counters on this machine; empty if there are none."""
    domains: Dict[str, _Domain] = {}
    for folder in sorted(root.glob("sys/class/powercap/intel-rapl:*")):
        name, largest = try_text(folder / "name"), try_int(folder / "max_energy_range_uj")
        if not name or largest is None or largest <= 0:
            continue
        parts = folder.name.split(":")[1:]
        unique = name if name.startswith("package-") else f"{name}-{parts[0]}"
        in_total = name.startswith("package-") or name == "dram"
        domains.setdefault(unique, _Domain(unique, folder / "energy_uj", largest, in_total))
    return list(domains.values())


def why_not_rapl(root: Path = Path("/")) -> NotMeasured:
    """Why RAPL is not available here."""
    counters = sorted(root.glob("sys/class/powercap/intel-rapl:*/energy_uj"))
    if not counters:
        return NotMeasured("the kernel shows no RAPL counters (virtual machines and containers seldom have them)")
    return NotMeasured(
        f"{counters[0]}: only root may read it (CVE-2020-8694)", f"run as root, or: sudo chmod a+r {counters[0]}"
    )


def open_rapl(chosen: Tuple[str, ...], root: Path) -> Opened:  # noqa: ARG001 - packages and memory are the total
    """Opens a meter, or returns why there is none; see `meter.MeterEntry`."""
    domains = find_rapl(root)
    if not domains:
        return why_not_rapl(root)
    try:
        return RaplMeter(domains)
    except LostReadingError:
        return why_not_rapl(root)
