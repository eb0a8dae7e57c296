"""Numbers, columns and errors for a terminal."""

from __future__ import annotations

import pytest

from googlenet_deploy.device.text import columns, megabytes, number, one_line


def test_words_stand_left_and_numbers_right() -> None:
    assert columns([("name", "n"), ("a", "10")]) == ["name   n", "a     10"]
    assert columns([]) == []


@pytest.mark.parametrize(("value", "text"), [(0, "0.000"), (0.00123, "0.00123"), (-12.345, "-12.35"), (1234.5, "1234")])
def test_four_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_megabytes() -> None:
    assert megabytes(1_500_000) == "1.5 MB"
    assert megabytes(None) == "?"


def test_an_error_is_one_line_and_never_empty() -> None:
    assert one_line(RuntimeError("first\n  second")) == "first second"
    assert one_line(MemoryError()) == "MemoryError"
