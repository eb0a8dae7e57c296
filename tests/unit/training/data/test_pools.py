"""Threads and forked processes make the same, in order; what happens when one of them fails."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from googlenet_deploy.device.system import processor
from googlenet_deploy.errors import BadImageError, GoogLeNetDeployError, UsageError
from googlenet_deploy.training.data import pools as module
from googlenet_deploy.training.data.pools import MAX_WORKERS, Workers, ahead, choose_workers, made_once, pool_of
from googlenet_deploy.training.data.process_pool import CHUNK, ForkedPool
from googlenet_deploy.training.distributed import Processes
from googlenet_deploy.training.options import TrainingOptions

CPU, GPU = (Processes(0, 1, torch.device(name)) for name in ("cpu", "cuda"))


class Thing(NamedTuple):
    number: int
    pixels: NDArray[np.uint8]
    more: NDArray[np.float32]


def make(number: int) -> Thing:
    return Thing(number, np.full((9, 7, 3), number % 256, np.uint8), np.array([number, 0.5], np.float32))


def check(made: list[Thing], numbers: list[int]) -> None:
    assert [thing.number for thing in made] == numbers
    for thing in made:
        assert thing.pixels.shape == (9, 7, 3)
        assert set(thing.pixels.ravel().tolist()) == {thing.number % 256}
        assert thing.more.tolist() == [thing.number, 0.5]


def groups(count: int, size: int) -> Iterator[list[int]]:
    """The last one is smaller."""
    for number in range(count):
        yield list(range(number * size, number * size + size - (number == count - 1)))


Children = Callable[[], set[BaseProcess]]


@pytest.fixture
def children() -> Iterator[Children]:
    """Processes that the test has forked and that live; in the end there must be none."""
    before = set(multiprocessing.active_children())

    def present() -> set[BaseProcess]:
        return set(multiprocessing.active_children()) - before

    yield present
    assert present() == set()


@pytest.mark.usefixtures("children")
@pytest.mark.parametrize("workers", [Workers(1), Workers(3), Workers(1, forked=True), Workers(3, forked=True)])
@pytest.mark.parametrize(("count", "size"), [(0, 4), (1, 5), (40, 3), (5, 2 * CHUNK + 3)])
@pytest.mark.parametrize("item_bytes", [9 * 7 * 3, 0])
def test_groups_come_in_order_and_whole(workers: Workers, count: int, size: int, item_bytes: int) -> None:
    with closing(pool_of(make, workers, size, item_bytes)) as pool:
        for _ in range(2):
            seen = 0
            for made, numbers in zip(pool.made(groups(count, size)), groups(count, size), strict=True):
                check(made, numbers)
                seen += len(made)
            assert seen == max(0, count * size - 1)


def large(number: int) -> Thing:
    return make(number)._replace(pixels=np.full(100_000, number % 256, np.uint8))


@pytest.mark.usefixtures("children")
def test_arrays_larger_than_their_room_come_another_way() -> None:
    made_of = made_once(groups(6, 10), large, Workers(2, forked=True), 10, 64)
    for made, numbers in zip(made_of, groups(6, 10), strict=True):
        assert [thing.pixels.size for thing in made] == [100_000] * len(numbers)
        assert [int(thing.pixels.max()) for thing in made] == numbers


@pytest.mark.usefixtures("children")
@pytest.mark.parametrize("workers", [Workers(2), Workers(2, forked=True)])
def test_an_error_is_the_callers(workers: Workers) -> None:
    def fails(number: int) -> int:
        if number == 13:
            raise BadImageError(Path("a/b.jpg"), "is damaged", "take another")
        return number

    with closing(pool_of(fails, workers, 5)) as pool:
        made = pool.made(groups(6, 5))
        assert next(made) == list(range(5))
        with pytest.raises(BadImageError) as caught:
            list(made)
        assert next(pool.made(groups(6, 5))) == list(range(5))
    assert (caught.value.path, caught.value.problem, caught.value.remedy) == ("a/b.jpg", "is damaged", "take another")


def test_whoever_stops_early_leaves_no_process_behind(children: Children) -> None:
    with closing(made_once(groups(1000, 5), make, Workers(2, forked=True), 5)) as made:
        next(made)
        assert len(children()) == 2


def test_processes_live_on_and_serve_whoever_comes_next(children: Children) -> None:
    pool = ForkedPool(make, 2, 5, 64)
    assert children() == set()
    with closing(pool):
        check(next(pool.made(groups(1000, 5))), [0, 1, 2, 3, 4])  # stops early
        first = children()
        assert len(first) == 2
        assert [len(made) for made in pool.made(groups(4, 5))] == [5, 5, 5, 4]
        assert children() == first
    assert children() == set()
    with closing(pool):
        check(next(pool.made(groups(1000, 5))), [0, 1, 2, 3, 4])


def test_a_process_that_dies_is_an_error_in_words(children: Children) -> None:
    with closing(pool_of(make, Workers(2, forked=True), 5)) as pool:
        made = pool.made(groups(1000, 5))
        next(made)
        children().pop().kill()
        with pytest.raises(GoogLeNetDeployError, match="a process that reads images has died") as caught:
            list(made)
        assert "--resume" in str(caught.value.remedy)
        assert children() == set()
        assert len(next(pool.made(groups(2, 5)))) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_does_not_end_those_that_read(number: signal.Signals, children: Children) -> None:
    made = made_once(groups(200, 5), make, Workers(2, forked=True), 5)
    first = next(made)
    for child in children():
        assert child.pid is not None
        os.kill(child.pid, number)
    assert [len(first), *map(len, made)] == [5] * 199 + [4]


ORPHANS = """
import multiprocessing, os, signal
from googlenet_deploy.training.data.process_pool import ForkedPool

