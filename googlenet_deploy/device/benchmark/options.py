"""What is measured, and how long."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Tuple

from googlenet_deploy.errors import UsageError

MAX_BATCH = 4096
MAX_STREAMS = 64
MAX_ROUNDS = 100
MAX_SECONDS = 3600.0
MAX_IMAGES = 10_000


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of a benchmark.

    Attributes:
        batches: Batch sizes; empty takes the model's own where it is fixed, else 1.
        streams: How many batches are worked on at once.
        rounds: Repetitions of every measurement, for its interval.
        seconds: Least length of one round.
        min_runs: Least runs in one round.
        warm_up_seconds: Longest warm-up.
        idle_seconds: Least time over which the idle power is measured.
        image_count: At most so many images are used.
        seed: Of the synthetic images.
        threads: CPU threads; None takes one per core, divided among concurrent streams.
        power: Power meter; see `power.select.METERS`.
        power_rails: Rails that make the total; empty takes the module's.
        trtexec: Whether to run trtexec beside, where it exists and the model is a TensorRT engine.

    Raises:
        UsageError: A value is out of range.
    """

    batches: Tuple[int, ...] = ()
    streams: Tuple[int, ...] = (1,)
    rounds: int = 5
    seconds: float = 2.0
    min_runs: int = 10
    warm_up_seconds: float = 20.0
    idle_seconds: float = 3.0
    image_count: int = 32
    seed: int = 0
    threads: Optional[int] = None
    power: str = "auto"
    power_rails: Tuple[str, ...] = ()
    trtexec: bool = True

    def __post_init__(self) -> None:
        for name, values, largest in (("--batch", self.batches, MAX_BATCH), ("--streams", self.streams, MAX_STREAMS)):
            if len(set(values)) != len(values):
                raise UsageError(f"{name}: names {', '.join(map(str, values))}: a size stands there twice")
            for value in values:
                _check(name, value, 1, largest)
        if not self.streams:
            raise UsageError("--streams: names no number")
        _check("--rounds", self.rounds, 1, MAX_ROUNDS)
        _check("--min-runs", self.min_runs, 1, 10**7)
        _check("--image-count", self.image_count, 1, MAX_IMAGES)
        _check("--seconds", self.seconds, 0.0, MAX_SECONDS)
        _check("--warm-up", self.warm_up_seconds, 0.0, MAX_SECONDS)
        _check("--idle", self.idle_seconds, 0.0, MAX_SECONDS)


def _check(name: str, value: float, lowest: float, highest: float) -> None:
    if not (math.isfinite(value) and lowest <= value <= highest):
        raise UsageError(f"{name}: {value:g} is not from {lowest:g} to {highest:g}")
