"""One pass over the images: histograms of every watched tensor, in memory that does not depend on their number.

The network computes the next batch while a second thread counts the values of the last one. The state can be saved
and resumed; an interrupted and resumed run yields the same histograms as an uninterrupted one, since both count exactly
the same values (see `histogram.py`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from googlenet_deploy.calibration.histogram import Histogram
from googlenet_deploy.device.files import reason, write_bytes
from googlenet_deploy.device.images.pipeline import Skipped
from googlenet_deploy.errors import BadModelError, InputError
from googlenet_deploy.graph.session import require_independent_images

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from googlenet_deploy.device.files import PathLike
    from googlenet_deploy.graph.session import TensorSession

FOLDS = 2
STATE_FORMAT = "googlenet-deploy calibration state 1"
_BEGIN_ANEW = "remove the file to start again"


@dataclass
class Collection:
    """What has been counted so far.

    Attributes:
        histograms: Per watched tensor one histogram per fold; image number n belongs to fold n mod 2.
        images: Images counted.
        names: Their names, in order.
        skipped: Images that could not be used.
        consumed: Number of the chosen images that were read for this, including skipped ones.
        uniform: Number of the counted images that have a single colour.
    """

    histograms: dict[str, tuple[Histogram, ...]]
    images: int = 0
    names: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    consumed: int = 0
    uniform: int = 0

    @classmethod
    def empty(cls, tensors: Sequence[str]) -> Collection:
        """An empty collection for these tensors."""
        return cls({name: tuple(Histogram() for _ in range(FOLDS)) for name in tensors})

    def add(self, values: Mapping[str, NDArray[Any]], names: Sequence[str]) -> None:
        """Counts one batch: arrays with the image as first axis, by tensor.

        Raises:
            FloatingPointError: A value is NaN or infinite; the message names the first such tensor.
        """
        first = self.images % FOLDS
        for tensor, folds in self.histograms.items():
            try:
                for offset, part in enumerate(_by_fold(values[tensor], len(names))):
                    folds[(first + offset) % FOLDS].add(part)
            except FloatingPointError as error:
                raise FloatingPointError(f"tensor {tensor!r} {error}{_where(values[tensor], names)}") from None
        self.images += len(names)
        self.names.extend(names)


def _where(values: NDArray[Any], names: Sequence[str]) -> str:
    """The first image whose values are not all finite, worded as the end of a sentence."""
    if len(values) != len(names):
        return ""
    name = next((name for name, own in zip(names, values, strict=True) if not np.isfinite(own).all()), None)
    return "" if name is None else f", first with the image {name}"


def count_uniform(batch: NDArray[Any], layout: str) -> int:
    """Number of single-colour images in a batch, (N, C, H, W) or (N, H, W, C) by `layout`."""
    first = batch[:, :, :1, :1] if layout == "NCHW" else batch[:, :1, :1, :]
    return int((batch == first).reshape(len(batch), -1).all(axis=1).sum())


def _by_fold(array: NDArray[Any], images: int) -> list[NDArray[Any]]:
    """A tensor's values by fold, image by image; every fold gets all values if they do not belong to single images."""
    if not array.ndim or len(array) != images:
        return [array.reshape(-1)] * FOLDS
    return [array[offset::FOLDS] for offset in range(min(FOLDS, images))]


class Collector:
    """Runs batches through a session and counts their values in a second thread.

    Args:
        session: Computes the watched tensors.
        collection: Receives the counts; may hold those of an earlier run.
        layout: Layout of the images, "NCHW" or "NHWC".
    """

    def __init__(self, session: TensorSession, collection: Collection, layout: str) -> None:
        self.session, self.collection, self.layout = session, collection, layout
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="count")
        self._running: Future[None] | None = None
        self._compared = False

    def add(self, batch: NDArray[Any], names: Sequence[str]) -> None:
        """Runs one batch; its values are counted while the next one runs.

        Raises:
            BadModelError: The model cannot be run, what it computes for an image depends on other images of the batch,
                or a value of this or the batch before is NaN or infinite.
        """
        values = self.session.run(batch)
        if not self._compared:
            require_independent_images(self.session, batch, values)
            self._compared = True
        self.wait()
        self._running = self._pool.submit(self._count, batch, values, names)

    def wait(self) -> None:
        """Waits until every batch is counted.

        Raises:
            BadModelError: A value is NaN or infinite.
        """
        running, self._running = self._running, None
        try:
            if running is not None:
                running.result()
        except FloatingPointError as error:
            raise BadModelError(
                self.session.path,
                str(error),
                "check the weights and the preprocessing: no activation of a sound classifier overflows",
            ) from None

    def _count(self, batch: NDArray[Any], values: Mapping[str, NDArray[Any]], names: Sequence[str]) -> None:
        self.collection.add(values, names)
        self.collection.uniform += count_uniform(batch, self.layout)

    @contextmanager
    def running(self) -> Iterator[Collector]:
        """Finishes counting every added batch before the block is left, even by Ctrl-C."""
        try:
            yield self
            self.wait()
        finally:
            self._pool.shutdown(wait=True)


def save_state(path: PathLike, collection: Collection, fingerprint: str) -> None:
    """Stores a collection, so that a later run can resume where this one stopped.

    Args:
        path: The file to write, atomically.
        collection: What was counted.
        fingerprint: Identifies model, images and options; `load_state` requires the same.

    Raises:
        OutputError: The file cannot be written.
    """
    header = {
        "format": STATE_FORMAT,
        "fingerprint": fingerprint,
        "consumed": collection.consumed,
        "skipped": [list(image) for image in collection.skipped],
        "images": collection.images,
        "uniform": collection.uniform,
        "names": collection.names,
        "tensors": list(collection.histograms),
    }
    arrays: dict[str, NDArray[Any]] = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
    for number, folds in enumerate(collection.histograms.values()):
        for fold, histogram in enumerate(folds):
            arrays.update({f"{number}.{fold}.{key}": value for key, value in histogram.to_arrays().items()})
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    write_bytes(path, stream.getvalue())


def load_state(path: PathLike, fingerprint: str) -> Collection:
    """Reads what `save_state` wrote.

    Raises:
        InputError: The file is damaged, or belongs to another model, other images or other options.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            _check_header(header, path, fingerprint)
            return _collection(header, arrays)
    except InputError:
        raise
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}", _BEGIN_ANEW) from error
    except Exception as error:  # what zipfile, zlib and NumPy raise for damaged files shares no base class
        raise InputError(path, "is not a calibration state, or is damaged", _BEGIN_ANEW) from error


def _check_header(header: dict[str, Any], path: PathLike, fingerprint: str) -> None:
    if header["format"] != STATE_FORMAT:
        raise InputError(path, "was written by another version", _BEGIN_ANEW)
    if header["fingerprint"] != fingerprint:
        raise InputError(path, "belongs to another model, other images or other options", _BEGIN_ANEW)


def _collection(header: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Collection:
    histograms = {
        str(tensor): tuple(_histogram(arrays, f"{number}.{fold}.") for fold in range(FOLDS))
        for number, tensor in enumerate(header["tensors"])
    }
    return Collection(
        histograms,
        images=int(header["images"]),
        names=[str(name) for name in header["names"]],
        skipped=[Skipped(*image) for image in header["skipped"]],
        consumed=int(header["consumed"]),
        uniform=int(header["uniform"]),
    )


def _histogram(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Histogram:
    return Histogram.from_arrays({key: arrays[prefix + key] for key in ("counts", "range")})
