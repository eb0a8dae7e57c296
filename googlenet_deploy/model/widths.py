"""The number of channels of every convolution of a GoogLeNet, as data: the paper's, scaled, or pruned.

A network of these widths is built without code of its own, so a checkpoint of a pruned network stores only numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from googlenet_deploy.model.architecture import (
    AUXILIARY_CONV_WIDTH,
    AUXILIARY_HIDDEN_WIDTH,
    INCEPTION_WIDTHS,
    STEM_WIDTHS,
    Architecture,
    InceptionWidths,
    scale_channels,
)

STEM = ("conv1", "conv2", "conv3")
AUXILIARY = "auxiliary"
# A damaged or hostile file must not make us build a model that fills the memory.
LARGEST_FACTOR = 4.0
# Paths of a module's six convolutions, in the order of `InceptionWidths`.
_PLACES = ("1", "2.0", "2.1", "3.0", "3.1", "4.1")


@dataclass(frozen=True)
class Widths:
    """Output channels of the convolutions.

    Attributes:
        stem: Channels of conv1, conv2 and conv3.
        modules: Widths of the nine Inception modules by name, in their order.
        auxiliary: Channels and hidden units of the auxiliary classifiers, whether the network has them or not.
    """

    stem: tuple[int, int, int]
    modules: Mapping[str, InceptionWidths]
    auxiliary: tuple[int, int]

    @property
    def channels(self) -> dict[str, int]:
        """Every convolution's channels in the order of the network: "conv1", ..., "inception3a.conv1x1", ..."""
        inside = {
            f"{name}.{branch}": count for name, widths in self.modules.items() for branch, count in _named(widths)
        }
        return {**dict(zip(STEM, self.stem, strict=True)), **inside}

    def with_channels(self, channels: Mapping[str, int]) -> Widths:
        """A copy with other channels, by the names of `channels`; layers that are not listed keep theirs."""
        found = {**self.channels, **channels}
        modules = {
            name: InceptionWidths(*(found[f"{name}.{branch}"] for branch in InceptionWidths._fields))
            for name in self.modules
        }
        conv1, conv2, conv3 = (found[name] for name in STEM)
        return Widths((conv1, conv2, conv3), modules, self.auxiliary)

    def input_channels(self, image_channels: int) -> dict[str, int]:
        """Every convolution's input channels, and those of the classifier as "fc"."""
        conv1, conv2, channels = self.stem
        found = dict(zip(STEM, (image_channels, conv1, conv2), strict=True))
        for name, widths in self.modules.items():
            inputs = (channels, channels, widths.reduce3x3, channels, widths.reduce5x5, channels)
            found |= {f"{name}.{branch}": count for (branch, _), count in zip(_named(widths), inputs, strict=True)}
            channels = widths.out_channels
        return {**found, "fc": channels}

    def to_json(self) -> str:
        """JSON for a checkpoint's metadata; equal widths produce equal text."""
        values = {**dict(zip(STEM, self.stem, strict=True)), **self.modules, AUXILIARY: self.auxiliary}
        return json.dumps(values, separators=(",", ":"))


def scaled_widths(width: float) -> Widths:
    """The widths of the paper's Table 1, each multiplied by `width`; see `scale_channels`."""
    conv1, conv2, conv3 = (scale_channels(channels, width) for channels in STEM_WIDTHS)
    modules = {name: widths.scaled(width) for name, widths in INCEPTION_WIDTHS.items()}
    heads = scale_channels(AUXILIARY_CONV_WIDTH, width), scale_channels(AUXILIARY_HIDDEN_WIDTH, width)
    return Widths((conv1, conv2, conv3), modules, heads)


def parse_widths(text: str) -> Widths:
    """Reads what `Widths.to_json` wrote.

    Raises:
        ValueError: The text has another form, or a number is out of range; the message names the layer.
    """
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError("widths are nested too deeply") from error
    largest = scaled_widths(LARGEST_FACTOR)
    if not isinstance(values, dict) or set(values) != {*STEM, *largest.modules, AUXILIARY}:
        raise ValueError(f"widths do not name {', '.join(STEM)}, the nine modules and {AUXILIARY}")
    stem = [_checked(name, [values[name]], [most])[0] for name, most in zip(STEM, largest.stem, strict=True)]
    modules = {
        name: InceptionWidths(*_checked(name, values[name], list(most))) for name, most in largest.modules.items()
    }
    heads = _checked(AUXILIARY, values[AUXILIARY], list(largest.auxiliary))
    return Widths((stem[0], stem[1], stem[2]), modules, (heads[0], heads[1]))


def convolution_paths(architecture: Architecture) -> dict[str, str]:
    """By the names of `Widths.channels`, the modules whose outputs have these channels: blocks, or bare layers."""
    kind = "layer" if architecture.bare_layers else "branch"
    inside = {
        f"{name}.{branch}": f"{name}.{kind}{place}"
        for name in INCEPTION_WIDTHS
        for branch, place in zip(InceptionWidths._fields, _PLACES, strict=True)
    }
    return {**{name: name for name in STEM}, **inside}


def _named(widths: InceptionWidths) -> list[tuple[str, int]]:
    return list(zip(widths._fields, widths, strict=True))


def _checked(name: str, counts: Any, most: list[int]) -> list[int]:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(counts, list) or len(counts) != len(most):
        raise ValueError(f"widths of {name} are not {len(most)} numbers")
    for count, limit in zip(counts, most, strict=True):
        if type(count) is not int or not 1 <= count <= limit:
            raise ValueError(f"a width of {name} is {count!r}, must be a whole number from 1 to {limit}")
    return counts
