"""The user's preprocessing options; a field that is None was not given."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple, Union

from googlenet_deploy.device.options import check_options, flag_of, on_off, option, whole_numbers
from googlenet_deploy.device.specification import (
    CHANNEL_ORDERS,
    DTYPES,
    INTERPOLATIONS,
    LAYOUTS,
    RESIZE_MODES,
    Preprocessing,
    describe_difference,
    preprocessing_fields,
    read_preprocessing,
)
from googlenet_deploy.device.text import Report, log_note, sizes_text
from googlenet_deploy.errors import BadModelError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.runner.protocol import Runner

PREPROCESSING = "preprocessing"  # a heading of --help
OPENCV_DIFFERS = "OpenCV's resize differs from the one that the network was trained with"


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
    """How images are prepared, for models that do not state it, or to override the model's own preprocessing.

    Raises:
        UsageError: A value is not one of the choices.
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
        """The fields of `Preprocessing` that the options set, in addition to those of the named preprocessing."""
        given = {name: value for name, value in vars(self).items() if value is not None and name != "preprocessing"}
        if "resize" in given:
            given["resize"] = given["resize"] or None
        if given.get("resize_mode", "letterbox") != "letterbox":
            given.setdefault("fill", (0,))  # that of the letterbox which this replaces, if it was one
        return given


# What functions accept: a complete specification, refining options, a name or JSON file, or nothing.
StatedPreprocessing = Union[Preprocessing, PreprocessingOptions, str, None]
Shape = Tuple[Optional[int], ...]


def runner_preprocessing(stated: StatedPreprocessing, runner: Runner, report: Report = log_note) -> Preprocessing:
    """Like `choose_preprocessing`, for an open model.

    Raises:
        UsageError: See there.
    """
    model = runner.input
    spec = choose_preprocessing(
        stated, runner.path, runner.metadata.preprocessing, model.shape, report, dtype=model.dtype
    )
    if spec.frame is not None:
        report(f"the model accepts {spec.describe_frame()}; images of another size are resized to it first")
    return spec


def file_preprocessing(stated: StatedPreprocessing, path: str, report: Report = log_note) -> Optional[Preprocessing]:
    """Like `choose_preprocessing`, for an ONNX file, without running it; None if nothing is stated.

    Raises:
        BadModelError: The file is not an ONNX model.
        UsageError: See `choose_preprocessing`.
    """
    if stated is None or stated == PreprocessingOptions():
        return None
    from googlenet_deploy.device.onnx_model.header import read_onnx  # noqa: PLC0415 - where a file is read

    header = read_onnx(path)
    shape = tuple(side if isinstance(side, int) else None for side in header.inputs[0].shape) if header.inputs else ()
    if len(shape) != 4:
        raise BadModelError(path, "has no input of rank 4, so it accepts no images")
    return choose_preprocessing(
        stated, path, header.metadata.preprocessing, shape, report, dtype=header.inputs[0].dtype
    )


def choose_preprocessing(
    stated: StatedPreprocessing,
    path: str,
    own: Optional[Preprocessing],
    shape: Shape,
    report: Report = log_note,
    dtype: str = "float32",
) -> Preprocessing:
    """The stated preprocessing, or else the model's own; if they differ, the stated one is used, and that is reported.

    If neither options nor file state a crop, it is the model's input size, whatever else is known about the model: the
    same options work for an FP32 model and the INT8 model made from it.

    Args:
        stated: A `Preprocessing` is used unchanged; options refine the model's own or a named one.
        path: The model's file.
        own: The model's own preprocessing.
        shape: Shape of its input, with None for open dimensions.
        report: Called with a line about each difference.
        dtype: Type of the model's input. A uint8 input takes raw pixels, so that only the geometry has to be
            stated.

    Raises:
        UsageError: Neither the model nor the user states the preprocessing, or it is invalid.
    """
    if own is not None and own.frame is not None:
        _refuse_for_frames(stated, path, own)
    spec = stated if isinstance(stated, Preprocessing) else _from_stated(_as_options(stated), path, own, shape, dtype)
    for key, (chosen, models) in (describe_difference(spec, own) if own is not None else {}).items():
        report(f"{key} is {chosen} as the options specify; the model was made for {models}")
    if "uint8" in (dtype, spec.dtype) and dtype != spec.dtype:
        if dtype == "uint8":
            remedy = "leave --scale, --mean and --std out, or pass --dtype uint8"
        else:
            remedy = "leave --dtype out, and pass --scale, --mean and --std"
        raise UsageError(f"{path}: accepts images as {dtype}, but they would be prepared as {spec.dtype}", remedy)
    if spec != own and any(size not in (None, made) for size, made in zip(shape[1:], spec.input_shape)):
        wanted = sizes_text(shape[1:])
        made = f"{spec.dtype} {spec.input_shape}"
        raise UsageError(
            f"{path}: accepts images as {dtype} ({wanted}), but they would be prepared as {made}",
            "pass the model's own --crop and --layout",
        )
    return spec


