"""The timed loops. Each runs for a round and returns the seconds of every scope of every run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Sequence, Tuple

from googlenet_deploy.device.images.pipeline import prepare, stacked
from googlenet_deploy.device.predictions import predict
from googlenet_deploy.device.runner.protocol import run_timed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.specification import Preprocessing

PREPROCESS, COPY_IN, COMPUTE, COPY_OUT = "preprocess", "copy_in", "compute", "copy_out"
RUN, POSTPROCESS, END_TO_END = "run", "postprocess", "end_to_end"
SCOPES = (PREPROCESS, COPY_IN, COMPUTE, COPY_OUT, RUN, POSTPROCESS, END_TO_END)

Clock = Callable[[], float]
Batches = Sequence[Tuple[Tuple["ImageSource", ...], "NDArray[np.generic]"]]


@dataclass
class Round:
    """One round.

    Attributes:
        start: Start of its first run.
        end: End of its last run.
        runs: Number of batches run.
        seconds: Seconds of every run, by scope.
    """

    start: float
    end: float = 0.0
    runs: int = 0
    seconds: Dict[str, List[float]] = field(default_factory=dict)

    def add(self, scope: str, seconds: Optional[float]) -> None:
        """Records the time of one run; None if the backend does not have the scope."""
        if seconds is not None:
            self.seconds.setdefault(scope, []).append(seconds)


@dataclass(frozen=True)
class Length:
    """The length of a round: a minimum number of seconds and a minimum number of runs."""

    seconds: float
    runs: int

    def reached(self, elapsed: float, runs: int) -> bool:
        """Whether the round may end."""
        return elapsed >= self.seconds and runs >= self.runs


def run_round(runner: Runner, batches: Batches, length: Length, clock: Clock) -> Round:
    """Runs prepared batches one after another: the scopes copy in, compute, copy out, and the whole run."""
    measured = Round(clock())
    now = measured.start
    while not length.reached(now - measured.start, measured.runs):
        _, times = run_timed(runner, batches[measured.runs % len(batches)][1], clock)
        before, now = now, clock()
        measured.add(COPY_IN, times.copy_in)
        measured.add(COMPUTE, times.compute)
        measured.add(COPY_OUT, times.copy_out)
        measured.add(RUN, now - before)
        measured.runs += 1
    measured.end = now
    return measured


def end_to_end_round(
    runner: Runner, batches: Batches, spec: Preprocessing, backend: str, length: Length, clock: Clock
) -> Round:
    """From encoded images or raw frames in memory to classes, one step after another in one thread."""
    measured = Round(clock())
    now = measured.start
    while not length.reached(now - measured.start, measured.runs):
        start = now
        images = batches[measured.runs % len(batches)][0]
        array = stacked([prepare(image, spec, backend) for image in images])
        prepared = clock()
        outputs = runner.run(array)
        answered = clock()
        predict(outputs, 5, runner.path)
        now = clock()
        measured.add(PREPROCESS, prepared - start)
        measured.add(POSTPROCESS, now - answered)
        measured.add(END_TO_END, now - start)
        measured.runs += 1
    measured.end = now
    return measured
