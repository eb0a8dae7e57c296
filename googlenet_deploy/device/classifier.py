"""A classifier in a few lines of Python, on a workstation or a Jetson.

with Classifier("model.engine") as classify:
    print(classify("photo.jpg").best.name)
    for answer in classify.stream("camera:0"):
        print(answer.image, answer.best.name, answer.best.probability)
"""

from __future__ import annotations

import threading
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple, Union, overload

import numpy as np
from PIL import Image

from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.images.pipeline import Batch, PreparedImage, prepare_source, stacked
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.predictions import check_names, predict
from googlenet_deploy.device.runner.overlap import run_overlapped
from googlenet_deploy.device.runner.protocol import run_any_batch
from googlenet_deploy.device.runner.select import GpuOptions, open_runner
from googlenet_deploy.device.specification import Preprocessing, read_preprocessing
from googlenet_deploy.device.stream.answers import Answer, answers_of
from googlenet_deploy.device.stream.frames import FrameBatches
from googlenet_deploy.device.stream.inputs import open_inputs
from googlenet_deploy.device.stream.options import FrameOptions
from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.images.pipeline import Skipped

ImageLike = Union[str, Path, Image.Image, "NDArray[np.uint8]"]
Several = Union[List[ImageLike], Tuple[ImageLike, ...]]
ORDERS = ("RGB", "BGR")
LIVE_LATENCY = 0.1  # seconds that a camera frame may wait for its batch to fill