def module_preprocessing(stated: StatedPreprocessing, declared: Optional[Preprocessing], place: str) -> Preprocessing:
    """The preprocessing that a PyTorch model declares, refined or replaced by what is stated.

    Args:
        stated: As for `choose_preprocessing`.
        declared: What the model declares.
        place: The model, for the message.

    Raises:
        UsageError: Neither states how images are prepared, or the options are invalid.
    """
    if isinstance(stated, Preprocessing):
        return stated
    options = _as_options(stated)
    base = read_preprocessing(options.preprocessing) if options.preprocessing else declared
    changes = options.changes()
    if base is not None:
        return replace(base, **changes)
    if not {"crop", "mean", "std"} <= set(changes):
        raise UsageError(
            f"{place}: the model does not state how its images are prepared",
            "pass --preprocessing imagenet, torchvision, plain or a JSON file, or --crop, --mean and --std",
        )
    # Pixels are scaled as in torchvision's ToTensor; without a requested resize the image's short side is used.
    usual = {"scale": 1 / 255, "resize": None if "resize_mode" in changes else max(changes["crop"])}
    return _from_options({**usual, **changes})


def _refuse_for_frames(stated: StatedPreprocessing, path: str, own: Preprocessing) -> None:
    why = f"would change nothing: {path} takes {own.describe_frame()} and prepares them itself"
    if isinstance(stated, Preprocessing):
        if stated != own:
            raise UsageError(f"another preprocessing {why}")
        return
    given = next((name for name, value in vars(_as_options(stated)).items() if value is not None), None)
    if given is not None:
        raise UsageError(f"{flag_of(PreprocessingOptions, given)} {why}")


def _as_options(stated: Union[PreprocessingOptions, str, None]) -> PreprocessingOptions:
    return stated if isinstance(stated, PreprocessingOptions) else PreprocessingOptions(preprocessing=stated)


def _from_stated(
    options: PreprocessingOptions, path: str, own: Optional[Preprocessing], shape: Shape, dtype: str
) -> Preprocessing:
    changes = options.changes()
    if options.preprocessing:
        named, stated = preprocessing_fields(options.preprocessing)
        geometry = _geometry(shape, changes.get("resize_mode", named.get("resize_mode", "short-side")))
        size = geometry.get("crop")
        if "crop" in stated and size is not None and named["crop"] != list(size) and "crop" not in changes:
            raise UsageError(
                f"{options.preprocessing}: a crop of {named['crop']} is not the input of {path}, {list(size)}",
                "leave crop out of the file, or correct it",
            )
        geometry = {key: value for key, value in geometry.items() if key not in stated}
        return Preprocessing.from_dict({**named, **geometry, **changes})
    if own is not None:
        return Preprocessing.from_dict({**asdict(own), **changes})
    if {"scale", "mean", "std"} & set(changes):
        return _from_options({**_geometry(shape, changes.get("resize_mode", "short-side")), **changes})
    if dtype == "uint8":
        return _raw_pixels(changes, path, shape)
    raise UsageError(
        f"{path}: the model does not state how its images are prepared",
        "pass --preprocessing imagenet, torchvision, bvlc or a JSON file, or --scale, --mean and --std",
    )


def _raw_pixels(changes: Dict[str, Any], path: str, shape: Shape) -> Preprocessing:
    """The preprocessing of a model that normalises inside."""
    if not {"resize", "crop", "resize_mode"} & set(changes):
        raise UsageError(
            f"{path}: the model accepts uint8 pixels as they are, but does not state how images are resized",
            "pass --resize, --crop or --resize-mode",
        )
    geometry = _geometry(shape, changes.get("resize_mode", "short-side"))
    return _from_options({**geometry, "dtype": "uint8", **changes})


def _geometry(shape: Shape, resize_mode: str) -> Dict[str, Any]:
    """Crop, layout and resize that the shape of a model's input suggests."""
    layout = "NHWC" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW"
    height, width = (shape[1], shape[2]) if layout == "NHWC" else (shape[2], shape[3])
    if height is None or width is None:
        return {"layout": layout}
    # The usual ratio of resize to crop, 256 to 224; a stretch or a letterbox usually ends in the crop itself.
    resize = round(max(height, width) * 256 / 224) if resize_mode == "short-side" else None
    return {"layout": layout, "crop": (height, width), "resize": resize}


def _from_options(changes: Dict[str, Any]) -> Preprocessing:
    count = len(changes.get("channels", "RGB"))
    plain = {"scale": 1.0, "mean": (0.0,) * count, "std": (1.0,) * count}
    return Preprocessing(**{**plain, **changes})
