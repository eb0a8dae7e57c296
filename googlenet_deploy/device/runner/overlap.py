"""Runs batches so that decoding, copying, computing and what is done with the answers go on at the same time.

A GPU's runner has slots: a batch is begun in one while the answers of another are used. A CPU's runner computes in a
thread of its own, which holds no lock of Python's while it does.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Deque, Dict, Iterable, Iterator, List, Optional, Protocol, Tuple, runtime_checkable

from googlenet_deploy.device.runner.protocol import check_shape, run_any_batch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from googlenet_deploy.device.images.pipeline import Batch
    from googlenet_deploy.device.runner.protocol import Runner

AHEAD = 2


@runtime_checkable
class AsyncRunner(Protocol):
    """A runner that begins with a batch without waiting for it.

    Attributes:
        slots: How many batches may be under way at once.
    """

    @property
    def slots(self) -> int:
        """How many batches may be under way at once."""
        ...

    def submit(self, batch: NDArray[np.generic]) -> int:
        """Begins with a batch; gives a ticket."""
        ...

    def collect(self, ticket: int) -> Dict[str, NDArray[np.generic]]:
        """Waits for a batch; gives its outputs."""
        ...


def run_overlapped(
    runner: Runner, batches: Iterable[Optional[Batch]]
) -> Iterator[Tuple[Batch, Dict[str, NDArray[np.generic]]]]:
    """Every batch with its outputs by name, in order.

    Args:
        runner: The model.
        batches: Prepared batches; None where the next is not ready, upon which the answers that are under way are
            waited for and handed out instead of being held back until the next batch comes.

    Raises:
        UsageError: The images do not fit the model's input.
        Exception: What the batches raise, once the answers to those before have been handed out.
    """
    failures: List[Exception] = []
    given = _until_failure(batches, failures)
    if isinstance(runner, AsyncRunner):
        yield from _in_slots(runner, runner, given)
    else:
        yield from _in_a_thread(runner, given)
    if failures:
        raise failures[0]


def _until_failure(batches: Iterable[Optional[Batch]], failures: List[Exception]) -> Iterator[Optional[Batch]]:
    try:
        yield from batches
    except Exception as error:  # noqa: BLE001 - raised again by the caller
        failures.append(error)


def _in_slots(
    runner: Runner, slots: AsyncRunner, batches: Iterable[Optional[Batch]]
) -> Iterator[Tuple[Batch, Dict[str, NDArray[np.generic]]]]:
    running: Deque[Tuple[Batch, int]] = deque()
    smallest, largest = runner.batch_range
    for batch in batches:
        fits = batch is not None and smallest <= len(batch.array) and (largest is None or len(batch.array) <= largest)
        while running and (len(running) == slots.slots or not fits):
            earlier, ticket = running.popleft()
            yield earlier, slots.collect(ticket)
        if batch is None:
            continue
        check_shape(runner, batch.array)
        if fits:
            running.append((batch, slots.submit(batch.array)))
        else:
            yield batch, run_any_batch(runner, batch.array)
    while running:
        earlier, ticket = running.popleft()
        yield earlier, slots.collect(ticket)


def _in_a_thread(
    runner: Runner, batches: Iterable[Optional[Batch]]
) -> Iterator[Tuple[Batch, Dict[str, NDArray[np.generic]]]]:
    running: Deque[Tuple[Batch, Future[Dict[str, NDArray[np.generic]]]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="network") as pool:
        for batch in batches:
            if batch is not None:
                running.append((batch, pool.submit(run_any_batch, runner, batch.array)))
            while running and (batch is None or len(running) == AHEAD):
                earlier, future = running.popleft()
                yield earlier, future.result()
        while running:
            earlier, future = running.popleft()
            yield earlier, future.result()
