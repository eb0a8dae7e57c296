"""What a user says about the preparation of images; a field that is None was not given."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple, Union

from googlenet_deploy.device.options import check_options, on_off, option, whole_numbers
from googlenet_deploy.device.specification import CHANNEL_ORDERS, DTYPES, INTERPOLATIONS, LAYOUTS, RESIZE_MODES

PREPROCESSING = "preprocessing"  # a heading of --help


def parse_crop(text: str) -> Tuple[int, int]:
    """``224`` or ``224x320`` as (height, width), for argparse."""
    height, _, width = text.lower().partition("x")
    return int(height), int(width or height)


def parse_resize(text: str) -> Union[int, Tuple[int, int]]:
    """``256`` or ``256x320``, for argparse."""
    return parse_crop(text) if "x" in text.lower() else int(text)


def parse_frame(text: str) -> Tuple[int, int]:
    """``1080x1920`` as (height, width), for argparse."""
    height, separator, width = text.lower().partition("x")
    if not separator or not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 1080x1920")
    return int(height), int(width)


def parse_numbers(text: str) -> Tuple[float, ...]:
    """Comma-separated numbers, for argparse."""
    return tuple(float(value) for value in text.split(","))


@dataclass(frozen=True)
class PreprocessingOptions:
    """How images are prepared, for models that do not say so themselves, or to prepare them in another way.

    Raises:
        UsageError: A value is none of the choices.
    """

    preprocessing: Optional[str] = option(
        None, "imagenet, torchvision, bvlc, plain, or a JSON file; options below refine it", group=PREPROCESSING,
        metavar="NAME|FILE",
    )  # fmt: skip
    resize: Union[int, Tuple[int, int], None] = option(
        None, "short side after resizing, in pixels (0: none); other modes: size before the crop (0: the crop)",
        group=PREPROCESSING, metavar="N|HxW", parse=parse_resize,
    )  # fmt: skip
    resize_mode: Optional[str] = option(
        None, "keep the aspect ratio and crop (default), stretch the image, or fit it in between bars",
        group=PREPROCESSING, choices=RESIZE_MODES,
    )  # fmt: skip
    fill: Optional[Tuple[int, ...]] = option(
        None, "pixels of a letterbox's bars", group=PREPROCESSING, metavar="N|R,G,B", parse=whole_numbers,
        shown_default="0",
    )  # fmt: skip
    antialias: Optional[bool] = option(
        None, "off: the filter keeps its width when it shrinks an image, as OpenCV's does", group=PREPROCESSING,
        metavar="{on,off}", parse=on_off, shown_default="on",
    )  # fmt: skip
    crop: Optional[Tuple[int, int]] = option(
        None, "centre crop, in pixels", group=PREPROCESSING, metavar="N|HxW", parse=parse_crop,
        shown_default="the model's input",
    )  # fmt: skip
    interpolation: Optional[str] = option(None, "filter of the resize", group=PREPROCESSING, choices=INTERPOLATIONS)
    channels: Optional[str] = option(None, "order of the channels", group=PREPROCESSING, choices=CHANNEL_ORDERS)
    scale: Optional[float] = option(
        None, "multiplies pixel values 0..255 before the mean is subtracted", group=PREPROCESSING
    )
    mean: Optional[Tuple[float, ...]] = option(
        None, "per channel, after the scale", group=PREPROCESSING, metavar="A,B,C", parse=parse_numbers
    )
    std: Optional[Tuple[float, ...]] = option(
        None, "per channel, after the scale", group=PREPROCESSING, metavar="A,B,C", parse=parse_numbers
    )
    layout: Optional[str] = option(None, "order of the input's axes", group=PREPROCESSING, choices=LAYOUTS)
    dtype: Optional[str] = option(None, "type of the input", group=PREPROCESSING, choices=DTYPES)

    def __post_init__(self) -> None:
        check_options(self)

    def changes(self) -> Dict[str, Any]:
        """The fields of `Preprocessing` that they set, beside those of the named one."""
        given = {name: value for name, value in vars(self).items() if value is not None and name != "preprocessing"}
        if "resize" in given:
            given["resize"] = given["resize"] or None
        if given.get("resize_mode", "letterbox") != "letterbox":
            given.setdefault("fill", (0,))  # that of the letterbox which this replaces, if it was one
        return given
