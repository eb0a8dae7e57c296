"""INT8 calibrators for implicit quantisation (TensorRT 8.5 to 10): from a cache file, or live from images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from googlenet_deploy.device.cuda_memory import Cuda
from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.trt_compat import TensorRT
from googlenet_deploy.errors import BadTableError

Batches = Callable[[], Iterator[NDArray[np.generic]]]
_HEADER = re.compile(rb"TRT-(\d+)-(EntropyCalibration2?|MinMaxCalibration|LegacyCalibration)\s*$")
_ENTRY = re.compile(rb"(.+): ([0-9a-fA-F]{1,8})\s*$")
ALGORITHMS = {"EntropyCalibration2": "entropy", "MinMaxCalibration": "minmax"}


def read_calibration_cache(path: PathLike) -> Tuple[bytes, str, int]:
    """Reads and checks a TensorRT calibration cache.

    TensorRT itself takes an unreadable cache for none and calibrates anew, so it's refused here.

    Returns:
        (content, algorithm, number of tensors); the algorithm is "entropy" or "minmax".

    Raises:
        BadTableError: It cannot be read, or is no cache of an algorithm that TensorRT 8.5 and later have.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise BadTableError(path, f"cannot be read: {reason(error)}") from error
    lines = content.splitlines()
    header = _HEADER.match(lines[0]) if lines else None
    algorithm = ALGORITHMS.get(header.group(2).decode()) if header else None
    entries = [line for line in lines[1:] if line.strip()]
    bad = [line for line in entries if not _ENTRY.match(line)]
    if algorithm is None or not entries or bad:
        problem = "its first line" if algorithm is None else "no entry" if not entries else f"the line {bad[0]!r}"
        raise BadTableError(
            path,
            f"is no TensorRT calibration cache: {problem} does not fit",
            "write one with googlenet-deploy quantize",
        )
    return content, algorithm, len(entries)


def missing_scales(content: bytes, tensors: List[str]) -> List[str]:
    """Which of the tensors a cache says nothing of; their layers fall back to a wider type."""
    found = {match.group(1).decode("utf-8", "replace") for match in map(_ENTRY.match, content.splitlines()) if match}
    return [name for name in tensors if name not in found]


def cache_calibrator(library: TensorRT, content: bytes, algorithm: str) -> Any:  # noqa: ANN401 - TensorRT has no types
    """A calibrator that hands TensorRT a cache and refuses to calibrate."""
    base = library.calibrator_base(algorithm)

    class _FromCache(base):  # type: ignore[misc,valid-type] # TensorRT's class is made at run time
        def __init__(self) -> None:
            super().__init__()
            self.was_read = False

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: List[str]) -> Optional[List[int]]:
            del names
            return None

        def read_calibration_cache(self) -> bytes:
            self.was_read = True
            return content

        def write_calibration_cache(self, cache: bytes) -> None:
            del cache

    return _FromCache()


def live_calibrator(
    library: TensorRT, algorithm: str, batches: Batches, batch_size: int, cuda: Cuda, advance: Callable[[int], None]
) -> Any:  # noqa: ANN401 - TensorRT has no types
    """A calibrator that feeds prepared images.

    Args:
        library: TensorRT.
        algorithm: "entropy" or "minmax".
        batches: Starts an iterator over prepared batches, all of `batch_size` images.
        batch_size: Images in a batch.
        cuda: Device memory.
        advance: Called with the number of images of each batch that was handed over.

    Returns:
        The calibrator; after the build `cache` holds what TensorRT found, and `feed` what was fed and what went wrong.
    """
    base = library.calibrator_base(algorithm)
    feed = _Feed(batches, cuda, advance)

    class _Live(base):  # type: ignore[misc,valid-type] # TensorRT's class is made at run time
        def __init__(self) -> None:
            super().__init__()
            self.feed = feed
            self.cache = b""

        def get_batch_size(self) -> int:
            return batch_size

        def get_batch(self, names: List[str]) -> Optional[List[int]]:
            address = feed.next_batch()
            return None if address is None else [address] * len(names)

        def read_calibration_cache(self) -> Optional[bytes]:
            return None

        def write_calibration_cache(self, cache: bytes) -> None:
            self.cache = bytes(cache)

    return _Live()


class _Feed:
    """Puts one prepared batch after another into device memory.

    An exception must not cross TensorRT's C++ frames, so it is kept in `error` and the builder raises it.
    """

    def __init__(self, batches: Batches, cuda: Cuda, advance: Callable[[int], None]) -> None:
        self.batches, self.cuda, self.advance = batches, cuda, advance
        self.source: Optional[Iterator[NDArray[np.generic]]] = None
        self.address: Optional[int] = None
        self.error: Optional[Exception] = None
        self.images = 0

    def next_batch(self) -> Optional[int]:
        """Address of the next batch; None behind the last one and after an error."""
        try:
            self.source = self.batches() if self.source is None else self.source
            batch = next(self.source, None)
            if batch is None:
                self.release()
                return None
            if self.address is None:
                self.address = self.cuda.allocate(batch.nbytes)
            self.cuda.copy_in(self.address, np.ascontiguousarray(batch))
        except Exception as error:  # noqa: BLE001 - the builder raises it
            self.error = error
            return None
        self.images += len(batch)
        self.advance(len(batch))
        return self.address

    def release(self) -> None:
        """Gives the device memory back."""
        if self.address is not None:
            self.cuda.free(self.address)
            self.address = None
