"""From counts to a calibration table, and what is doubtful about the images that gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy import __version__
from googlenet_deploy.calibration.batches import hash_contents, hash_images
from googlenet_deploy.calibration.collect import FOLDS
from googlenet_deploy.calibration.observers import Histogram
from googlenet_deploy.calibration.outline import Outline, outline
from googlenet_deploy.calibration.table import (
    CONTENT_DIGITS,
    FALLBACK_AMAX,
    SMALLEST_AMAX,
    CalibrationTable,
    ImageRecord,
    TensorRecord,
)
from googlenet_deploy.calibration.thresholds.error import share_above
from googlenet_deploy.calibration.thresholds.select import choose_threshold
from googlenet_deploy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from googlenet_deploy.calibration.batches import ImageSelection
    from googlenet_deploy.calibration.calibrate import CalibrationOptions, CalibrationSource
    from googlenet_deploy.calibration.collect import Collection
    from googlenet_deploy.calibration.observation import Observation
    from googlenet_deploy.device.images.sources import ImageSource

FEW_IMAGES = 32


def tabulate(
    source: CalibrationSource,
    observations: Iterable[Observation],
    collection: Collection,
    options: CalibrationOptions,
    selection: ImageSelection | None,
) -> CalibrationTable:
    """Applies every method to every record.

    Args:
        source: The model.
        observations: The records to make.
        collection: What was counted.
        options: The table's own method, and the percentile.
        selection: The images; None where they were arrays, whose hash stays empty.

    Raises:
        InputError: An image has gone since it was counted.
    """
    used = set(collection.names)
    images = [image for image in selection.chosen if image.name in used] if selection else []
    return CalibrationTable(
        records=tuple(_record(observation, collection, options) for observation in observations),
        method=options.method,
        options={"percentile": options.percentile},
        images=_image_record(collection, images),
        preprocessing=source.preprocessing,
        model_sha256=source.sha256,
        model=source.properties,
        tool_version=__version__,
    )


def outlines(observations: Iterable[Observation], collection: Collection) -> dict[str, Outline]:
    """A small histogram of every record's values, by its first member."""
    return {observation.members[0]: outline(_merged(collection, observation.sources)) for observation in observations}


def check_images(collection: Collection) -> None:
    """Refuses a calibration without images, or on images without content.

    Raises:
        InputError: No image could be used, or every one is of one colour.
    """
    skipped = collection.skipped
    if not collection.images:
        first = f" (the first: {skipped[0].name} {skipped[0].reason})" if skipped else ""
        raise InputError("images", f"none of {len(skipped)} can be used{first}", "give photographs")
    if collection.uniform == collection.images:
        raise InputError(
            "images",
            f"each of the {collection.images} is of one colour throughout (the first: {collection.names[0]})",
            "give photographs like those the model will see",
        )


def find_doubts(table: CalibrationTable, collection: Collection) -> list[str]:
    """What the user should hear: few images, images of one colour, copies, tensors that are always zero."""
    found = []
    if table.images.count < FEW_IMAGES:
        found.append(f"{table.images.count} images are few: the ranges may not hold for others (256 are customary)")
    if collection.uniform:
        found.append(f"{collection.uniform} images are of one colour throughout: they say nothing about photographs")
    repeated = len(table.images.contents) - len(set(table.images.contents))
    if repeated:
        found.append(f"{repeated} images are copies of others: they count twice")
    zero = [record.members[0] for record in table.records if record.zero]
    if zero:
        found.append(
            f"{len(zero)} tensors are always zero, such as {zero[0]}: nothing can be learned about their range, "
            f"they get the scale of -{FALLBACK_AMAX:g} to {FALLBACK_AMAX:g}"
        )
    return found


def _image_record(collection: Collection, images: Sequence[ImageSource]) -> ImageRecord:
    contents = hash_contents(images)
    return ImageRecord(
        count=collection.images,
        folds=FOLDS,
        skipped=len(collection.skipped),
        sha256=hash_images(images, contents) if images else "",
        contents=tuple(content[:CONTENT_DIGITS] for content in contents),
    )


def _record(observation: Observation, collection: Collection, options: CalibrationOptions) -> TensorRecord:
    folds = [_merged(collection, observation.sources, fold) for fold in range(FOLDS)]
    choice = choose_threshold(folds, options.percentile)
    whole = _merged(collection, observation.sources)
    is_zero = whole.amax < SMALLEST_AMAX
    amax = {name: (FALLBACK_AMAX if is_zero else float(np.float32(value))) for name, value in choice.amax.items()}
    return TensorRecord(
        members=observation.members,
        minimum=whole.minimum,
        maximum=whole.maximum,
        amax=amax,
        chosen=choice.rule,
        errors={name: round(value, 3) for name, value in choice.decibels.items()},
        saturated={name: share_above(whole, value) for name, value in amax.items()},
        zero=is_zero,
    )


def _merged(collection: Collection, sources: Iterable[str], fold: int | None = None) -> Histogram:
    whole = Histogram()
    for name in sources:
        for number, histogram in enumerate(collection.histograms[name]):
            if fold is None or number == fold:
                whole.merge(histogram)
    return whole
