"""From frames to answers: everything between the source and the outputs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Iterable, List, Optional, Protocol, Sequence

from googlenet_deploy.device.predictions import check_names, predict
from googlenet_deploy.device.runner.overlap import run_overlapped
from googlenet_deploy.device.stream.answers import Answer, answers_of

if TYPE_CHECKING:
    from googlenet_deploy.device.images.pipeline import Batch, Skipped
    from googlenet_deploy.device.runner.protocol import Runner

SHOWN = 10


class Sink(Protocol):
    """A destination for answers."""

    def write(self, answers: Sequence[Answer]) -> None:
        """Writes the answers of a batch."""
        ...


@dataclass
class Tally:
    """Counts of what happened to the frames.

    Attributes:
        answered: Frames with an answer.
        skipped: Frames that could not be used.
        first_skipped: The first of the skipped frames, for messages.
        seconds: Time from reading the first frame to the last answer.
    """

    answered: int = 0
    skipped: int = 0
    first_skipped: List[Skipped] = field(default_factory=list)
    seconds: float = 0.0

    def skip(self, item: Skipped) -> None:
        """Counts a frame that could not be used; the list is kept short."""
        self.skipped += 1
        if len(self.first_skipped) < SHOWN:
            self.first_skipped.append(item)


def classify(
    runner: Runner,
    batches: Iterable[Optional[Batch]],
    names: Sequence[str],
    top_k: int,
    tally: Tally,
    on_answers: Callable[[Batch, List[Answer]], None],
) -> None:
    """Classifies every batch and passes the answers on as they arrive; the tally is correct even if this fails.

    Args:
        runner: The model.
        batches: See `run_overlapped`.
        names: Class names; empty if there are none.
        top_k: Classes per image.
        tally: Counts.
        on_answers: Called with each batch and its answers.

    Raises:
        BadModelError: The model's outputs are not those of a classifier, or do not fit the names.
    """
    start = time.perf_counter()
    try:
        for batch, outputs in run_overlapped(runner, batches):
            if not tally.answered:
                check_names(outputs, names, runner.path)
            answers = answers_of(batch.names, predict(outputs, top_k, runner.path), names)
            on_answers(batch, answers)
            tally.answered += len(answers)
            tally.seconds = time.perf_counter() - start
    finally:
        tally.seconds = time.perf_counter() - start
