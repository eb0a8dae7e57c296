"""Combines the images of several connections into batches, and runs these one after another in one thread."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Tuple

import numpy as np

from googlenet_deploy.device.runner.protocol import run_any_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.runner.protocol import Runner

Outputs = Dict[str, "NDArray[np.generic]"]
Waiting = Tuple["NDArray[np.generic]", "Future[Outputs]"]


class Batcher:
    """A context manager around the only thread that uses a runner.

    A batch contains the images that are waiting when the previous batch has ended: no image waits for later ones, and
    under load batches fill by themselves.

    Args:
        runner: The model.
        largest: Most images of a batch.
        on_batch: Called with the number of images and the seconds of each batch.

    Attributes:
        failure: Why the latest batch failed; None if it did not.
    """

    def __init__(self, runner: Runner, largest: int, on_batch: Callable[[int, float], None]) -> None:
        self._runner, self._largest, self._on_batch = runner, largest, on_batch
        self._waiting: queue.Queue[Optional[Waiting]] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self.failure: Optional[Exception] = None

    def submit(self, image: NDArray[np.generic]) -> Future[Outputs]:
        """Queues one prepared image; returns a future of its outputs by name, with one row."""
        future: Future[Outputs] = Future()
        self._waiting.put((image, future))
        return future

    def __enter__(self) -> Batcher:
        """Starts the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Runs the waiting images, then ends the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            first = self._waiting.get()
            if first is None:
                return
            batch, ended = self._collect(first)
            self._answer(batch)
            if ended:
                return

    def _collect(self, first: Waiting) -> Tuple[List[Waiting], bool]:
        batch = [first]
        while len(batch) < self._largest:
            try:
                following = self._waiting.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False

    def _answer(self, batch: List[Waiting]) -> None:
        wanted = [(image, future) for image, future in batch if future.set_running_or_notify_cancel()]
        if not wanted:
            return
        start = time.perf_counter()
        try:
            outputs = run_any_batch(self._runner, np.stack([image for image, _ in wanted]))
        except Exception as error:  # noqa: BLE001 - raised again by the future's `result`
            self.failure = error
            for _, future in wanted:
                future.set_exception(error)
            return
        self.failure = None
        self._on_batch(len(wanted), time.perf_counter() - start)
        for index, (_, future) in enumerate(wanted):
            future.set_result({name: value[index : index + 1] for name, value in outputs.items()})
