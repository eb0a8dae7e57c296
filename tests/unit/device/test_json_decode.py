"""Typed values survive JSON, and what does not fit is named by its place."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from googlenet_deploy.device.json_decode import decode, encode


@dataclass(frozen=True)
class Count:
    """Has a derived share."""

    DERIVED: ClassVar[tuple[str, ...]] = ("percent",)
    some: int
    total: int

    @property
    def percent(self) -> float:
        return 100 * self.some / self.total


@dataclass(frozen=True)
class Whole:
    name: str
    counts: tuple[Count, ...] = ()
    pair: tuple[str, float] = ("", 0.0)
    by_name: Mapping[str, tuple[Count, ...]] = field(default_factory=dict)
    noise: float | None = None


WHOLE = Whole("a", (Count(1, 4),), ("x", 2.5), {"b": (Count(0, 3), Count(3, 3))}, 0.5)


def test_values_survive_their_json() -> None:
    assert decode(Whole, json.loads(json.dumps(encode(WHOLE)))) == WHOLE


def test_derived_values_are_written_for_readers_and_never_read() -> None:
    values = encode(WHOLE)
    assert values["counts"] == [{"some": 1, "total": 4, "percent": 25.0}]
    values["counts"][0]["percent"] = "changed"
    assert decode(Whole, values).counts[0].percent == 25.0


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_json_cannot_hold_is_null(value: float) -> None:
    assert json.dumps(encode({"a": [value, 1.5]}), allow_nan=False) == '{"a": [null, 1.5]}'


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"pair": ["x"]}, "results.pair is not a list of 2"),
        ({"pair": ["x", "y"]}, r"results.pair\[1\] is not float"),
        ({"by_name": {"b": [{"some": 1}]}}, r"results.by_name.b\[0\].total is missing"),
        ({"counts": [{"some": 1, "total": 2, "other": 3}]}, "unknown entry 'other'"),
        ({"noise": "loud"}, "results.noise is not float"),
        ({"noise": 10**400}, "results.noise is too large a number"),
        ({"noise": -(2**1024)}, "results.noise is too large a number"),
        ({"counts": [{"some": 2**63, "total": 2}]}, r"results.counts\[0\].some is too large a number"),
        ({"pair": ["x", 10**309]}, r"results.pair\[1\] is too large a number"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        decode(Whole, {**encode(WHOLE), **change})
