"""The one specification of how an image becomes a network's input.

Training's evaluation, calibration, `evaluate` and the device all read this specification, and one
implementation (`preprocess.py`) carries it out. It travels as JSON in the model's metadata.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, Mapping, Optional, Tuple

from googlenet_deploy.errors import UsageError

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
CHANNEL_ORDERS = ("RGB", "BGR", "L")
LAYOUTS = ("NCHW", "NHWC")
DTYPES = ("float32", "uint8")
# Far above any classifier's input; a damaged or hostile model must not make us fill the memory.
LARGEST_SIDE = 8192


@dataclass(frozen=True)
class Preprocessing:
    """Resize of the short side, centre crop, channel order, then ``(pixel * scale - mean) / std``.

    Attributes:
        resize: Length of the short side after resizing, in pixels; None keeps the image's size.
        crop: (height, width) of the centre crop, in pixels; the network's input size.
        interpolation: Filter of the resize, one of `INTERPOLATIONS`; antialiased, as Pillow does it.
        channels: Order of the channels, one of `CHANNEL_ORDERS`; "L" is one channel of luminance.
        scale: Multiplies the 8-bit pixel values 0..255 before the mean is subtracted.
        mean: Per channel, in `channels` order, after `scale`.
        std: Per channel, in `channels` order, after `scale`.
        layout: "NCHW" or "NHWC".
        dtype: "float32", or "uint8" where the network normalises inside (then scale 1, mean 0, std 1).
    """

    resize: Optional[int] = 256
    crop: Tuple[int, int] = (224, 224)
    interpolation: str = "bilinear"
    channels: str = "RGB"
    scale: float = 1.0 / 255.0
    mean: Tuple[float, ...] = (0.485, 0.456, 0.406)
    std: Tuple[float, ...] = (0.229, 0.224, 0.225)
    layout: str = "NCHW"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        _check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        _check_choice("channels", self.channels, CHANNEL_ORDERS)
        _check_choice("layout", self.layout, LAYOUTS)
        _check_choice("dtype", self.dtype, DTYPES)
        self._check_normalisation()
        self._check_geometry()
        identity = self.scale == 1.0 and not any(self.mean) and all(value == 1.0 for value in self.std)
        if self.dtype == "uint8" and not identity:
            raise UsageError("preprocessing: a uint8 input takes raw pixels: scale 1, mean 0, std 1")

    def _check_normalisation(self) -> None:
        count = len(self.channels)
        if len(self.mean) != count or len(self.std) != count:
            raise UsageError(f"preprocessing: mean and std need {count} values each for channels {self.channels}")
        if not all(_is_number(value) for value in (self.scale, *self.mean, *self.std)):
            raise UsageError("preprocessing: scale, mean and std must be finite numbers")
        if self.scale <= 0 or any(value <= 0 for value in self.std):
            raise UsageError("preprocessing: scale and every std must be greater than 0")

    def _check_geometry(self) -> None:
        crop: Tuple[int, ...] = self.crop
        sides = crop if self.resize is None else (*crop, self.resize)
        if len(crop) != 2 or not all(isinstance(side, int) for side in sides):
            raise UsageError("preprocessing: crop and resize are whole numbers of pixels: crop (height, width), resize")
        if min(self.crop) < 1 or (self.resize is not None and self.resize < max(self.crop)):
            raise UsageError(f"preprocessing: a crop of {self.crop} does not fit in a short side of {self.resize}")
        if max(sides) > LARGEST_SIDE:
            raise UsageError(f"preprocessing: {max(sides)} pixels are more than the limit of {LARGEST_SIDE}")

    @property
    def input_shape(self) -> Tuple[int, int, int]:
        """Shape of one prepared image, without the batch: (C, H, W) or (H, W, C), as `layout` says."""
        height, width = self.crop
        channels = len(self.channels)
        return (channels, height, width) if self.layout == "NCHW" else (height, width, channels)

    def with_uint8_input(self) -> Preprocessing:
        """The same geometry for a network that takes raw NHWC uint8 RGB pixels and normalises inside."""
        channels = "L" if self.channels == "L" else "RGB"
        count = len(channels)
        return replace(
            self,
            channels=channels,
            scale=1.0,
            mean=(0.0,) * count,
            std=(1.0,) * count,
            layout="NHWC",
            dtype="uint8",
        )

    def to_json(self) -> str:
        """One line of JSON with the keys in a fixed order, so that equal specifications are equal bytes."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Reads what `to_json` wrote.

        Raises:
            UsageError: A key is unknown or a value is out of range.
        """
        known = dict(values)
        for key in ("crop", "mean", "std"):
            if key in known and not isinstance(known[key], (list, tuple)):
                raise UsageError(f"preprocessing: {key} is {known[key]!r}, must be a list of numbers")
            if key in known:
                known[key] = tuple(known[key])
        try:
            return cls(**known)
        except TypeError as error:
            unknown = str(error).replace("__init__()", "").replace(f"{cls.__name__}.", "").strip()
            raise UsageError(f"preprocessing: {unknown}") from error

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Reads what `to_json` wrote; see `from_dict`.

        Raises:
            UsageError: The text is not a JSON object, a key is unknown or a value is out of range.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"preprocessing: not JSON: {error}") from error
        if not isinstance(values, dict):
            raise UsageError("preprocessing: not a JSON object")
        return cls.from_dict(values)


def describe_difference(ours: Preprocessing, theirs: Preprocessing) -> Dict[str, Tuple[Any, Any]]:
    """The fields in which two specifications differ, each with both values; empty where they are equal."""
    first, second = asdict(ours), asdict(theirs)
    return {key: (first[key], second[key]) for key in first if first[key] != second[key]}


def _is_number(value: object) -> bool:
    """Whether it is a number that float32 can hold; neither NaN nor infinite."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -3e38 < value < 3e38


def _check_choice(field: str, value: str, choices: Tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"preprocessing: {field} is {value!r}, must be one of {', '.join(choices)}")


# Published with the weights: BVLC's model zoo and torchvision's googlenet. torchvision's `transform_input`
# maps ImageNet-normalised values back, so that in all its network sees exactly (x - 0.5) / 0.5.
BVLC = Preprocessing(channels="BGR", scale=1.0, mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0))
TORCHVISION = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
