"""Warming up until the latency settles.

Runs are grouped into blocks of at least `BLOCK_RUNS` runs and `BLOCK_SECONDS` seconds. The latency has settled when at
least `MIN_SECONDS` have passed and the medians of the last `BLOCKS` blocks differ by no more than `TOLERANCE` of the
smallest. Clocks that rise with load need about a second on Jetsons and desktops; if the latency does not settle,
warm-up ends after `MAX_SECONDS`, and that is reported.
"""

from __future__ import annotations

import statistics
from typing import Any, Callable, Dict, List, NamedTuple

BLOCK_RUNS = 5
BLOCK_SECONDS = 0.2
BLOCKS = 3
MIN_SECONDS = 1.0
MAX_SECONDS = 20.0
TOLERANCE = 0.03
RULE = (
    f"at least {MIN_SECONDS:g} s, then until the medians of {BLOCKS} successive blocks of at least {BLOCK_RUNS} runs "
    f"and {BLOCK_SECONDS:g} s lie within {100 * TOLERANCE:g} % of the smallest, at most {MAX_SECONDS:g} s"
)


class WarmUp(NamedTuple):
    """How the warm-up went.

    Attributes:
        runs: Number of runs.
        seconds: Duration.
        settled: Whether the latency had settled.
        medians: Median latency of each block in milliseconds.
    """

    runs: int
    seconds: float
    settled: bool
    medians: List[float]

    def to_dict(self) -> Dict[str, Any]:
        """For JSON."""
        return {**self._asdict(), "rule": RULE}


def warm_up(
    run: Callable[[], object],
    clock: Callable[[], float],
    min_seconds: float = MIN_SECONDS,
    max_seconds: float = MAX_SECONDS,
) -> WarmUp:
    """Repeats `run` until its latency has settled by the module's rule.

    Args:
        run: One run.
        clock: Seconds, monotonic.
        min_seconds: Overrides `MIN_SECONDS`.
        max_seconds: Overrides `MAX_SECONDS`.
    """
    begin = now = block_start = clock()
    block: List[float] = []
    medians: List[float] = []
    runs = 0
    while True:
        run()
        before, now = now, clock()
        block.append(now - before)
        runs += 1
        if len(block) >= BLOCK_RUNS and now - block_start >= min(BLOCK_SECONDS, max_seconds / 10):
            medians.append(statistics.median(block) * 1000)
            block, block_start = [], now
            if now - begin >= min_seconds and _settled(medians):
                return WarmUp(runs, now - begin, True, medians)
        if now - begin >= max_seconds:
            return WarmUp(runs, now - begin, False, medians)


def _settled(medians: List[float]) -> bool:
    latest = medians[-BLOCKS:]
    return len(latest) == BLOCKS and max(latest) - min(latest) <= TOLERANCE * min(latest)
