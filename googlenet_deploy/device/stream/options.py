"""How frames are prepared and collected into batches."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Optional

from googlenet_deploy.device.options import check_options, option
from googlenet_deploy.device.runner.select import RUNNING
from googlenet_deploy.device.specification import IMAGE_BACKENDS


def milliseconds(text: str) -> float:
    """Milliseconds as seconds, at least 0, for argparse."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a time in milliseconds")
    return value / 1e3


@dataclass(frozen=True)
class FrameOptions:
    """How frames are prepared and collected.

    Attributes:
        batch_size: Most frames in a batch.
        workers: Decoding threads; None uses one per core, at most 8.
        image_backend: Library for the resize, "pillow" or "opencv".
        max_latency: Seconds that the oldest frame of a batch may wait for others; None waits for a full batch.
        keep_images: Whether the batch carries the decoded images.
        live: Whether excess frames are dropped instead of waited for.
        silence: Seconds without a frame after which the source is given up; None waits for ever.

    Raises:
        UsageError: A value is out of range.
    """

    batch_size: int = option(8, "images per batch", group=RUNNING, flag="--batch", metavar="N", least=1)
    workers: Optional[int] = option(
        None, "decoding threads", group=RUNNING, metavar="N", least=1, shown_default="one per core"
    )
    image_backend: str = option(
        "pillow", "what resizes images; OpenCV's resize differs a little from training's", group=RUNNING,
        choices=IMAGE_BACKENDS,
    )  # fmt: skip
    max_latency: Optional[float] = option(
        None, "run a batch that is not full when its oldest frame has waited so long", metavar="MS", parse=milliseconds,
        shown_default="100 for cameras, streams and --watch, else unlimited",
    )  # fmt: skip
    keep_images: bool = False
    live: bool = False
    silence: Optional[float] = None

    def __post_init__(self) -> None:
        check_options(self)
