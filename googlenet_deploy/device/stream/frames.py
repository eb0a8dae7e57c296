"""Batches of prepared frames from a source of any length, in bounded memory, without waiting longer than allowed.

A thread reads the source, a pool decodes and prepares, and the consumer collects in order. A live source (a camera)
does not wait for a slow consumer: excess frames are dropped and counted, so that answers stay current.
"""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Callable, Iterator, List, NamedTuple, Optional, Tuple, Union

from googlenet_deploy.device.images.pipeline import (
    BATCHES_AHEAD,
    Batch,
    PreparedImage,
    Skipped,
    prepare_source,
    skipped,
    stacked,
)
from googlenet_deploy.device.system.processor import available_cores
from googlenet_deploy.errors import BadImageError, DeviceError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.device.stream.options import FrameOptions

POLL_SECONDS = 0.05  # how soon a request to stop is noticed
PATIENCE_SECONDS = 0.005  # how long to wait for the next frame before returning answers that are ready

Item = Union["ImageSource", Skipped, None]  # None: the source is alive, but has no frame at the moment


class _Entry(NamedTuple):
    source: ImageSource
    arrival: float
    future: Future[Union[PreparedImage, Skipped]]


class FrameBatches:
    """Iterates once over the batches of a source; None means that the next batch is not ready yet.

    Args:
        source: Frames, and frames that could not be read.
        spec: The preprocessing.
        options: How frames are collected into batches.
        on_skipped: Called with each frame that cannot be used, in order.
        stop: Set it from any thread to stop: nothing more is read, and the frames collected so far are the last batch.
        clock: Seconds.

    Attributes:
        dropped: Frames of a live source that arrived faster than they could be processed.
        resized: Frames that were resized on the CPU because the network's frame size differs.
        first_size: (height, width) of the first resized frame.

    Raises:
        UsageError: The batch size or the number of workers is below 1.
        DeviceError: While iterating: no frame arrived for `silence` seconds.
    """

    def __init__(
        self,
        source: Iterator[Item],
        spec: Preprocessing,
        options: FrameOptions,
        *,
        on_skipped: Callable[[Skipped], None],
        stop: Optional[threading.Event] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec, self.options, self.on_skipped, self.clock = spec, options, on_skipped, clock
        self.stop = stop or threading.Event()
        self.dropped = self.resized = 0
        self.first_size: Optional[Tuple[int, int]] = None
        self._source = source
        self._workers = options.workers or min(8, available_cores())
        self._entries: queue.Queue[Union[_Entry, Skipped, BaseException, None]] = queue.Queue()
        self._places = threading.Semaphore(BATCHES_AHEAD * options.batch_size + self._workers)
        self._head: Optional[_Entry] = None
        self._heard = clock()

    def __iter__(self) -> Iterator[Optional[Batch]]:
        with ThreadPoolExecutor(self._workers, thread_name_prefix="decode") as pool:
            # A daemon: a camera's driver may block for ever, and the program must still be able to end.
            reader = threading.Thread(target=self._read, args=(pool,), name="frames", daemon=True)
            reader.start()
            try:
                yield from self._batches()
            finally:
                self.stop.set()
                reader.join(1.0)
                self._cancel()

    def _batches(self) -> Iterator[Optional[Batch]]:
        collected: List[Tuple[_Entry, PreparedImage]] = []
        failure: Optional[BaseException] = None
        while not self.stop.is_set():
            try:
                entry = self._next(self._timeout(collected))
            except (queue.Empty, FutureTimeout):
                if collected and self._overdue(collected):
                    yield self._batch(collected)
                    collected = []
                else:
                    yield None
                    failure = self._silent()
                if failure is not None:
                    break
                continue
            if entry is None or isinstance(entry, BaseException):
                failure = entry
                break
            if isinstance(entry, Skipped):
                self.on_skipped(entry)
                continue
            collected.append(entry)
            if len(collected) == self.options.batch_size or self._overdue(collected):
                yield self._batch(collected)
                collected = []
        if collected:
            yield self._batch(collected)
        if failure is not None:
            raise failure

    def _silent(self) -> Optional[BaseException]:
        limit = self.options.silence
        if limit is None or self._head is not None or self.clock() - self._heard < limit:
            return None
        return DeviceError(f"no frame came for {limit:g} s", "is the camera or the network still there? start again")

    def _next(self, timeout: float) -> Union[Tuple[_Entry, PreparedImage], Skipped, BaseException, None]:
        """The next frame in order, or why it was skipped, or the reader's error, or None at the end."""
        if self._head is None:
            item = self._entries.get(timeout=timeout)
            if not isinstance(item, _Entry):
                return item
            self._head = item
            self._heard = item.arrival
        result = self._head.future.result(timeout)
        entry, self._head = self._head, None
        if isinstance(result, Skipped):
            self._places.release()
            return result
        return entry, result

    def _timeout(self, collected: List[Tuple[_Entry, PreparedImage]]) -> float:
        if self.options.max_latency is None or not collected:
            return PATIENCE_SECONDS if not collected else POLL_SECONDS
        left = collected[0][0].arrival + self.options.max_latency - self.clock()
        return min(max(left, 0.0), POLL_SECONDS)

    def _overdue(self, collected: List[Tuple[_Entry, PreparedImage]]) -> bool:
        limit = self.options.max_latency
        return limit is not None and self.clock() - collected[0][0].arrival >= limit

    def _batch(self, collected: List[Tuple[_Entry, PreparedImage]]) -> Batch:
        for _ in collected:
            self._places.release()
        for _, prepared in collected:
            if prepared.size is not None:
                self.resized += 1
                self.first_size = self.first_size or prepared.size
        images = [prepared.image for _, prepared in collected if prepared.image is not None]
        arrays = stacked([prepared.array for _, prepared in collected])
        return Batch(arrays, [entry.source.name for entry, _ in collected], images or None)

    def _read(self, pool: ThreadPoolExecutor) -> None:
        try:
            for item in self._source:
                if self.stop.is_set():
                    break
                if item is None:
                    self._heard = self.clock()
                elif isinstance(item, Skipped):
                    self._entries.put(item)
                elif self._has_place():
                    self._entries.put(_Entry(item, self.clock(), pool.submit(self._prepare, item)))
        except BaseException as error:  # noqa: BLE001 - the consumer raises it
            self._entries.put(error)
        else:
            self._entries.put(None)

    def _has_place(self) -> bool:
        if self.options.live:
            if self._places.acquire(blocking=False):
                return True
            self.dropped += 1
            return False
        while not self._places.acquire(timeout=POLL_SECONDS):
            if self.stop.is_set():
                return False
        return True

    def _prepare(self, source: ImageSource) -> Union[PreparedImage, Skipped]:
        try:
            options = self.options
            return prepare_source(source, self.spec, options.image_backend, keep_image=options.keep_images)
        except (BadImageError, UsageError) as error:
            return skipped(source, error)

    def _cancel(self) -> None:
        """Cancels work that has not started."""
        while True:
            try:
                item = self._entries.get_nowait()
            except queue.Empty:
                return
            if isinstance(item, _Entry):
                item.future.cancel()
