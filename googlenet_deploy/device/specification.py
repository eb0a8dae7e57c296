"""The single specification of how an image becomes a network's input.

Training's evaluation, calibration, `evaluate` and the device all read this specification, and one
implementation (`preprocess.py`) executes it. It is stored as JSON in the model's metadata.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, FrozenSet, Mapping, Optional, Tuple, Union

from googlenet_deploy.errors import InputError, UsageError

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
RESIZE_MODES = ("short-side", "stretch", "letterbox")
CHANNEL_ORDERS = ("RGB", "BGR", "L")
LAYOUTS = ("NCHW", "NHWC")
DTYPES = ("float32", "uint8")
IMAGE_BACKENDS = ("pillow", "opencv")  # libraries for the resize
# How a camera delivers frames. NV12 is a plane of luma and one of interleaved chroma of half the size, in video range.
FRAME_FORMATS = ("rgb", "bgr", "nv12", "nv12-bt709")
YUV_MATRICES = ("bt601", "bt709")
_YUV_OF_FORMAT = {"nv12": "bt601", "nv12-bt709": "bt709"}
# Far above any classifier's input; a damaged or malicious model must not exhaust memory.
LARGEST_SIDE = 8192
LARGEST_VALUE = 1e9  # of a prepared pixel; networks expect values of about 1, or up to 255


@dataclass(frozen=True)
class Preprocessing:
    """Resize, centre crop, channel order, then ``(pixel * scale - mean) / std``.

    Attributes:
        resize: In pixels. Mode "short-side": length of the short side after resizing, None keeps the image's size.
            Modes "stretch" and "letterbox": (height, width) before the crop, None resizes to the crop itself; a single
            number means a square and becomes a pair.
        crop: (height, width) of the centre crop, in pixels; the network's input size.
        interpolation: Filter of the resize, one of `INTERPOLATIONS`.
        channels: Order of the channels, one of `CHANNEL_ORDERS`; "L" is one channel of luminance.
        scale: Multiplies the 8-bit pixel values 0..255 before the mean is subtracted.
        mean: Per channel, in `channels` order, after `scale`.
        std: Per channel, in `channels` order, after `scale`.
        layout: "NCHW" or "NHWC".
        dtype: "float32", or "uint8" if the network normalises inside (then scale 1, mean 0, std 1).
        resize_mode: "short-side" keeps the aspect ratio and fills the crop; "stretch" does not keep it; "letterbox"
            keeps it, fits the whole image in and fills the bars on both sides with `fill`.
        antialias: Whether the filter is widened for downscaling, as in Pillow. False is what most C++ and CUDA
            programs compute: OpenCV's filter of the same name (nearest then uses pixel ``floor(i * ratio)``).
        fill: Of "letterbox": one value 0..255 for all channels, or three in RGB order.
        frame: (height, width) of the camera frames that a network takes which resizes, crops and normalises inside; the
            geometry above is then what its graph computes. None for a network that takes prepared images.
        frame_yuv: Colour matrix of NV12 frames, one of `YUV_MATRICES`, in video range; None for RGB, BGR or grey ones.
    """

    resize: Union[int, Tuple[int, int], None] = 256
    crop: Tuple[int, int] = (224, 224)
    interpolation: str = "bilinear"
    channels: str = "RGB"
    scale: float = 1.0 / 255.0
    mean: Tuple[float, ...] = (0.485, 0.456, 0.406)
    std: Tuple[float, ...] = (0.229, 0.224, 0.225)
    layout: str = "NCHW"
    dtype: str = "float32"
    resize_mode: str = "short-side"
    antialias: bool = True
    fill: Tuple[int, ...] = (0,)
    frame: Optional[Tuple[int, int]] = None
    frame_yuv: Optional[str] = None

    def __post_init__(self) -> None:
        _check_choice("resize_mode", self.resize_mode, RESIZE_MODES)
        _check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        _check_choice("channels", self.channels, CHANNEL_ORDERS)
        _check_choice("layout", self.layout, LAYOUTS)
        _check_choice("dtype", self.dtype, DTYPES)
        self._check_normalisation()
        self._check_geometry()
        identity = self.scale == 1.0 and not any(self.mean) and all(value == 1.0 for value in self.std)
        if self.dtype == "uint8" and not identity:
            raise UsageError("preprocessing: a uint8 input accepts raw pixels: scale 1, mean 0, std 1")
        self._check_frame()

    def _check_normalisation(self) -> None:
        count = len(self.channels)
        if len(self.mean) != count or len(self.std) != count:
            raise UsageError(f"preprocessing: mean and std need {count} values each for channels {self.channels}")
        if not all(_is_number(value) for value in (self.scale, *self.mean, *self.std)):
            raise UsageError("preprocessing: scale, mean and std must be finite numbers")
        if self.scale <= 0 or any(value <= 0 for value in self.std):
            raise UsageError("preprocessing: scale and every std must be greater than 0")
        ends = [(pixel * self.scale - m) / s for pixel in (0, 255) for m, s in zip(self.mean, self.std)]
        if max(map(abs, ends)) > LARGEST_VALUE:
            worst = max(ends, key=abs)
            raise UsageError(
                f"preprocessing: with this scale, mean and std a pixel becomes {worst:.3g}; "
                f"no network expects more than {LARGEST_VALUE:g}"
            )

    def _check_geometry(self) -> None:
        if self.resize_mode != "short-side" and _is_whole(self.resize):
            object.__setattr__(self, "resize", (self.resize, self.resize))
        crop: Tuple[int, ...] = self.crop
        resize: Any = self.resize
        pair = self.resize_mode != "short-side" and isinstance(resize, tuple) and len(resize) == 2
        sides = crop if resize is None else (*crop, *resize) if pair else (*crop, resize)
        if len(crop) != 2 or not all(map(_is_whole, sides)):
            form = "resize" if self.resize_mode == "short-side" else "resize (height, width)"
            raise UsageError(
                f"preprocessing: crop and resize are whole numbers of pixels: crop (height, width), {form}"
            )
        if max(sides) > LARGEST_SIDE:
            raise UsageError(f"preprocessing: {max(sides)} pixels are more than the limit of {LARGEST_SIDE}")
        if min(crop) < 1 or (resize is not None and not pair and resize < max(crop)):
            raise UsageError(f"preprocessing: a crop of {self.crop} does not fit in a short side of {resize}")
        if pair and (resize[0] < crop[0] or resize[1] < crop[1]):
            raise UsageError(f"preprocessing: a crop of {self.crop} does not fit in a resize to {resize}")
        self._check_filter()

    def _check_filter(self) -> None:
        if not isinstance(self.antialias, bool):
            raise UsageError(f"preprocessing: antialias is {self.antialias!r}, must be true or false")
        if len(self.fill) not in (1, len(self.channels)) or not all(
            _is_whole(value) and 0 <= value <= 255 for value in self.fill
        ):
            raise UsageError("preprocessing: fill is one value 0..255, or one for each channel in RGB order")
        if self.resize_mode != "letterbox" and any(self.fill):
            raise UsageError(f"preprocessing: fill is for resize_mode letterbox, not {self.resize_mode}")

    def _check_frame(self) -> None:
        if self.frame is None:
            if self.frame_yuv is not None:
                raise UsageError("preprocessing: frame_yuv is for networks that take frames")
            return
        sides: Tuple[int, ...] = self.frame
        if len(sides) != 2 or not all(_is_whole(side) and 1 <= side <= LARGEST_SIDE for side in sides):
            raise UsageError(f"preprocessing: frame is (height, width), each from 1 to {LARGEST_SIDE} pixels")
        if self.dtype != "uint8" or self.layout != "NHWC":
            raise UsageError("preprocessing: frames are uint8 NHWC")
        if self.frame_yuv is not None:
            _check_choice("frame_yuv", self.frame_yuv, YUV_MATRICES)
            if sides[0] % 2 or sides[1] % 2 or self.channels != "RGB":
                raise UsageError("preprocessing: NV12 frames have even sides and three colours")

    @property
    def target(self) -> Tuple[int, int]:
        """(height, width) that modes "stretch" and "letterbox" resize to before the crop.

        Raises:
            UsageError: The mode is "short-side", whose size depends on the image.
        """
        if self.resize_mode == "short-side":
            raise UsageError("preprocessing: with resize_mode short-side the size depends on the image")
        return self.resize if isinstance(self.resize, tuple) else self.crop

    @property
    def short_side(self) -> Optional[int]:
        """Length of the short side after resizing in mode "short-side"; None if the image keeps its size.

        Raises:
            UsageError: The mode is a different one, which resizes to `target`.
        """
        if self.resize_mode != "short-side" or isinstance(self.resize, tuple):
            raise UsageError(f"preprocessing: resize_mode {self.resize_mode} does not resize by the short side")
        return self.resize

    def describe_geometry(self) -> str:
        """Describes resize and crop, such as "short side to 256, 224 x 224 (height x width) out of the middle"."""
        cut = f"{self.crop[0]} x {self.crop[1]} (height x width)"
        if self.resize_mode == "short-side":
            resized = "no resize" if self.resize is None else f"short side to {self.resize}"
            text = f"{resized}, {cut} out of the middle"
        else:
            size = f"{self.target[0]} x {self.target[1]} (height x width)"
            text = f"stretched to {size}" if self.resize_mode == "stretch" else f"fitted into {size}"
            text += f", bars of {', '.join(map(str, self.fill))}" if self.resize_mode == "letterbox" else ""
            text += f", {cut} out of the middle" if self.target != self.crop else ""
        text += f", {self.interpolation}{'' if self.antialias else ' without antialiasing'}"
        return text if self.frame is None else f"{self.describe_frame()}; inside the network: {text}"

    def describe_frame(self) -> str:
        """The frames that the network takes, such as "RGB frames of 1080 x 1920 (height x width)"."""
        assert self.frame is not None
        kind = "grey" if self.channels == "L" else self.channels
        if self.frame_yuv is not None:
            kind = f"NV12 (BT.{self.frame_yuv[2:]})"
        return f"{kind} frames of {self.frame[0]} x {self.frame[1]} (height x width)"

    @property
    def pixel_size(self) -> Tuple[int, int]:
        """(height, width) of the pixels that are normalised: of the frame if there is one, else of the crop."""
        return self.crop if self.frame is None else self.frame

    @property
    def input_shape(self) -> Tuple[int, int, int]:
        """Shape of one prepared image, without the batch: (C, H, W) or (H, W, C), depending on `layout`.

        An NV12 frame is (H * 3 / 2, W, 1): the rows of luma, then those of interleaved chroma.
        """
        height, width = self.pixel_size
        if self.frame_yuv is not None:
            return height * 3 // 2, width, 1
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
            frame=None,
            frame_yuv=None,
        )

    def with_frame_input(self, frame: Tuple[int, int], frame_format: str = "rgb") -> Preprocessing:
        """The same geometry for a network that takes a camera's frames and resizes, crops and normalises inside.

        Args:
            frame: (height, width) of the frames.
            frame_format: One of `FRAME_FORMATS`; "rgb" and "bgr" mean grey if the network sees luminance only.
        """
        raw = replace(self.with_uint8_input(), frame=frame, frame_yuv=_YUV_OF_FORMAT.get(frame_format))
        return replace(raw, channels="BGR") if frame_format == "bgr" and raw.channels == "RGB" else raw

    @property
    def frame_format(self) -> str:
        """The format of the frames, one of `FRAME_FORMATS`, or "l" for grey ones."""
        formats = {matrix: name for name, matrix in _YUV_OF_FORMAT.items()}
        return self.channels.lower() if self.frame_yuv is None else formats[self.frame_yuv]

    def to_json(self) -> str:
        """One line of JSON with the keys in a fixed order, so that equal specifications are equal bytes.

        Fields that were added later, from `resize_mode` on, are left out at their defaults, so that specifications
        without them keep their original form.
        """
        return json.dumps(self.to_dict(), separators=(",", ":"))

    def to_dict(self) -> Dict[str, Any]:
        """The fields that `to_json` writes, in its order."""
        values = asdict(self)
        return {key: value for key, value in values.items() if _LATER_FIELDS.get(key, _NEVER) != value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Reads what `to_json` wrote.

        Raises:
            UsageError: A key is unknown or a value is out of range.
        """
        known = dict(values)
        if isinstance(known.get("resize"), list):
            known["resize"] = tuple(known["resize"])
        for key in ("crop", "mean", "std", "fill", *(("frame",) if known.get("frame") is not None else ())):
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
        return cls.from_dict(read_fields(text))


