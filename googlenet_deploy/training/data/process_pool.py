"""Samples made by forked processes and passed in shared memory, so that no one waits for an interpreter's lock.

A forked process shares this one's memory, decoded images included, without a copy. Arrays come back through an
anonymous shared mapping, whose size no container limits as it does /dev/shm's; everything else through a pipe.
"""

from __future__ import annotations

import gc
import itertools
import mmap
import multiprocessing
import os
import pickle
import threading
import warnings
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from googlenet_deploy.device.prefetch import in_order
from googlenet_deploy.device.signals import blocked_signals, ignore_signals
from googlenet_deploy.errors import GoogLeNetDeployError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Running = list[tuple[Future["Handed"], int]]  # the chunks of a group, and where their arrays will be

Item = TypeVar("Item")
Made = TypeVar("Made")

CHUNK = 8  # items per message: each costs this process a fraction of a millisecond
CHUNKS_PER_WORKER = 2  # one in progress, one waiting
ALIGNMENT = 64
SPARE = 1024  # bytes per item for small arrays besides the large one


class Handed(NamedTuple):
    """The result that a process passes on.

    Attributes:
        data: The pickled objects, without their arrays.
        lengths: Bytes of each array in shared memory; the arrays follow each other, aligned.
    """

    data: bytes
    lengths: tuple[int, ...]


class ForkedPool(Generic[Item, Made]):
    """Worker processes. They are forked when first needed, and live until `close`.

    Args:
        make: Called with each item, in its state at the time of the fork. Items and results are pickled.
        count: Number of processes.
        group: Number of items in the largest group.
        item_bytes: Bytes of the arrays in an item's result; larger results come through the pipe.
    """

    def __init__(self, make: Callable[[Item], Made], count: int, group: int, item_bytes: int) -> None:
        self.make, self.count = make, count
        self.chunks = -(-group // CHUNK)
        self.groups_ahead = -(-CHUNKS_PER_WORKER * count // self.chunks)
        self.room = CHUNK * (_aligned(item_bytes) + SPARE)
        self._memory: mmap.mmap | None = None
        self._pool: ProcessPoolExecutor | None = None
        self._children: list[multiprocessing.process.BaseProcess] = []

    def made(self, groups: Iterable[Sequence[Item]]) -> Iterator[list[Made]]:
        """Processes each item, some groups ahead, and yields the groups in order.

        Arrays are valid until the next group is requested: then their memory is reused.

        Raises:
            GoogLeNetDeployError: A process has died; exceptions of `make` are passed on as well.
        """
        places = itertools.cycle(range(self.groups_ahead + 1))

        def begin(group: Sequence[Item]) -> Running:
            return self._submit(group, next(places) * self.chunks * self.room)

        try:
            for _, made in in_order(groups, begin, self._result, self.groups_ahead + 1, _end):
                yield made
        except BrokenProcessPool as error:
            for child in self._children:
                child.kill()  # they ignore the executor's own SIGTERM
            self.close()
            raise GoogLeNetDeployError(
                "a process that reads images has died",
                "if memory was short, use fewer --workers or a smaller --cache; continue with --resume",
            ) from error

    def close(self) -> None:
        """Stops the processes; the next call of `made` forks new ones."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool = self._memory = None

    def _submit(self, group: Sequence[Item], start: int) -> Running:
        pool = self._pool or self._fork()
        parts = (group[first : first + CHUNK] for first in range(0, len(group), CHUNK))
        places = itertools.count(start, self.room)
        return [(pool.submit(_work, part, place, self.room), place) for part, place in zip(parts, places, strict=False)]

    def _result(self, running: Running) -> list[Made]:
        assert self._memory is not None
        memory, made = memoryview(self._memory), []
        for future, place in running:
            data, lengths = future.result()
            ends = itertools.accumulate(map(_aligned, lengths), initial=place)
            views = [memory[start : start + length] for start, length in zip(ends, lengths, strict=False)]
            made.extend(pickle.loads(data, buffers=views))  # noqa: S301 - this process forked the one that pickled
        return made

    def _fork(self) -> ProcessPoolExecutor:
        before = set(multiprocessing.active_children())
        self._memory = mmap.mmap(-1, (self.groups_ahead + 1) * self.chunks * self.room)
        context = multiprocessing.get_context("fork")
        self._pool = ProcessPoolExecutor(self.count, context, _begin, (self.make, self._memory))
        # A signal that arrives before a process ignores it would kill it; processes inherit the signals blocked here.
        with blocked_signals(), warnings.catch_warnings():
            # Python 3.12 warns about locks held by other threads; `make` takes only its own.
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork")
            self._pool.submit(os.getpid)  # the first task forks all of them
        self._children = list(set(multiprocessing.active_children()) - before)
        return self._pool


def _end(running: Running) -> None:
    """Cancels pending tasks and waits for running ones, which still use the shared memory."""
    wait([future for future, _ in running if not future.cancel()])


# The code below runs in the forked processes.

_task: tuple[Callable[[Any], Any], mmap.mmap] | None = None


def _begin(make: Callable[[Any], Any], memory: mmap.mmap) -> None:
    global _task  # noqa: PLW0603 - a process of a pool has no other place that its tasks could reach
    _task = make, memory
    ignore_signals()  # when asked to stop, the run finishes its step and needs samples for that
    gc.freeze()  # garbage-collecting objects from before the fork would copy their memory
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(items: Sequence[Any], place: int, room: int) -> Handed:
    assert _task is not None
    make, memory = _task
    made = [make(item) for item in items]
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(made, 5, buffer_callback=buffers.append)
    arrays = [buffer.raw() for buffer in buffers]
    if sum(_aligned(len(array)) for array in arrays) > room:
        return Handed(pickle.dumps(made, 5), ())
    for array in arrays:
        memory[place : place + len(array)] = array
        place += _aligned(len(array))
    return Handed(data, tuple(len(array) for array in arrays))


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT
