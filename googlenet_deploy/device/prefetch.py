"""Starts work some items ahead of the consumer, in order and in bounded memory.

The caller decides what does the work: threads, processes or the slots of a GPU. Decoding, the network, training samples
and training batches all use this module.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import Callable, Deque, Iterable, Iterator, Optional, Tuple, TypeVar

Item = TypeVar("Item")
Begun = TypeVar("Begun")
Result = TypeVar("Result")


def in_order(
    items: Iterable[Optional[Item]],
    begin: Callable[[Item], Begun],
    finish: Callable[[Begun], Result],
    ahead: int,
    cancel: Callable[[Begun], object] = lambda _begun: None,
) -> Iterator[Tuple[Item, Result]]:
    """Yields each item with its result, in the order of the items.

    Args:
        items: The items; None means that the next one is not ready, whereupon all pending results are
            yielded instead of being held back.
        begin: Starts work on an item, without waiting.
        finish: Waits for the work.
        ahead: Most items in progress at once, with the next item already available; at least 1.
        cancel: Called with work that is no longer needed: the consumer has stopped, or an exception was raised.

    Raises:
        Exception: Whatever `items`, `begin` and `finish` raise.
    """
    running: Deque[Tuple[Item, Begun]] = deque()
    try:
        for item in items:
            while running and (item is None or len(running) >= ahead):
                yield _first(running, finish)
            if item is not None:
                running.append((item, begin(item)))
        while running:
            yield _first(running, finish)
    finally:
        for _, begun in running:
            cancel(begun)


def _first(running: Deque[Tuple[Item, Begun]], finish: Callable[[Begun], Result]) -> Tuple[Item, Result]:
    """The work counts as running until it is finished, so that it is cancelled if finishing fails."""
    item, begun = running[0]
    result = finish(begun)
    running.popleft()
    return item, result


def cancel_future(future: Future[Result]) -> None:
    """Cancels work that has not started."""
    future.cancel()


def result_of(future: Future[Result]) -> Result:
    """Waits for a future."""
    return future.result()
