from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest

from googlenet_deploy.device import progress as module
from googlenet_deploy.device.progress import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test moves: its one entry is the time."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_short_work_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("work", 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")


def test_long_work_is_a_line_every_five_seconds_and_one_at_the_end(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("work", 35) as advance:
        for _ in range(35):
            clock[0] += 0.5
            advance(1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "work: 10/35  0:12 left",
        "work: 20/35  0:07 left",
        "work: 30/35  0:02 left",
        "work: 35/35",
    ]


def test_a_note_stands_behind_the_count(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("train", 400) as advance:
        clock[0] = 60
        advance(200, "loss 0.5")
    assert capsys.readouterr().err.splitlines() == ["train: 200/400  loss 0.5  1:00 left"]


def test_an_unknown_total_is_left_out(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("work") as advance:
        clock[0] = 6
        advance(3)
    assert capsys.readouterr().err.splitlines() == ["work: 3"]


def test_quiet_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("work", 10, quiet=True) as advance:
        clock[0] = 60
        advance(5)
    assert capsys.readouterr() == ("", "")


def test_an_error_inside_comes_through(clock: list[float]) -> None:
    with pytest.raises(KeyboardInterrupt), progress("work", 10):
        raise KeyboardInterrupt


def test_on_a_terminal_it_is_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("classify", 4) as advance:
        advance(4)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "classify" in captured.err
    assert "4/4" in captured.err


def test_a_terminal_without_rich_gets_plain_lines(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = builtins.__import__

    def without_rich(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("rich"):
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("work", 2) as advance:
        clock[0] = 6
        advance(1)
    assert capsys.readouterr().err.splitlines() == ["work: 1/2  0:06 left"]
