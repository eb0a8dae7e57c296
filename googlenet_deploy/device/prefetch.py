"""Work begun some items ahead of the one who wants its results, in order and in bounded memory.

Who does the work is the caller's: threads, processes, the slots of a GPU. Decoding, the network, training's samples and
its batches are all fed through here.
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
    """Each item with its result, in the order of the items.

    Args:
        items: What is worked on; None where the next one is not ready, upon which all results that are under way are
            handed out instead of being held back.
        begin: Begins with an item, without waiting.
        finish: Waits for what was begun.
        ahead: Most items that are under way at once, the next one being at hand by then; at least 1.
        cancel: Called with what was begun and is no longer wanted: the consumer has stopped, or something was raised.

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
    """It counts as running until it is finished, so that it is cancelled where that fails."""
    item, begun = running[0]
    result = finish(begun)
    running.popleft()
    return item, result


def cancel_future(future: Future[Result]) -> None:
    """Takes back what has not begun."""
    future.cancel()


def result_of(future: Future[Result]) -> Result:
    """Waits for a future."""
    return future.result()