made = ForkedPool(str, 3, 1, 0).made([n] for n in range(1000))
next(made)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_end_with_the_one_that_they_read_for() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHANS], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    numbers = [int(word) for word in done.stdout.split()]
    assert len(numbers) == 3
    deadline = time.monotonic() + 20
    while any(alive(number) for number in numbers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # in a container nobody may collect what has ended


def test_processes_read_beside_a_gpu_and_threads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_cores", lambda: 6)
    assert choose_workers(TrainingOptions(), CPU) == Workers(6)
    assert choose_workers(TrainingOptions(), GPU) == Workers(6, forked=True, pinned=True)
    assert choose_workers(TrainingOptions(worker_type="threads", workers=2), GPU) == Workers(2, pinned=True)
    assert choose_workers(TrainingOptions(worker_type="processes"), CPU) == Workers(6, forked=True)
    monkeypatch.setattr(module, "available_cores", lambda: 100)
    assert choose_workers(TrainingOptions(), CPU).count == MAX_WORKERS


def test_the_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_cores", lambda: 16)
    four = Processes(1, 8, torch.device("cuda"), here=4)
    assert choose_workers(TrainingOptions(), four).count == 4
    assert choose_workers(TrainingOptions(workers=9), four).count == 9
    assert choose_workers(TrainingOptions(), replace(four, here=99)).count == 1


def test_systems_that_cannot_fork_read_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not choose_workers(TrainingOptions(), GPU).forked
    with pytest.raises(UsageError, match="needs Linux"):
        choose_workers(TrainingOptions(worker_type="processes"), CPU)


def test_available_cores_is_what_workers_count() -> None:
    assert choose_workers(TrainingOptions(), CPU).count == min(MAX_WORKERS, processor.available_cores())


def test_what_is_made_ahead_is_the_same_and_one_ahead() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    together = ahead(items())
    assert next(together) == 0
    deadline = time.monotonic() + 10
    while len(made) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert made == [0, 1]
    assert list(together) == [1, 2, 3, 4]
    assert list(ahead(iter([]))) == []


def test_an_error_ahead_comes_in_its_place_and_no_thread_stays() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise UsageError("no more")

    together = ahead(items())
    assert next(together) == 1
    with pytest.raises(UsageError, match="no more"):
        next(together)
    with closing(ahead(iter(range(10**6)))) as many:
        next(many)
        assert [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
