"""All methods on one tensor, and `auto`: the rule that leaves the smallest error on images it was not fitted to.

The calibration images are assigned alternately to two folds. Every rule (the four methods, and fixed shares of the
largest value seen) is fitted on each fold and evaluated on the other; the rule with the smallest sum of both errors is
then fitted on all images. So each image is held back once, and the final thresholds still use all images.

The error to be minimised is ``rounding + 6 * clipping``, both squared. Rounding errors are independent and average
out in the sums of the next layer; clipping errors all have the same sign and affect the largest activations, so they
add up there. With equal weights the choice is the plain mean squared error, which clips too much: on the BVLC
GoogLeNet, over three random halves of 500 images, the logits' mean SQNR was 28.9 dB with weight 1, 29.4 with 2, 29.8
with 4 and 29.9 with 6; by the four methods alone 28.9 (max), 28.6 (percentile), 26.9 (entropy) and 28.9 (mse).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from googlenet_deploy.calibration.histogram import Histogram
from googlenet_deploy.calibration.methods import DEFAULT_PERCENTILE, METHODS
from googlenet_deploy.calibration.thresholds.error import Magnitudes, SquaredError
from googlenet_deploy.device.registry import load_member

if TYPE_CHECKING:
    from collections.abc import Sequence

CLIPPING_WEIGHT = 6.0
# Fewer values than this hardly contain a large one: how the folds rank the rules is chance, and other images may well
# exceed what was seen: by as much as one fold exceeds the other, or by 16 over the root of their number, up to a factor
# of 2 (one bit). On three small networks with 16 calibration images, 256 values in the pooled tensor, the SQNR of the
# logits was 18.4, 23.2 and 33.0 dB by the rules below, and 36.5, 29.8 and 31.7 dB with this headroom.
FEW_VALUES = 2048
MOST_HEADROOM = 2.0
HEADROOM = "max and headroom"
SHARES = tuple(percent / 100 for percent in range(98, 28, -2))

Rule = Callable[[Histogram], float]


class Choice(NamedTuple):
    """Thresholds of one tensor.

    Attributes:
        amax: Threshold by method, "auto" included; 0 throughout for a tensor that was always zero.
        rule: The rule that "auto" chose: a method's name, "0.84 of max", or "max and headroom".
        decibels: Signal over the minimised error on held-back images, by method, in dB.
    """

    amax: Mapping[str, float]
    rule: str
    decibels: Mapping[str, float]


def choose_threshold(folds: Sequence[Histogram], percentile: float = DEFAULT_PERCENTILE) -> Choice:
    """Applies every method to a tensor and picks the best rule.

    Args:
        folds: The tensor's values over each of two disjoint sets of images. If one of them is empty, the rules are
            evaluated on the images that they were fitted to.
        percentile: Share of absolute values that the percentile method keeps, in percent.
    """
    whole = Histogram()
    for fold in folds:
        whole.merge(fold)
    methods = _methods(percentile)
    if whole.amax == 0:
        return Choice(dict.fromkeys([*methods, "auto"], 0.0), "max", {})
    rules: dict[str, Rule] = {
        **methods,
        **{f"{share:.2f} of max": partial(_share_of_max, share=share) for share in SHARES},
    }
    filled = [fold for fold in folds if fold.amax > 0]
    fitted = filled if len(filled) > 1 else [whole]
    pairs = list(zip(fitted, [Magnitudes(fold) for fold in reversed(fitted)], strict=True))
    errors = {name: _judge(rule, pairs) for name, rule in rules.items()}
    best = min(errors, key=lambda name: _weigh(errors[name]))
    if whole.total < FEW_VALUES and len(filled) > 1:
        rules[HEADROOM] = partial(_max_with_headroom, largest=[fold.amax for fold in filled])
        errors[HEADROOM], best = errors["max"], HEADROOM
    amax = {name: rule(whole) for name, rule in methods.items()}
    amax["auto"] = rules[best](whole)
    return Choice(amax, best, {name: _decibels(errors[name]) for name in methods} | {"auto": _decibels(errors[best])})


def _methods(percentile: float) -> dict[str, Rule]:
    settings = {"percentile": percentile}
    return {
        name: partial(load_member(entry.function), **{setting: settings[setting] for setting in entry.settings})
        for name, entry in METHODS.items()
    }


def _share_of_max(histogram: Histogram, share: float) -> float:
    return share * histogram.amax


def _max_with_headroom(histogram: Histogram, largest: Sequence[float]) -> float:
    growth = max(max(largest) / min(largest), 1 + 16 / math.sqrt(histogram.total))
    return histogram.amax * min(MOST_HEADROOM, growth)


def _judge(rule: Rule, pairs: Sequence[tuple[Histogram, Magnitudes]]) -> SquaredError:
    parts = [held_back.error(rule(fitted)) for fitted, held_back in pairs]
    return SquaredError(*(sum(values) for values in zip(*parts, strict=True)))


def _weigh(error: SquaredError) -> float:
    return error.rounding + CLIPPING_WEIGHT * error.clipping


def _decibels(error: SquaredError) -> float:
    return SquaredError(error.rounding, CLIPPING_WEIGHT * error.clipping, error.signal).decibels
