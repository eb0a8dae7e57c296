"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.report import text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (0.10512, "0.105"),
        (21.37, "21.4"),
        (9503.1, "9\u202f503"),
        (-1.5, "\u22121.50"),
        (2e-7, "2.00e\u22127"),
        (3.1e9, "3.10e+09"),
        (math.inf, "\u221e"),
        (-math.inf, "\u2212\u221e"),
        (math.nan, "not a number"),
    ],
)
def test_numbers(value: float, expected: str) -> None:
    assert text.number(value) == expected.replace("e\u22127", "e\u221207")


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, "+0.5"), (-0.41, "\u22120.4"), (0.0, "\u00b10.0"), (-0.04, "\u00b10.0")]
)
def test_differences_have_a_sign(value: float, expected: str) -> None:
    assert text.signed(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(17, "17\u202fbytes"), (28_100_000, "28.1\u202fMB"), (2.5e9, "2.50\u202fGB"), (1000, "1.00\u202fkB")],
)
def test_sizes(value: float, expected: str) -> None:
    assert text.size(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(0.42, "0.4\u202fs"), (61, "61\u202fs"), (125, "2\u202fmin 5\u202fs")])
def test_durations(value: float, expected: str) -> None:
    assert text.duration(value) == expected


def test_plurals_and_others() -> None:
    assert text.plural(1, "image") == "1 image"
    assert text.plural(1200, "image") == "1\u202f200 images"
    assert text.plain(7.0) == "7"
    assert text.plain(7.5) == "7.5"
    assert text.fixed(-0.25, 2) == "\u22120.25"


@given(st.floats(1e-5, 1e8))
def test_a_number_is_near_its_text(value: float) -> None:
    shown = float(text.number(value).replace("\u202f", ""))
    assert shown == pytest.approx(value, rel=6e-3)
