"""Class names: ImageNet's thousand, short names, and checks whether names fit a model."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, Sequence, Tuple

from googlenet_deploy.device.resources import read_resource

SYNSETS = "imagenet_synsets.txt"
BACKGROUND_FIRST = (
    "the model probably has a background class first, as TensorFlow's models do: pass --class-names a list that begins "
    "with the line `background`"
)
_BACKGROUND = ("background", "__background__", "_background_", "dummy", "none")


class ImageNetClass(NamedTuple):
    """A class of ILSVRC 2012: its WordNet id such as "n01440764", and its names, separated by commas."""

    wordnet_id: str
    name: str


@lru_cache(maxsize=1)
def imagenet_classes() -> Tuple[ImageNetClass, ...]:
    """The 1000 classes of ILSVRC 2012 in the order of the logits (sorted by WordNet id), as Caffe lists them."""
    lines = read_resource(SYNSETS).splitlines()
    return tuple(ImageNetClass(*line.split(" ", 1)) for line in lines)


def wordnet_ids_of(names: Sequence[str]) -> Tuple[str, ...]:
    """The WordNet ids of class names that are ImageNet's thousand in their order, whole or short; empty for others."""
    classes = imagenet_classes()
    if len(names) != len(classes):
        return ()
    same = all(_key(short_name(name)) == _key(short_name(entry.name)) for name, entry in zip(names, classes))
    return tuple(entry.wordnet_id for entry in classes) if same else ()


def count_mismatch(count: int, names: Sequence[str]) -> str:
    """Why the number of names may differ from the number of classes, and the remedy.

    Args:
        count: Number of the model's classes.
        names: The names.
    """
    first = short_name(names[0]).strip().lower() if names else ""
    has_background = first in _BACKGROUND
    if count == len(names) + 1 and not has_background:
        return BACKGROUND_FIRST
    if count == len(names) - 1 and has_background:
        return f"the names begin with {names[0]!r}, which the model lacks: remove that line"
    if count == len(names) - 1 and first in ("name", "names", "class", "label", "labels", "class_name"):
        return f"the names begin with a heading, {names[0]!r}: remove that line"
    if names and not all(name.strip() for name in names):
        return "the list has blank lines: remove them"
    return "pass the names that the model was trained with, in its order"


def _key(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def short_name(name: str) -> str:
    """The first of a class's names: "tench" for "tench, Tinca tinca"."""
    return name.partition(",")[0]
