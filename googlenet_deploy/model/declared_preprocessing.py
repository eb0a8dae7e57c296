"""The preprocessing declared by a model of another library.

timm keeps it in ``model.pretrained_cfg``: input_size, mean, std, interpolation, crop_pct and crop_mode, as
``timm.data.create_transform`` reads them. torchvision keeps it with the weights: ``WEIGHTS.transforms()`` is a
preset with crop_size, resize_size, mean, std, interpolation and antialias. A user's module may hold either.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from googlenet_deploy.device.specification import INTERPOLATIONS, Preprocessing
from googlenet_deploy.errors import GoogLeNetDeployError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_CROP_PCT = 0.875  # timm's


class Declared(NamedTuple):
    """A preprocessing and its origin, for a note."""

    preprocessing: Preprocessing
    origin: str


def declared_preprocessing(model: object, function: object, named: Mapping[str, Any]) -> Declared | None:
    """The preprocessing that a model declares; None without one, or if this toolkit cannot reproduce it.

    Args:
        model: The model.
        function: The function that made it; for torchvision's builders, the weights passed to them declare it.
        named: The keyword arguments of that call.
    """
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    values = asdict(config) if is_dataclass(config) and not isinstance(config, type) else config
    try:
        if isinstance(values, dict) and values.get("input_size"):
            return Declared(_from_timm(values), "timm's pretrained_cfg")
        preset = getattr(model, "transforms", None) or _torchvision_transforms(function, named)
        preset = preset() if callable(preset) and not hasattr(preset, "crop_size") else preset
        if hasattr(preset, "crop_size") and hasattr(preset, "mean"):
            return Declared(_from_torchvision(preset), "that of torchvision's transforms()")
    except (GoogLeNetDeployError, TypeError, ValueError, KeyError):
        return None  # the caller then asks the user for it
    return None


def _from_timm(config: Mapping[str, Any]) -> Preprocessing:
    channels, height, width = (int(size) for size in config["input_size"])
    # timm/data/transforms_factory.py: the size before the crop is rounded down.
    share = float(config.get("crop_pct") or DEFAULT_CROP_PCT)
    resized = math.floor(height / share), math.floor(width / share)
    mode = config.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise ValueError(f"crop mode {mode}")
    if mode == "center" and height != width:
        raise ValueError("a crop that is not square")
    return Preprocessing(
        resize=resized if mode == "squash" else resized[0],
        resize_mode="stretch" if mode == "squash" else "short-side",
        crop=(height, width),
        interpolation=_known(str(config.get("interpolation") or "bilinear")),
        channels="L" if channels == 1 else "RGB",
        mean=tuple(float(value) for value in config["mean"]),
        std=tuple(float(value) for value in config["std"]),
    )


def _from_torchvision(preset: Any) -> Preprocessing:  # noqa: ANN401 - torchvision is not required
    crop, resize = _side(preset.crop_size), _side(preset.resize_size)
    interpolation = getattr(preset, "interpolation", "bilinear")
    return Preprocessing(
        resize=resize,
        crop=(crop, crop),
        interpolation=_known(str(getattr(interpolation, "value", interpolation))),
        mean=tuple(float(value) for value in preset.mean),
        std=tuple(float(value) for value in preset.std),
        antialias=bool(getattr(preset, "antialias", True)),
    )


def _torchvision_transforms(function: object, named: Mapping[str, Any]) -> object:
    """The transforms of the weights that a torchvision builder was called with, or None."""
    weights = named.get("weights")
    if not str(getattr(function, "__module__", "")).startswith("torchvision.models") or not weights:
        return None
    models: Any = importlib.import_module("torchvision.models")  # only if it made the model
    kinds = models.get_model_weights(getattr(function, "__name__", ""))
    entry: Any = kinds[str(weights).rpartition(".")[2]]
    return entry.transforms()


def _side(size: Any) -> int:  # noqa: ANN401 - a number or a list of one
    sides = list(size) if isinstance(size, list | tuple) else [size]
    if len(sides) != 1:
        raise ValueError(f"a size of {sides}")
    return int(sides[0])


def _known(interpolation: str) -> str:
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation {interpolation}")
    return interpolation
