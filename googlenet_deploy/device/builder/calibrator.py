"""INT8 calibrators for implicit quantisation (TensorRT 8.5 to 10): from a cache file, or live on images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from googlenet_deploy.device.cuda.memory import Cuda
from googlenet_deploy.device.files import PathLike, reason, sha256_bytes
from googlenet_deploy.device.images.pipeline import Batch, ImageBatches
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT
from googlenet_deploy.errors import BadTableError, DeviceError

_HEADER = re.compile(rb"TRT-(\d+)-(EntropyCalibration2?|MinMaxCalibration|LegacyCalibration)\s*$")
_ENTRY = re.compile(rb"(.+): ([0-9a-fA-F]{1,8})\s*$")
ALGORITHMS = {"EntropyCalibration2": "entropy", "MinMaxCalibration": "minmax"}


def read_calibration_cache(path: PathLike) -> Tuple[bytes, str, int]:
    """Reads and checks a TensorRT calibration cache.

    TensorRT itself ignores an unreadable cache and calibrates again, so such a cache is rejected here.

    Returns:
        (content, algorithm, number of tensors); the algorithm is "entropy" or "minmax".

    Raises:
        BadTableError: It cannot be read, or is not a cache of an algorithm that TensorRT 8.5 and later have.
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
            f"is not a TensorRT calibration cache: {problem} does not fit",
            "write one with googlenet-deploy quantize",
        )
    return content, algorithm, len(entries)


def missing_scales(content: bytes, tensors: List[str]) -> List[str]:
    """The tensors that have no scale in a cache; their layers fall back to a wider type."""
    found = {match.group(1).decode("utf-8", "replace") for match in map(_ENTRY.match, content.splitlines()) if match}
    return [name for name in tensors if name not in found]


def cache_calibrator(library: TensorRT, content: bytes, algorithm: str) -> Any:  # noqa: ANN401 - TensorRT has no types
    """Creates a calibrator that passes a cache to TensorRT and refuses to calibrate.

    Its `failure` is always None; its `conclude` raises `DeviceError` if TensorRT did not read or accept the cache.
    """
    base = library.calibrator_base(algorithm)
    version = ".".join(map(str, library.version[:3]))

    class _FromCache(base):  # type: ignore[misc,valid-type] # TensorRT's class is made at run time
        failure: Optional[Exception] = None

        def __init__(self) -> None:
            super().__init__()
            self.was_read = self.was_rejected = False

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: List[str]) -> Optional[List[int]]:
            del names
            self.was_rejected = True  # TensorRT would not ask for images if it had accepted the cache
            return None

        def read_calibration_cache(self) -> bytes:
            self.was_read = True
            return content

        def write_calibration_cache(self, cache: bytes) -> None:
            del cache

        def conclude(self) -> Dict[str, Any]:
            if not self.was_read:
                raise DeviceError(f"{library.label} did not read the calibration cache")
            if self.was_rejected:
                raise DeviceError(
                    f"{library.label} rejected the calibration cache and wanted to calibrate again",
                    f"write it for this version: googlenet-deploy quantize --cache ... --tensorrt-version {version}",
                )
            return {}

    return _FromCache()


def live_calibrator(
    library: TensorRT, algorithm: str, images: ImageBatches, cuda: Cuda, advance: Callable[[int], None]
) -> Any:  # noqa: ANN401 - TensorRT has no types
    """Creates a calibrator that passes prepared images to TensorRT.

    Args:
        library: TensorRT.
        algorithm: "entropy" or "minmax".
        images: The images in batches; TensorRT uses full batches only.
        cuda: Device memory.
        advance: Called with the number of images of each batch passed to TensorRT.

    Returns:
        The calibrator. After the build its `failure` is the error that occurred while reading images, `cache` is the
        calibration cache that TensorRT computed, and `conclude` returns the manifest's entry.
    """
    base = library.calibrator_base(algorithm)
    feed = _Feed(images, cuda, advance)

    class _Live(base):  # type: ignore[misc,valid-type] # TensorRT's class is made at run time
        def __init__(self) -> None:
            super().__init__()
            self.cache = b""

        def get_batch_size(self) -> int:
            return images.batch_size

        def get_batch(self, names: List[str]) -> Optional[List[int]]:
            address = feed.next_batch()
            return None if address is None else [address] * len(names)

        def read_calibration_cache(self) -> Optional[bytes]:
            return None

        def write_calibration_cache(self, cache: bytes) -> None:
            self.cache = bytes(cache)

        @property
        def failure(self) -> Optional[Exception]:
            return feed.error

        def conclude(self) -> Dict[str, Any]:
            feed.release()
            cuda.close()
            return {
                "images": feed.images,
                "left_out": feed.left_out,
                "skipped": [item.name for item in images.skipped],
                "cache_sha256": sha256_bytes(self.cache) if self.cache else "",
            }

    return _Live()


class _Feed:
    """Copies one prepared batch after another into device memory.

    An exception must not cross TensorRT's C++ frames, so it is stored in `error` and raised by the builder.
    """

    def __init__(self, batches: ImageBatches, cuda: Cuda, advance: Callable[[int], None]) -> None:
        self.batches, self.cuda, self.advance = batches, cuda, advance
        self.source: Optional[Iterator[Batch]] = None
        self.address: Optional[int] = None
        self.error: Optional[Exception] = None
        self.images = self.left_out = 0

    def next_batch(self) -> Optional[int]:
        """Address of the next batch; None after the last full batch and after an error."""
        try:
            self.source = iter(self.batches) if self.source is None else self.source
            batch = next(self.source, None)
            if batch is None or len(batch.array) < self.batches.batch_size:
                self._end(batch)
                return None
            if self.address is None:
                self.address = self.cuda.allocate(batch.array.nbytes)
            self.cuda.copy_in(self.address, np.ascontiguousarray(batch.array))
        except Exception as error:  # noqa: BLE001 - the builder raises it
            self.error = error
            return None
        self.images += len(batch.array)
        self.advance(len(batch.array))
        return self.address

    def _end(self, rest: Optional[Batch]) -> None:
        self.left_out = len(rest.array) if rest is not None else 0
        if not self.images:
            raise DeviceError(
                f"there are not enough usable images for one batch of {self.batches.batch_size}",
                "pass more images, or a smaller --batch",
            )

    def release(self) -> None:
        """Frees the device memory; the calibrator may need it until TensorRT has finished."""
        if self.address is not None:
            self.cuda.free(self.address)
            self.address = None