class Classifier:
    """A model that is ready to classify; a context manager that frees everything on exit.

    One instance may be called from several threads: calls run one after another. A stream belongs to the thread that
    iterates over it, and needs its own `Classifier` if there are other calls.

    Args:
        model: An ``.onnx`` file, or an engine that `build` made.
        backend: The backend, as for ``infer --backend``; "auto" chooses by the file and the machine.
        preprocessing: How images are prepared: a `Preprocessing`, "imagenet", "torchvision", "bvlc", "plain" or a JSON
            file; None uses the model's own.
        class_names: One name per class; None uses the model's own.
        top_k: Classes per image.
        batch: Usual batch size: 1 for the lowest latency, more for the highest throughput.
        threads: CPU threads; None uses one per core.
        gpu: How an engine runs; see `GpuOptions`.

    Attributes:
        backend: The backend that runs the model, such as "ONNX Runtime 1.32.0 (CPU)".
        preprocessing: How images are prepared.
        class_names: One name per class; empty if there are none.
        notes: Notes for the user: fallbacks, and how answers may differ.

    Raises:
        UsageError: Neither the model nor `preprocessing` states how images are prepared.
        BadModelError: The model cannot be loaded, or does not fit this machine.
        MissingExtraError: The backend is not installed.
        DeviceError: TensorRT, CUDA or a GPU is missing.
    """

    def __init__(
        self,
        model: PathLike,
        *,
        backend: str = "auto",
        preprocessing: Union[Preprocessing, str, None] = None,
        class_names: Optional[Sequence[str]] = None,
        top_k: int = 5,
        batch: int = 1,
        threads: Optional[int] = None,
        gpu: Optional[GpuOptions] = None,
    ) -> None:
        if top_k < 1 or batch < 1:
            raise UsageError("top_k and batch must be at least 1")
        self.top_k, self._batch, self._lock = top_k, batch, threading.Lock()
        self._runner = open_runner(model, backend, threads=threads, batch=batch, gpu=gpu)
        try:
            self.preprocessing = self._chosen(preprocessing)
        except BaseException:
            self.close()
            raise
        self._frames = self.preprocessing.describe_frame() if self.preprocessing.frame is not None else ""
        own = self._runner.metadata.class_names
        self.class_names: Tuple[str, ...] = own if class_names is None else tuple(class_names)
        self.backend, self.notes = self._runner.backend, self._runner.notes

    @overload
    def __call__(self, images: ImageLike, *, channels: str = ...) -> Answer: ...

    @overload
    def __call__(self, images: Several, *, channels: str = ...) -> List[Answer]: ...

    @overload
    def __call__(self, images: Iterator[ImageLike], *, channels: str = ...) -> Iterator[Answer]: ...

    def __call__(
        self, images: Union[ImageLike, Iterable[ImageLike]], *, channels: str = "RGB"
    ) -> Union[Answer, List[Answer], Iterator[Answer]]:
        """Classifies an image, a list of images, or the images from an iterator, in batches as they arrive.

        Args:
            images: A path, a PIL image, or a uint8 array (H, W, 3) or (H, W); or a list or an iterator of these.
            channels: Order of an array's channels: "RGB", or "BGR" for images read by OpenCV.

        Returns:
            The answer for one image, a list for a list, an iterator for any other iterable.

        Raises:
            BadImageError: An image cannot be read.
            UsageError: An array has the wrong shape or type, or the image is smaller than the crop.
            BadModelError: The model's outputs are not those of a classifier.
        """
        if channels not in ORDERS:
            raise UsageError(f"channels is {channels!r}, must be one of {', '.join(ORDERS)}")
        if isinstance(images, (str, Path, Image.Image, np.ndarray)):
            return next(self._answers(iter([images]), channels))
        if not isinstance(images, Iterable):
            raise UsageError(f"cannot classify a {type(images).__name__}: pass paths, PIL images or uint8 arrays")
        answers = self._answers(iter(images), channels)
        return list(answers) if isinstance(images, (list, tuple)) else answers

    def stream(
        self,
        *sources: str,
        max_latency: Optional[float] = None,
        on_skipped: Optional[Callable[[Skipped], None]] = None,
        on_note: Optional[Callable[[str], None]] = None,
    ) -> Iterator[Answer]:
        """Yields the answers for a camera, a video, a network stream, or images and folders, as for ``infer``.

        Decoding, the network and the processing of answers overlap. Leaving the loop closes the source.

        Args:
            sources: Such as "camera:0", "rtsp://...", "clip.mp4", "photos/".
            max_latency: Seconds that a frame may wait for its batch to fill; None uses 0.1 for live sources and no
                limit for others.
            on_skipped: Called with each frame that cannot be used; None raises an error at the end if none was usable.
            on_note: Called with a line about each break of a live source.

        Raises:
            InputError: A source does not exist or cannot be opened.
            MissingExtraError: A video or camera needs OpenCV.
        """
        stop = threading.Event()
        inputs = open_inputs(sources, None, stop, report=on_note or (lambda _line: None))
        latency = LIVE_LATENCY if max_latency is None and inputs.endless else max_latency
        options = FrameOptions(batch_size=self._batch, max_latency=latency, live=inputs.live)
        batches = FrameBatches(
            inputs.frames, self.preprocessing, options, on_skipped=on_skipped or (lambda _item: None), stop=stop
        )
        try:
            for batch, outputs in run_overlapped(self._runner, batches):
                yield from self._ranked(batch, outputs)
        finally:
            stop.set()

    def close(self) -> None:
        """Frees the model; may be called again."""
        self._runner.__exit__(None, None, None)

    def __enter__(self) -> Classifier:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Frees the model."""
        self.close()

    def _chosen(self, preprocessing: Union[Preprocessing, str, None]) -> Preprocessing:
        if isinstance(preprocessing, str):
            return read_preprocessing(preprocessing)
        chosen = preprocessing or self._runner.metadata.preprocessing
        if chosen is None:
            raise UsageError(
                f"{self._runner.path}: the model does not state how its images are prepared",
                'pass preprocessing="imagenet", "torchvision", "bvlc", a JSON file or a Preprocessing',
            )
        return chosen

    def _answers(self, images: Iterator[ImageLike], channels: str) -> Iterator[Answer]:
        numbers = count()
        while group := [_source(image, next(numbers), channels) for image in islice(images, self._batch)]:
            prepared = [prepare_source(source, self.preprocessing) for source in group]
            self._note_sizes(prepared)
            array = stacked([item.array for item in prepared])
            with self._lock:
                outputs = run_any_batch(self._runner, array)
            yield from self._ranked(Batch(array, [source.name for source in group]), outputs)

    def _note_sizes(self, prepared: Sequence[PreparedImage]) -> None:
        """Reports once that images were resized to the model's frame size."""
        note = f"the model accepts {self._frames}; images of another size are resized to it first"
        if note not in self.notes and any(item.size is not None for item in prepared):
            self.notes.append(note)

    def _ranked(self, batch: Batch, outputs: Any) -> List[Answer]:  # noqa: ANN401 - arrays by name
        check_names(outputs, self.class_names, self._runner.path)
        return answers_of(batch.names, predict(outputs, self.top_k, self._runner.path), self.class_names)


def _source(image: ImageLike, number: int, channels: str) -> ImageSource:
    """Converts an image to a source for the pipeline; images without a path are named by their number."""
    if isinstance(image, (str, Path)):
        return ImageSource(str(image))
    name = f"image {number}"
    if isinstance(image, Image.Image):
        return ImageSource(getattr(image, "filename", "") or name, pixels=np.asarray(image.convert("RGB")))
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise UsageError(f"{name} is {pixels.dtype} {pixels.shape}, must be uint8 (height, width, 3)")
    if pixels.ndim == 2:
        return ImageSource(name, pixels=np.repeat(pixels[:, :, np.newaxis], 3, axis=2))
    return ImageSource(name, pixels=np.ascontiguousarray(pixels[:, :, ::-1] if channels == "BGR" else pixels))
