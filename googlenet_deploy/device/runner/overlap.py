"""Runs batches so that decoding, copying, computing and processing of the answers overlap.

A GPU runner has slots: a batch starts in one slot while the answers of another are processed. A CPU runner computes in
its own thread, which does not hold Python's GIL meanwhile.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, Optional, Protocol, Tuple, Union, runtime_checkable

from googlenet_deploy.device.prefetch import cancel_future, in_order, result_of
from googlenet_deploy.device.runner.protocol import by_image, check_shape, run_any_batch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from googlenet_deploy.device.images.pipeline import Batch
    from googlenet_deploy.device.runner.protocol import Runner

AHEAD = 2


@runtime_checkable
class AsyncRunner(Protocol):
    """A runner that can start a batch without waiting for its result.

    Attributes:
        slots: How many batches may be in progress at once.
    """

    @property
    def slots(self) -> int:
        """How many batches may be in progress at once."""
        ...

    def submit(self, batch: NDArray[np.generic]) -> int:
        """Starts a batch; returns a ticket."""
        ...

    def collect(self, ticket: int) -> Dict[str, NDArray[np.generic]]:
        """Waits for a batch; returns its outputs."""
        ...


def run_overlapped(
    runner: Runner, batches: Iterable[Optional[Batch]]
) -> Iterator[Tuple[Batch, Dict[str, NDArray[np.generic]]]]:
    """Yields every batch with its outputs by name, in order.

    Args:
        runner: The model.
        batches: Prepared batches; None means that the next batch is not ready yet: the pending answers are then
            waited for and yielded at once, instead of being held back until the next batch arrives.

    Raises:
        UsageError: The images do not fit the model's input.
        BadModelError: No output has one row per image.
        Exception: Whatever the iterator of batches raises, after the answers to earlier batches have been yielded.
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
    """A batch that does not fit the slots is computed alone, while no other batch is in progress."""
    smallest, largest = runner.batch_range

    def fits(batch: Batch) -> bool:
        return smallest <= len(batch.array) and (largest is None or len(batch.array) <= largest)

    def with_pauses() -> Iterator[Optional[Batch]]:
        for batch in batches:
            alone = batch is not None and not fits(batch)
            yield from (None, batch, None) if alone else (batch,)

    def begin(batch: Batch) -> Union[int, Dict[str, NDArray[np.generic]]]:
        check_shape(runner, batch.array)
        return slots.submit(batch.array) if fits(batch) else run_any_batch(runner, batch.array)

    def finish(begun: Union[int, Dict[str, NDArray[np.generic]]]) -> Dict[str, NDArray[np.generic]]:
        return slots.collect(begun) if isinstance(begun, int) else begun

    for batch, outputs in in_order(with_pauses(), begin, finish, slots.slots):
        yield batch, by_image(runner, outputs, len(batch.array))


def _in_a_thread(
    runner: Runner, batches: Iterable[Optional[Batch]]
) -> Iterator[Tuple[Batch, Dict[str, NDArray[np.generic]]]]:
    with ThreadPoolExecutor(1, thread_name_prefix="network") as pool:
        yield from in_order(
            batches, lambda batch: pool.submit(run_any_batch, runner, batch.array), result_of, AHEAD, cancel_future
        )