def read_fields(text: str) -> Dict[str, Any]:
    """The fields that a JSON object states, unchecked.

    Raises:
        UsageError: The text is not a JSON object.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"preprocessing: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise UsageError("preprocessing: not a JSON object")
    return values


def read_preprocessing(name: str) -> Preprocessing:
    """A published preprocessing by its name ("imagenet", "torchvision", "bvlc"), or one from a JSON file.

    Raises:
        InputError: It is neither a name nor a readable file.
        UsageError: The file is invalid.
    """
    return Preprocessing.from_dict(preprocessing_fields(name)[0])


def preprocessing_fields(name: str) -> Tuple[Dict[str, Any], FrozenSet[str]]:
    """The fields of a preprocessing by its name or from a JSON file, and which of them a file states.

    Raises:
        InputError: It is neither a name nor a readable file.
        UsageError: The file is not a JSON object.
    """
    presets = {"bvlc": BVLC, "torchvision": TORCHVISION, "imagenet": Preprocessing(), "plain": PLAIN}
    if name in presets:
        return asdict(presets[name]), frozenset()
    try:
        fields = read_fields(Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(name, f"is not a preprocessing: choose {', '.join(presets)}, or a JSON file") from error
    return fields, frozenset(fields)


def describe_difference(ours: Preprocessing, theirs: Preprocessing) -> Dict[str, Tuple[Any, Any]]:
    """The fields in which two specifications differ, each with both values; empty if they are equal."""
    first, second = asdict(ours), asdict(theirs)
    return {key: (first[key], second[key]) for key in first if first[key] != second[key]}


# Fields added after the first files were written, with the values that those files imply.
_LATER_FIELDS: Dict[str, Any] = {
    "resize_mode": "short-side", "antialias": True, "fill": (0,), "frame": None, "frame_yuv": None,
}  # fmt: skip
_NEVER = object()


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
# The plain GoogLeNet, of github.com/namduhus/GoogLeNet, sees images stretched to its input, normalised for ImageNet.
PLAIN = Preprocessing(resize=None, resize_mode="stretch")
