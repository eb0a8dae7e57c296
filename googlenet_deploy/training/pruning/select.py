"""Selects the layers to shrink: always the one that loses the least importance per reduction of the network's size.

After each cut sizes are measured again, since a layer with fewer inputs saves less. Gains only fall as other layers
shrink, so a rate that is out of date is a lower bound, and only the best few are measured again (Minoux 1978,
"Accelerated greedy algorithms").
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from googlenet_deploy.errors import UsageError, requires

with requires("train"):
    from torch import Tensor

if TYPE_CHECKING:
    from googlenet_deploy.model.widths import Widths

# The size of a network of these widths, of which a share is to be removed.
Measure = Callable[["Widths"], float]


@dataclass(frozen=True)
class _Cut:
    """A layer's next cut: importance lost per size saved, and the channels that are left."""

    rate: float
    channels: int


def smallest_widths(widths: Widths, rounding: int, share: float = 0.0) -> Widths:
    """The narrowest network.

    Args:
        widths: The unpruned ones.
        rounding: A layer keeps a multiple of this, or all its channels if it has no more than that.
        share: Minimum share of its channels that a layer keeps, rounded up.
    """
    return widths.with_channels(
        {
            name: min(count, max(1, math.ceil(share * count / rounding)) * rounding)
            for name, count in widths.channels.items()
        }
    )


def check_reachable(widths: Widths, measure: Measure, share: float, by: str, rounding: int) -> None:
    """Rejects a share that no widths can reach.

    Raises:
        UsageError: No layer can shrink, or not enough in total; the message states the nearest possible share.
    """
    least = smallest_widths(widths, rounding)
    most = max(widths.channels.values())
    if least == widths:
        raise UsageError(
            f"--prune: no layer has more than {rounding} channels to keep (the widest has {most})",
            f"pass a --prune-round below {most}, or use a wider network",
        )
    possible = 1.0 - measure(least) / measure(widths)
    if possible < share:
        raise UsageError(
            f"--prune {share:g}: with {rounding} channels in every layer that has more, {possible:.1%} of the {by} go",
            f"pass --prune {int(possible * 100) / 100:g} or less, or a --prune-round below {rounding}",
        )


def select_widths(
    widths: Widths,
    scores: Mapping[str, Tensor],
    measure: Measure,
    goal: float,
    rounding: int,
    least: Widths | None = None,
) -> Widths:
    """Widths whose size is at most `goal`.

    Args:
        widths: The current widths.
        scores: The importance of every channel, by the names of `Widths.channels`, float (channels,).
        measure: The size of widths.
        goal: The largest permitted size; `check_reachable` has confirmed that it can be reached.
        rounding: Channels that a layer keeps are a multiple of this, unless it keeps all.
        least: Minimum widths of every layer; None for `rounding` channels.
    """
    floor = (least or smallest_widths(widths, rounding)).channels
    losses = {name: [0.0, *score.sort().values.cumsum(0).tolist()] for name, score in scores.items()}
    full = widths.channels
    order = itertools.count()
    size = measure(widths)
    waiting: list[tuple[float, int, str]] = []
    made: list[tuple[float, str, int]] = []
    for name in full:
        cut = _next_cut(name, widths, size, losses[name], full[name], measure, rounding, floor[name])
        if cut is not None:
            heapq.heappush(waiting, (cut.rate, next(order), name))
    while size > goal and waiting:
        _, _, name = heapq.heappop(waiting)
        cut = _next_cut(name, widths, size, losses[name], full[name], measure, rounding, floor[name])
        if cut is None:
            continue
        if waiting and cut.rate > waiting[0][0]:
            heapq.heappush(waiting, (cut.rate, next(order), name))
            continue
        made.append((cut.rate, name, widths.channels[name]))
        widths = widths.with_channels({name: cut.channels})
        size = measure(widths)
        heapq.heappush(waiting, (cut.rate, next(order), name))
    return _without_surplus(widths, made, measure, goal)


def _without_surplus(widths: Widths, made: list[tuple[float, str, int]], measure: Measure, goal: float) -> Widths:
    """Undoes cuts that turned out to be unnecessary, the worst first: the last cut may have saved far too much.

    Args:
        widths: After all cuts.
        made: Rate, layer and former channels of every cut, in their order.
        measure: The size of widths.
        goal: The largest permitted size.
    """
    left: dict[str, list[tuple[float, int]]] = {}
    for rate, name, channels in made:
        left.setdefault(name, []).append((rate, channels))
    while left:
        # A layer's later cuts are its worse ones, so they are undone first.
        name = max(left, key=lambda each: left[each][-1][0])
        _, channels = left[name].pop()
        wider = widths.with_channels({name: channels})
        if measure(wider) > goal:
            del left[name]
            continue
        widths = wider
        if not left[name]:
            del left[name]
    return widths


def _next_cut(
    name: str,
    widths: Widths,
    size: float,
    losses: list[float],
    full: int,
    measure: Measure,
    rounding: int,
    least: int,
) -> _Cut | None:
    """The smallest cut of a layer that saves anything, or None."""
    now = widths.channels[name]
    for channels in range((now - 1) // rounding * rounding, least - 1, -rounding):
        saved = size - measure(widths.with_channels({name: channels}))
        if saved > 0.0:
            return _Cut((losses[full - channels] - losses[full - now]) / saved, channels)
    return None


def kept_channels(scores: Tensor, count: int) -> Tensor:
    """The channels with the highest scores, ties going to the first, in their order: int64 (count,)."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values
