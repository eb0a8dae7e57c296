"""Options that are declared once: the command line, the checks and the words that repeat a command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.device.options import (
    add_options,
    check_options,
    flag_of,
    given_options,
    option,
    option_words,
)
from googlenet_deploy.errors import UsageError


@dataclass(frozen=True)
class Example:
    count: int = option(3, "how many", group="numbers", least=1, most=100)
    rate: float | None = option(None, "how fast", flag="--speed", above=0)
    mode: str = option("fast", "which way", choices=("fast", "slow"))
    sizes: tuple[int, ...] = option((1, 2), "of each", least=1)
    names: tuple[str, ...] = option((), "to keep")
    tf32: bool = option(True, "multiply in FP32")
    refit: bool = option(False, "can be refitted")
    limits: Mapping[str, float] = option(dict, "named limits", flag="--require")
    hidden: int = 7

    def __post_init__(self) -> None:
        check_options(self)


def parse(*words: str) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    add_options(parser, Example)
    return given_options(parser.parse_args(words), Example)


def test_only_what_was_given_comes_back() -> None:
    assert parse() == {}
    assert parse("--count", "5", "--no-tf32") == {"count": 5, "tf32": False}


def test_every_kind_of_value() -> None:
    values = parse(
        "--speed", "2.5", "--mode", "slow", "--sizes", "4,8", "--names", "a, b", "--refit",
        "--require", "p99=5", "--require", "p50=2",
    )  # fmt: skip
    assert values == {
        "rate": 2.5, "mode": "slow", "sizes": (4, 8), "names": ("a", "b"), "refit": True,
        "limits": {"p99": 5.0, "p50": 2.0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "--count must be from 1 to 100, is 0"),
        ({"count": 101}, "--count must be from 1 to 100, is 101"),
        ({"rate": 0.0}, "--speed must be above 0, is 0"),
        ({"rate": float("nan")}, "--speed must be above 0, is nan"),
        ({"rate": float("inf")}, "--speed must be above 0, is inf"),
        ({"mode": "other"}, "--mode is 'other', must be one of fast, slow"),
        ({"sizes": (1, 0)}, "--sizes must be at least 1, is 0"),
    ],
)
def test_values_out_of_range_are_refused_wherever_they_come_from(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        Example(**values)  # type: ignore[arg-type]


def test_help_shows_group_default_and_percent_signs(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="example")
    parser.add_argument_group("numbers").add_argument("--other")
    add_options(parser, Example)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    text = capsys.readouterr().out
    assert text.count("numbers:") == 1
    assert "how many (default 3)" in text
    assert "{fast,slow}" in text
    assert "hidden" not in text


def test_names_on_the_command_line() -> None:
    assert [flag_of(Example, name) for name in ("count", "rate", "tf32", "refit")] == [
        "--count", "--speed", "--no-tf32", "--refit",
    ]  # fmt: skip


@given(
    st.builds(
        Example,
        count=st.integers(1, 100),
        rate=st.one_of(st.none(), st.floats(0.001, 1e6)),
        mode=st.sampled_from(["fast", "slow"]),
        sizes=st.lists(st.integers(1, 9), min_size=1).map(tuple),
        names=st.lists(st.sampled_from(["a", "b", "c"]), min_size=1).map(tuple),
        tf32=st.booleans(),
        refit=st.booleans(),
        limits=st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 999).map(float)),
    )
)
def test_the_words_give_the_same_options_again(options: Example) -> None:
    assert Example(**parse(*option_words(options))) == options  # type: ignore[arg-type]
