"""The user's own images for verification."""

from __future__ import annotations

from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.images.sources import ImageSource, find_images
from googlenet_deploy.device.preprocess import crop_pixels
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadImageError, InputError, UsageError, requires
from googlenet_deploy.export.samples import Pixels, Samples, prepare

with requires("export"):
    import numpy as np


def folder_samples(folder: PathLike, preprocessing: Preprocessing, count: int) -> Samples:
    """Takes up to `count` images, evenly spread over a folder's sorted files; unusable ones are counted in `origin`.

    Raises:
        InputError: The folder does not exist or holds no usable image.
    """
    sources = find_images([folder]).images
    chosen = [sources[index * len(sources) // count] for index in range(count)] if len(sources) > count else sources
    pixels: list[Pixels] = []
    problem = "holds no image"
    for source in chosen:
        try:
            pixels.append(_read(source, preprocessing))
        except (BadImageError, UsageError) as error:
            problem = f"none of {len(chosen)} images can be used; the last: {error.message}"
    if not pixels:
        raise InputError(folder, problem, "give a folder of photographs with --images, or leave it out")
    skipped = len(chosen) - len(pixels)
    origin = f"{len(pixels)} real images" + (f" ({skipped} unusable ones skipped)" if skipped else "")
    stacked = np.stack(pixels)
    return Samples(stacked, prepare(stacked, preprocessing), origin)


def _read(source: ImageSource, preprocessing: Preprocessing) -> Pixels:
    mode = "L" if preprocessing.channels == "L" else "RGB"
    image = load_image(source.data if source.data is not None else source.name, name=source.name, mode=mode)
    return crop_pixels(image, preprocessing)
