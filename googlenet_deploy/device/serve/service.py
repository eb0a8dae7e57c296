"""From images and frames to answers, with metrics and stored images."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Iterator, Optional, Sequence, Tuple

from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.predictions import check_names, predict
from googlenet_deploy.device.prefetch import cancel_future, in_order, result_of
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.device.serve.capture import LowConfidenceFolder, Pace
from googlenet_deploy.device.serve.live import LiveView, jpeg
from googlenet_deploy.device.serve.request import RefusedRequestError
from googlenet_deploy.device.stream.answers import Answer, answers_of
from googlenet_deploy.device.stream.frames import FrameBatches
from googlenet_deploy.device.system.processor import available_cores
from googlenet_deploy.errors import BadImageError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from googlenet_deploy.device.images.pipeline import Batch
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.serve.batching import Batcher, Outputs
    from googlenet_deploy.device.serve.drift import DriftMonitor
    from googlenet_deploy.device.serve.metrics import Metrics
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.device.stream.frames import Item
    from googlenet_deploy.device.stream.inputs import StreamInputs
    from googlenet_deploy.device.stream.options import FrameOptions

LARGEST_PICTURE = 40_000_000  # pixels of a posted image
MOST_DECODERS = 4  # of such images at once
WAIT_SECONDS = 60.0  # for a decoder, and for the network
CAPTURE_SECONDS = 1.0  # between two stored frames of a stream
CAPTURE_QUALITY = 95
FRAMES_AHEAD = 2
# Formats that are read from the network, by their first bytes: of Pillow's decoders some start other programs.
_FORMATS: Tuple[Tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"GIF87a", ".gif"),
    (b"GIF89a", ".gif"),
    (b"BM", ".bmp"),
    (b"P5", ".pgm"),
    (b"P6", ".ppm"),
)


@dataclass(frozen=True)
class ImageService:
    """Classifies images.

    Attributes:
        runner: The model; only the batcher runs it.
        spec: How images are prepared.
        names: Class names; empty if there are none.
        top_k: Classes per image.
        image_backend: Library for the resize.
        batcher: Runs the network.
        metrics: Counts.
        live: Shows the newest answer.
        low_confidence: Probability of the best class below which an answer counts as low-confidence.
        capture: Stores such images; None stores none.
        drift: Checks activations; None does not.
    """

    runner: Runner
    spec: Preprocessing
    names: Sequence[str]
    top_k: int
    image_backend: str
    batcher: Batcher
    metrics: Metrics
    live: LiveView
    low_confidence: float
    capture: Optional[LowConfidenceFolder] = None
    drift: Optional[DriftMonitor] = None

    def answer_of(self, name: str, outputs: Outputs) -> Answer:
        """The classes of one image.

        Raises:
            BadModelError: The outputs are not those of a classifier, or do not fit the names.
        """
        check_names(outputs, self.names, self.runner.path)
        return answers_of([name], predict(outputs, self.top_k, self.runner.path), self.names)[0]

    def is_uncertain(self, answer: Answer) -> bool:
        """Whether the best class is not probable enough; always False if the model returns scores only."""
        probability = answer.best.probability
        return probability is not None and probability < self.low_confidence

    def follow(self, inputs: StreamInputs, options: FrameOptions, ended: threading.Event) -> None:
        """Classifies the frames of a camera or video until it ends or `ended` is set, which is set in the end anyway.

        Raises:
            InputError: The source broke.
            BadModelError: The network failed.
        """
        arrivals: OrderedDict[str, float] = OrderedDict()
        frames = FrameBatches(
            _timed(inputs.frames, arrivals), self.spec, options, on_skipped=lambda _item: None, stop=ended
        )
        pace = Pace(CAPTURE_SECONDS)

        def begin(batch: Batch) -> Future[Outputs]:
            return self.batcher.submit(batch.array[0])

        ahead = 1 if options.live else FRAMES_AHEAD  # a waiting frame of a live source is late
        for batch, outputs in in_order(frames, begin, result_of, ahead, cancel_future):
            name = batch.names[0]
            answer = self.answer_of(name, outputs)
            seconds = time.monotonic() - arrivals.pop(name, time.monotonic())
            uncertain = self.is_uncertain(answer)
            self.metrics.count_image("stream", seconds, low_confidence=uncertain)
            image = batch.images[0] if batch.images else None
            self.live.publish(answer, seconds, image)
            if self.drift is not None:
                self.drift.offer(batch.array[0], outputs)
            if uncertain and self.capture is not None and image is not None and pace.due():
                self.keep(jpeg(image, CAPTURE_QUALITY), ".jpg", answer)

    def keep(self, content: bytes, suffix: str, answer: Answer) -> None:
        """Stores the image of an uncertain answer if requested."""
        if self.capture is not None and answer.best.probability is not None:
            self.capture.keep(content, suffix, answer.best.probability, answer.best.index)


class PostedImages:
    """Answers images that clients send.

    Args:
        service: What answers.
    """

    def __init__(self, service: ImageService) -> None:
        self._service = service
        self._decoders = threading.Semaphore(min(MOST_DECODERS, available_cores()))
        self._numbers = count(1)

    def classify(self, content: bytes) -> Tuple[Answer, float]:
        """The classes of an image file, and the seconds that it took.

        Raises:
            RefusedRequestError: It is not an image, or it timed out.
            BadModelError: The network failed.
        """
        start = time.monotonic()
        service, suffix = self._service, image_suffix(content)
        name = f"image {next(self._numbers)}"
        array = self._prepared(content, name)
        future = service.batcher.submit(array)
        try:
            outputs = future.result(WAIT_SECONDS)
        except FutureTimeout:
            future.cancel()
            raise RefusedRequestError(503, "the network is busy", {"Retry-After": "5"}) from None
        answer = service.answer_of(name, outputs)
        seconds = time.monotonic() - start
        uncertain = service.is_uncertain(answer)
        service.metrics.count_image("http", seconds, low_confidence=uncertain)
        service.live.publish(answer, seconds)
        if service.drift is not None:
            service.drift.offer(array, outputs)
        if uncertain:
            service.keep(content, suffix, answer)
        return answer, seconds

    def _prepared(self, content: bytes, name: str) -> NDArray[np.generic]:
        service = self._service
        if not self._decoders.acquire(timeout=WAIT_SECONDS):
            raise RefusedRequestError(503, "too many images are being decoded", {"Retry-After": "5"})
        try:
            mode = "L" if service.spec.channels == "L" else "RGB"
            image = load_image(content, name=name, mode=mode, max_pixels=LARGEST_PICTURE)
            return preprocess(image, service.spec, service.image_backend)
        except BadImageError as error:
            raise RefusedRequestError(422, error.problem) from error
        except UsageError as error:
            raise RefusedRequestError(422, error.message) from error
        finally:
            self._decoders.release()


def image_suffix(content: bytes) -> str:
    """The suffix of an image file's format.

    Raises:
        RefusedRequestError: The format is not one that is accepted from the network.
    """
    if not content:
        raise RefusedRequestError(400, "the body is empty; send an image file")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    suffix = next((suffix for magic, suffix in _FORMATS if content.startswith(magic)), None)
    if suffix is None:
        raise RefusedRequestError(415, "send a JPEG, PNG, WebP, BMP, GIF or PPM file itself (curl --data-binary @FILE)")
    return suffix


def _timed(frames: Iterator[Item], arrivals: OrderedDict[str, float]) -> Iterator[Item]:
    """Records when each frame arrived; the times of dropped frames are removed later."""
    for item in frames:
        if item is not None:
            arrivals[item.name] = time.monotonic()
            while len(arrivals) > 64:
                arrivals.popitem(last=False)
        yield item
