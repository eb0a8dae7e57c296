"""Options for calibration, its images, TensorRT's cache and what is quantised; imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import dataclass

from googlenet_deploy.calibration.methods import ALGORITHMS, AUTO, DEFAULT_PERCENTILE, METHODS
from googlenet_deploy.device.options import check_options, option
from googlenet_deploy.errors import UsageError

IMAGES, CALIBRATION, CACHE, PLACEMENT = "images", "calibration", "TensorRT calibration cache", "layers to quantise"
DEFAULT_COUNT = 256
# Small batches keep the watched tensors small; larger ones are no faster on a CPU.
BATCH_SIZE = 2
_ALL, _QUANTIZED = "all", "quantized"


@dataclass(frozen=True)
class ImageOptions:
    """Which images are used for calibration.

    Attributes:
        images: A folder, a pattern, or a text file that lists images; None for none.
        count: How many are drawn at random; None uses `DEFAULT_COUNT` of a folder and all of a list.
        seed: Seed of the random draw.

    Raises:
        UsageError: The count is below 1.
    """

    images: str | None = option(
        None, "a folder, a pattern, or a .txt file that lists one image per line, relative to itself", group=IMAGES,
        metavar="PATH",
    )  # fmt: skip
    count: int | None = option(
        None, "draw N images at random", group=IMAGES, metavar="N", least=1,
        shown_default=f"{DEFAULT_COUNT} of a folder, all of a list",
    )  # fmt: skip
    seed: int = option(0, "of the draw", group=IMAGES, metavar="S")

    def __post_init__(self) -> None:
        check_options(self)


def _every_tensor(text: str) -> bool:
    if text not in (_ALL, _QUANTIZED):
        raise argparse.ArgumentTypeError(f"{text!r} is not {_ALL} or {_QUANTIZED}")
    return text == _ALL


@dataclass(frozen=True)
class CalibrationOptions:
    """How calibration works.

    Attributes:
        method: The table's own method: one of `METHODS` or "auto".
        percentile: Share of absolute values that the percentile method keeps, in percent.
        every_tensor: Record all activations, for TensorRT's own cache and its accelerator, and not only those
            that a Q/DQ model needs.
        batch_size: Images per batch, if the model leaves it open.
        threads: ONNX Runtime threads; None uses one per core.
        state: A checkpoint to resume from if it exists, and to keep updated.
        quiet: Show no progress.

    Raises:
        UsageError: A value is out of range.
    """

    method: str = option(AUTO, "whose thresholds are used", group=CALIBRATION, choices=(AUTO, *METHODS))
    percentile: float = option(
        DEFAULT_PERCENTILE, "share of values that the percentile method keeps, in percent", group=CALIBRATION,
        metavar="P", above=0, most=100,
    )  # fmt: skip
    every_tensor: bool = option(
        True,
        "observe all activations, as TensorRT's cache and DLAs need it, or only those that a Q/DQ model quantises",
        group=CALIBRATION,
        flag="--tensors",
        metavar=f"{{{_ALL},{_QUANTIZED}}}",
        parse=_every_tensor,
        shown_default=_ALL,
    )
    batch_size: int = option(BATCH_SIZE, "images per batch", group=CALIBRATION, flag="--batch", metavar="N", least=1)
    threads: int | None = option(
        None, "the model's threads", group=CALIBRATION, metavar="N", least=1, shown_default="one per core"
    )
    state: str | None = option(
        None, "resume from this checkpoint if it exists, and keep it updated", group=CALIBRATION, flag="--resume",
        metavar="FILE",
    )  # fmt: skip
    quiet: bool = option(False, "show no progress", group=CALIBRATION)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class CacheOptions:
    """TensorRT's text form of the table.

    Attributes:
        cache: Where to write it; None writes no cache.
        tensorrt_version: The TensorRT that will read it.
        algorithm: The calibrator that the cache names.

    Raises:
        UsageError: A cache is requested without a version, or described but not requested.
    """

    cache: str | None = option(None, "also write a calibration cache for implicit INT8", group=CACHE, metavar="FILE")
    tensorrt_version: str | None = option(
        None, "the TensorRT that will read the cache, such as 8.5.2 (JetPack 5.1)", group=CACHE, metavar="V"
    )
    algorithm: str = option(
        ALGORITHMS[0], "the calibrator that the cache names, which must be the builder's; this is trtexec's",
        group=CACHE, choices=ALGORITHMS,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)
        if self.cache is not None and self.tensorrt_version is None:
            raise UsageError("--cache needs --tensorrt-version, such as 8.5.2 for JetPack 5.1")


@dataclass(frozen=True)
class PlacementOptions:
    """What is quantised.

    Attributes:
        quantize_input: Quantise the network's input, so that the first convolution runs in INT8 too.
        quantize_classifier: Quantise Gemm layers, and a MatMul that no other layer follows.
        excluded: Names of nodes that stay in float.
        dla: Put a pair on every tensor that may have one, with one scale for all inputs and the output of a
            Concat, as NVIDIA's deep-learning accelerator needs it.
    """

    quantize_input: bool = option(
        True, "leave the layer that reads the image in float", group=PLACEMENT, flag="--keep-input"
    )
    quantize_classifier: bool = option(True, "leave the classifier in float", group=PLACEMENT, flag="--keep-classifier")
    excluded: Collection[str] = option(
        (), "leave this layer in float; may be repeated", group=PLACEMENT, flag="--exclude", metavar="NODE",
        repeated=True,
    )  # fmt: skip
    dla: bool = option(
        False, "a pair on every tensor and one scale around each Concat, for a Jetson's DLA", group=PLACEMENT
    )
