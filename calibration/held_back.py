"""Images that judge a result: none that calibration or a refinement has seen, as far as there are others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from googlenet_deploy.calibration.batches import ImageSelection, hash_contents, spread
from googlenet_deploy.errors import InputError

if TYPE_CHECKING:
    from googlenet_deploy.calibration.table import CalibrationTable
    from googlenet_deploy.device.images.sources import ImageSource

# Contents are compared for so many times the images that are wanted, so that a large folder need not be read whole.
READ_AHEAD = 4


@dataclass(frozen=True)
class HeldBack:
    """Images that judge a result.

    Attributes:
        images: In the order of their names.
        unseen: Whether none of them was used to make it.
    """

    images: tuple[ImageSource, ...]
    unseen: bool


def held_back(selection: ImageSelection, table: CalibrationTable, count: int, *, used: bool) -> HeldBack:
    """Chooses at most `count` images, spread evenly over those that were not used; over all where there are no others.

    Args:
        selection: The images at hand.
        table: The calibration, which knows its images by content.
        count: How many are wanted.
        used: Whether the chosen ones of `selection` were used for calibration or a refinement; else they may judge too.
    """
    candidates = selection.others if used else (*selection.chosen, *selection.others)
    some = spread(candidates, READ_AHEAD * count)
    unseen = [image for image in some if not _is_among(table, image)]
    if unseen:
        return HeldBack(tuple(spread(unseen, count)), unseen=True)
    return HeldBack(tuple(spread(some or selection.chosen, count)), unseen=False)


def _is_among(table: CalibrationTable, image: ImageSource) -> bool:
    try:
        return table.images.holds(hash_contents([image])[0])
    except InputError:  # it is skipped later, with a reason
        return False
