"""Class names: ImageNet's thousand, and lists that the user brings."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Tuple

from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.resources import read_resource
from googlenet_deploy.errors import InputError

SYNSETS = "imagenet_synsets.txt"


class ImageNetClass(NamedTuple):
    """A class of ILSVRC 2012: its WordNet id such as "n01440764", and its names, separated by commas."""

    wordnet_id: str
    name: str


@lru_cache(maxsize=1)
def imagenet_classes() -> Tuple[ImageNetClass, ...]:
    """The 1000 classes of ILSVRC 2012 in the order of the logits (sorted by WordNet id), as Caffe lists them."""
    lines = read_resource(SYNSETS).splitlines()
    return tuple(ImageNetClass(*line.split(" ", 1)) for line in lines)


def read_class_names(path: PathLike) -> Tuple[str, ...]:
    """Class names from a text file, one per line, in the order of the logits; blank lines at the end are dropped.

    Raises:
        InputError: The file cannot be read, is not text, or is empty.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").rstrip().splitlines()
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(path, "is not a text file with one class name per line") from error
    if not lines:
        raise InputError(path, "holds no class names")
    return tuple(line.strip() for line in lines)


def short_name(name: str) -> str:
    """The first of a class's names: "tench" for "tench, Tinca tinca"."""
    return name.partition(",")[0]
