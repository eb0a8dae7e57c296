"""Which layers shrink, against an exhaustive search and by hand."""

from __future__ import annotations

import itertools

import pytest
import torch

from googlenet_deploy.errors import UsageError
from googlenet_deploy.model.widths import Widths, scaled_widths
from googlenet_deploy.training.pruning.select import check_reachable, kept_channels, select_widths, smallest_widths

WIDTHS = scaled_widths(0.25)


def by_count(**weights: float) -> object:
    """A size to which only some layers add, each channel the same."""
    names = {name.replace("__", "."): weight for name, weight in weights.items()}
    return lambda widths: sum(weight * widths.channels[name] for name, weight in names.items())


def scores_of(widths: Widths, **levels: float) -> dict[str, torch.Tensor]:
    named = {name.replace("__", "."): level for name, level in levels.items()}
    return {
        name: torch.full((count,), named.get(name, 1.0), dtype=torch.float64) for name, count in widths.channels.items()
    }


def test_the_layer_that_loses_least_for_what_it_saves_goes_first() -> None:
    # conv3 has 48 channels of which a cut of 16 loses 16 and saves 32; 4a's 3x3 (52 rounded to 56) loses 8 x 5.
    measure = by_count(conv3=2.0, inception4a__conv3x3=1.0)
    scores = scores_of(WIDTHS, inception4a__conv3x3=5.0)
    found = select_widths(WIDTHS, scores, measure, measure(WIDTHS) - 40.0, 16)
    assert found.channels["conv3"] == 16
    assert found.channels["inception4a.conv3x3"] == WIDTHS.channels["inception4a.conv3x3"]


def test_a_layer_is_cut_down_to_a_multiple_and_never_below_one() -> None:
    assert WIDTHS.channels["inception3a.conv1x1"] == 16
    least = smallest_widths(WIDTHS, 16)
    assert set(least.channels.values()) <= {8, 16}
    measure = by_count(inception3b__conv3x3=1.0)
    found = select_widths(WIDTHS, scores_of(WIDTHS), measure, 0.0, 16)
    assert found.channels["inception3b.conv3x3"] == 16
    assert {name for name, count in found.channels.items() if count != WIDTHS.channels[name]} == {"inception3b.conv3x3"}


def test_no_layer_goes_below_what_it_is_to_keep() -> None:
    least = smallest_widths(WIDTHS, 8, 0.35)  # 48 x 0.35 = 16.8, so 24; 96 x 0.35 = 33.6, so 40; 16 keep 8
    assert [least.channels[key] for key in ("conv3", "inception5b.conv1x1", "conv1")] == [24, 40, 8]
    measure = by_count(conv3=1.0, inception5b__conv1x1=1.0)
    scores = scores_of(WIDTHS, conv3=0.01)
    found = select_widths(WIDTHS, scores, measure, 24.0 + 64.0, 8, least)
    assert found.channels["conv3"] == 24
    assert found.channels["inception5b.conv1x1"] == 64


def test_a_last_cut_that_saves_far_too_much_gives_others_back() -> None:
    """The two conv3 cuts are the cheapest but do not suffice; the one that does saves them as well."""
    measure = by_count(conv3=1.0, inception5b__conv1x1=6.0)  # 48 + 6 x 96 = 624, in cuts of 16 and of 96
    scores = scores_of(WIDTHS, conv3=0.01)
    found = select_widths(WIDTHS, scores, measure, 624.0 - 40.0, 16)
    assert found.channels["inception5b.conv1x1"] == 80
    assert found.channels["conv3"] == 48


@pytest.mark.parametrize("seed", range(4))
def test_greedy_cuts_are_as_good_as_an_exhaustive_search_on_three_layers(seed: int) -> None:
    names = ("conv3", "inception4e.conv3x3", "inception5b.conv1x1")
    generator = torch.Generator().manual_seed(seed)
    scores = {n: torch.rand(c, generator=generator, dtype=torch.float64) for n, c in WIDTHS.channels.items()}

    def measure(widths: Widths) -> float:
        return float(sum(widths.channels[name] for name in names))

    def lost(widths: Widths) -> float:
        return sum(float(scores[n].sort().values[: len(scores[n]) - widths.channels[n]].sum()) for n in names)

    goal = measure(WIDTHS) - 96
    found = select_widths(WIDTHS, scores, measure, goal, 16)
    choices = [[WIDTHS.channels[n], *range((WIDTHS.channels[n] - 1) // 16 * 16, 0, -16)] for n in names]
    every = (WIDTHS.with_channels(dict(zip(names, counts, strict=True))) for counts in itertools.product(*choices))
    best = min(lost(widths) for widths in every if measure(widths) <= goal)
    assert measure(found) <= goal
    # Every score list is convex once sorted, so greedy is optimal but for the last cut.
    assert lost(found) <= best * 1.2


def test_a_plateau_of_the_measure_is_crossed_in_one_cut() -> None:
    """A prediction that falls only with every second block, as where a launch takes longer than the arithmetic."""

    def measure(widths: Widths) -> float:
        return float(-(-widths.channels["inception5b.conv1x1"] // 32))

    found = select_widths(WIDTHS, scores_of(WIDTHS), measure, 2.0, 16)
    assert found.channels["inception5b.conv1x1"] == 64


@pytest.mark.parametrize(("share", "rounding", "message"), [(0.9, 16, "--prune 0.9: with 16"), (0.5, 96, "no layer")])
def test_a_share_that_cannot_be_removed_is_refused_with_the_nearest(share: float, rounding: int, message: str) -> None:
    measure = by_count(conv3=1.0, inception3a__conv1x1=1.0)  # 48 + 16, of which 32 can go
    with pytest.raises(UsageError, match=message) as error:
        check_reachable(WIDTHS, measure, share, "multiply-adds", rounding)
    assert "50.0%" in error.value.message or rounding == 96
    check_reachable(WIDTHS, measure, 0.5, "multiply-adds", 16)


def test_of_equal_channels_the_first_stay() -> None:
    assert kept_channels(torch.tensor([1.0, 3.0, 1.0, 1.0, 2.0]), 3).tolist() == [0, 1, 4]
