"""Workers that prepare samples ahead of the steps: threads, or forked processes when training on a GPU.

Pillow releases the interpreter's lock while it decodes and resizes, so on a CPU threads are as fast as processes. On a
GPU this process's own Python code, which launches every kernel, would compete with theirs; see `process_pool.py`.
"""

from __future__ import annotations

import itertools
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from googlenet_deploy.device.prefetch import cancel_future, in_order, result_of
from googlenet_deploy.device.system.processor import available_cores
from googlenet_deploy.errors import UsageError
from googlenet_deploy.training.data.process_pool import ForkedPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from googlenet_deploy.training.distributed import Processes
    from googlenet_deploy.training.options import TrainingOptions

Item = TypeVar("Item")
Made = TypeVar("Made")
Item_contra = TypeVar("Item_contra", contravariant=True)

MAX_WORKERS = 16
GROUPS_AHEAD = 3


@dataclass(frozen=True)
class Workers:
    """The workers that read, decode and crop images.

    Attributes:
        count: Number of workers.
        forked: Whether they are processes, rather than threads.
        pinned: Whether results are gathered in page-locked memory, from which a GPU copies while it computes.
    """

    count: int
    forked: bool = False
    pinned: bool = False

    @property
    def threads(self) -> Workers:
        """The same number of workers, as threads of this process."""
        return replace(self, forked=False)


def choose_workers(options: TrainingOptions, processes: Processes) -> Workers:
    """The workers requested by `--workers` and `--worker-type`.

    By default the cores are divided among the run's processes on this machine, with one worker per core and at most
    `MAX_WORKERS`; on a GPU the workers are processes.

    Raises:
        UsageError: Processes are requested, and this system cannot fork.
    """
    on_gpu, can_fork = processes.device.type == "cuda", sys.platform == "linux"
    if options.worker_type == "processes" and not can_fork:
        raise UsageError("--worker-type processes needs Linux, whose processes can fork", "use --worker-type threads")
    count = options.workers or max(1, min(MAX_WORKERS, available_cores() // processes.here))
    forked = on_gpu and can_fork if options.worker_type == "auto" else options.worker_type == "processes"
    return Workers(count, forked, pinned=on_gpu)


class Pool(Protocol[Item_contra, Made]):
    """Processes items ahead of their consumer."""

    def made(self, groups: Iterable[Sequence[Item_contra]]) -> Iterator[list[Made]]:
        """Processes each item, some groups ahead, and yields the groups in order.

        Arrays are valid until the next group is requested.

        Raises:
            GoogLeNetDeployError: A process has died; exceptions raised while processing an item are passed on as well.
        """
        ...

    def close(self) -> None:
        """Stops the workers; the next call of `made` starts new ones."""
        ...


class ThreadPool(Generic[Item, Made]):
    """A `Pool` of threads, which live as long as their results are consumed.

    Args:
        make: Called with each item.
        count: Number of threads.
    """

    def __init__(self, make: Callable[[Item], Made], count: int) -> None:
        self.make, self.count = make, count

    def made(self, groups: Iterable[Sequence[Item]]) -> Iterator[list[Made]]:
        """See `Pool`."""
        with ThreadPoolExecutor(self.count, thread_name_prefix="images") as executor:

            def begin(group: Sequence[Item]) -> list[Future[Made]]:
                return [executor.submit(self.make, item) for item in group]

            for _, made in in_order(groups, begin, _results, GROUPS_AHEAD + 1, _cancel):
                yield made

    def close(self) -> None:
        """Does nothing: no threads are left."""


def pool_of(make: Callable[[Item], Made], workers: Workers, group: int, item_bytes: int = 0) -> Pool[Item, Made]:
    """A pool of such workers.

    Args:
        make: Called with each item.
        workers: The workers that call it.
        group: Number of items in the largest group.
        item_bytes: Bytes of the arrays in an item's result; larger results use a slower channel between processes.
    """
    if workers.forked:
        return ForkedPool(make, workers.count, group, item_bytes)
    return ThreadPool(make, workers.count)


def made_once(
    groups: Iterable[Sequence[Item]], make: Callable[[Item], Made], workers: Workers, group: int, item_bytes: int = 0
) -> Iterator[list[Made]]:
    """Results of a pool that is used only once; see `pool_of` and `Pool.made`."""
    with closing(pool_of(make, workers, group, item_bytes)) as pool:
        yield from pool.made(groups)


def ahead(items: Iterator[Made]) -> Iterator[Made]:
    """The same items, each made in a background thread while the previous one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as executor:
        asked = in_order(itertools.repeat(0), lambda _: executor.submit(next, items, None), result_of, 2, cancel_future)
        for _, item in asked:
            if item is None:
                return
            yield item


def _results(futures: list[Future[Made]]) -> list[Made]:
    return [future.result() for future in futures]


def _cancel(futures: list[Future[Made]]) -> None:
    for future in futures:
        future.cancel()
