"""Several batches in progress at once: how throughput grows with concurrency, and its cost in latency."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Callable, Deque, List, Tuple

from googlenet_deploy.device.benchmark.loops import RUN, Batches, Clock, Length, Round
from googlenet_deploy.device.runner.overlap import AsyncRunner

if TYPE_CHECKING:
    from googlenet_deploy.device.runner.protocol import Runner

OpenRunner = Callable[[int], "Runner"]


class SlotStreams:
    """A runner with slots (TensorRT: one execution context and CUDA stream each); a context manager.

    Args:
        open_runner: Opens a runner with `count` slots.
        count: Number of batches in progress at once.
    """

    def __init__(self, open_runner: OpenRunner, count: int) -> None:
        self.count = count
        self._runner = open_runner(count)

    def __enter__(self) -> SlotStreams:
        """Opens the runner."""
        self._runner.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self._runner.__exit__(None, None, None)

    def round(self, batches: Batches, length: Length, clock: Clock) -> Round:
        """Keeps the slots busy for a round; the latency of a batch is from its start to its answers."""
        runner = self._runner
        assert isinstance(runner, AsyncRunner)
        measured = Round(clock())
        now, begun = measured.start, 0
        running: Deque[Tuple[float, int]] = deque()
        while running or not length.reached(now - measured.start, measured.runs):
            while len(running) < self.count and not length.reached(now - measured.start, begun):
                running.append((clock(), runner.submit(batches[begun % len(batches)][1])))
                begun += 1
            start, ticket = running.popleft()
            runner.collect(ticket)
            now = clock()
            measured.add(RUN, now - start)
            measured.runs += 1
        measured.end = now
        return measured


class ThreadStreams:
    """One thread with its own runner per stream, since a runner belongs to the thread that created it.

    Args:
        open_runner: Opens a runner.
        count: Number of threads.
    """

    def __init__(self, open_runner: OpenRunner, count: int) -> None:
        self.count = count
        self._open = open_runner
        self._threads: List[ThreadPoolExecutor] = []
        self._runners: List[Runner] = []
        self._stack = ExitStack()

    def __enter__(self) -> ThreadStreams:
        """Opens a runner in each thread."""
        try:
            for index in range(self.count):
                thread = self._stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix=f"stream {index}"))
                runner = thread.submit(self._open, 1).result()
                thread.submit(runner.__enter__).result()
                self._stack.callback(partial(thread.submit, runner.__exit__, None, None, None))
                self._threads.append(thread)
                self._runners.append(runner)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Closes every runner in its own thread."""
        self._stack.close()

    def round(self, batches: Batches, length: Length, clock: Clock) -> Round:
        """Every thread runs batches one after another; all threads start together."""
        gate = threading.Barrier(self.count)
        share = Length(length.seconds, -(-length.runs // self.count))
        futures = [
            thread.submit(_stream_round, runner, batches, share, clock, gate)
            for thread, runner in zip(self._threads, self._runners)
        ]
        return _merge([future.result() for future in futures])


def _stream_round(runner: Runner, batches: Batches, length: Length, clock: Clock, gate: threading.Barrier) -> Round:
    gate.wait()
    measured = Round(clock())
    now = measured.start
    while not length.reached(now - measured.start, measured.runs):
        runner.run(batches[measured.runs % len(batches)][1])
        before, now = now, clock()
        measured.add(RUN, now - before)
        measured.runs += 1
    measured.end = now
    return measured


def _merge(rounds: List[Round]) -> Round:
    together = Round(min(part.start for part in rounds), max(part.end for part in rounds))
    for part in rounds:
        together.runs += part.runs
        for seconds in part.seconds.get(RUN, []):
            together.add(RUN, seconds)
    return together
