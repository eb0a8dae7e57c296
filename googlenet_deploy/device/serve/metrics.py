"""Counters and their text form for Prometheus.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, version 0.0.4). Quantiles and rates cover
the last `WINDOW_SECONDS`, counters the whole run; an unknown figure is left out, with a comment that gives the reason.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Callable, Deque, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "googlenet_deploy_"
WINDOW_SECONDS = 60.0
MOST_SAMPLES = 8192  # of the window
QUANTILES = (0.5, 0.9, 0.95, 0.99)

Sample = Tuple[Mapping[str, str], float]


class Window:
    """Values of the last minute, at most `MOST_SAMPLES` of them.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._values: Deque[Tuple[float, float]] = deque(maxlen=MOST_SAMPLES)

    def add(self, value: float) -> None:
        """Adds a value with the current time."""
        self._values.append((self._clock(), value))

    def values(self) -> List[float]:
        """The values, oldest first."""
        self._forget()
        return [value for _, value in self._values]

    def rate(self) -> float:
        """Sum of the values per second of the window, or of the time since the start if that is shorter."""
        values, now = self.values(), self._clock()
        full = len(values) == MOST_SAMPLES  # and covers less than a minute
        seconds = now - self._values[0][0] if full else min(WINDOW_SECONDS, now - self._began)
        return sum(values) / seconds if seconds > 0 else 0.0

    def _forget(self) -> None:
        oldest = self._clock() - WINDOW_SECONDS
        while self._values and self._values[0][0] < oldest:
            self._values.popleft()


class Metrics:
    """The counters of a server; may be used by several threads.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._answers: Dict[Tuple[str, int], int] = {}
        self._images: Dict[str, int] = {"http": 0, "stream": 0}
        self._low_confidence = 0
        self._rate, self._low = Window(clock), Window(clock)
        self._times = {"latency": Window(clock), "network": Window(clock)}
        self._totals: Dict[str, Tuple[int, float]] = {"latency": (0, 0.0), "network": (0, 0.0)}

    @property
    def images(self) -> int:
        """Images classified so far."""
        return sum(self._images.values())

    def count_answer(self, path: str, status: int) -> None:
        """Counts an answer of the server."""
        with self._lock:
            self._answers[path, status] = self._answers.get((path, status), 0) + 1

    def count_image(self, source: str, seconds: float, *, low_confidence: bool) -> None:
        """Counts a classified image.

        Args:
            source: "http" or "stream".
            seconds: From its arrival to its answer.
            low_confidence: Whether its best class is not probable enough.
        """
        with self._lock:
            self._images[source] += 1
            self._low_confidence += low_confidence
            self._rate.add(1.0)
            self._low.add(float(low_confidence))
            self._time("latency", seconds)

    def count_batch(self, images: int, seconds: float) -> None:
        """Counts a run of the network."""
        del images
        with self._lock:
            self._time("network", seconds)

    def snapshot(self) -> Dict[str, Optional[float]]:
        """Figures for the live page: images/s, and the median and 95th percentile of latency in ms."""
        with self._lock:
            seconds = sorted(self._times["latency"].values())
            rate = self._rate.rate()
        found = {f"p{100 * share:g}": 1000 * quantile(seconds, share) for share in QUANTILES} if seconds else {}
        return {"images_per_second": rate, "p50_ms": found.get("p50"), "p95_ms": found.get("p95")}

    def lines(self) -> List[str]:
        """The text form of everything counted here."""
        with self._lock:
            low, images = self._low.values(), dict(self._images)
            answers, rate = dict(self._answers), self._rate.rate()
            times = {name: sorted(window.values()) for name, window in self._times.items()}
            totals, low_total = dict(self._totals), self._low_confidence
        found = [
            *metric("images_total", "counter", "Classified images.", [({"source": k}, v) for k, v in images.items()]),
            *metric("images_per_second", "gauge", "Classified images per second, last minute.", [({}, rate)]),
            *metric(
                "low_confidence_images_total", "counter", "Images whose best class is improbable.", [({}, low_total)]
            ),
        ]
        if low:
            share = sum(low) / len(low)
            found += metric("low_confidence_share", "gauge", "Share of such images, last minute.", [({}, share)])
        texts = {
            "latency": "Seconds from an image's arrival to its answer.",
            "network": "Seconds of a run of the network (one batch).",
        }
        for name, values in times.items():
            found += summary(f"{name}_seconds", texts[name], values, totals[name])
        labels = [({"path": path, "status": str(status)}, count) for (path, status), count in sorted(answers.items())]
        found += metric("http_responses_total", "counter", "Answers of the server.", labels)
        return found + process_lines()

    def _time(self, name: str, seconds: float) -> None:
        self._times[name].add(seconds)
        count, total = self._totals[name]
        self._totals[name] = (count + 1, total + seconds)


def metric(name: str, kind: str, text: str, samples: Iterable[Sample]) -> List[str]:
    """The lines of one metric; none where it has no samples.

    Args:
        name: Without the prefix.
        kind: "counter" or "gauge".
        text: What it is.
        samples: Labels and value of each.
    """
    found = [f"{PREFIX}{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return [f"# HELP {PREFIX}{name} {text}", f"# TYPE {PREFIX}{name} {kind}", *found] if found else []


def summary(name: str, text: str, values: Sequence[float], total: Tuple[int, float]) -> List[str]:
    """The lines of a summary.

    Args:
        name: Without the prefix.
        text: What it is.
        values: Of the window, ascending.
        total: Count and sum since the start.
    """
    lines = [f"# HELP {PREFIX}{name} {text}", f"# TYPE {PREFIX}{name} summary"]
    if values:
        lines += [f'{PREFIX}{name}{{quantile="{share:g}"}} {_number(quantile(values, share))}' for share in QUANTILES]
    return [*lines, f"{PREFIX}{name}_sum {_number(total[1])}", f"{PREFIX}{name}_count {total[0]}"]


def quantile(values: Sequence[float], share: float) -> float:
    """A quantile of ascending values, interpolated linearly between neighbours, as NumPy's default."""
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def comment(text: str) -> str:
    """A line that Prometheus ignores."""
    return "# " + " ".join(text.split())


def process_lines() -> List[str]:
    """Resident memory of this process, under the name that Prometheus' own clients use."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return []
    name = "process_resident_memory_bytes"
    return [
        f"# HELP {name} Resident memory in bytes.",
        f"# TYPE {name} gauge",
        f"{name} {pages * os.sysconf('SC_PAGE_SIZE')}",
    ]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return repr(float(value)) if value % 1 else str(int(value))
