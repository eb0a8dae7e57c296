"""The command `deploy` on a finished folder: what it prints, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from googlenet_deploy.cli.main import main
from googlenet_deploy.deployment.config import config_text
from googlenet_deploy.deployment.steps.images import DivideImages
from tests.unit.deployment.conftest import Ground


@pytest.fixture
def command(ground: Ground, copy_of: Callable[[], Path], tmp_path: Path) -> list[str]:
    """On a copy of the finished deployment, by its configuration file, in which the names are absolute."""
    config = ground.config(copy_of())
    (tmp_path / "deploy.toml").write_text(config_text(config), encoding="utf-8")
    return ["deploy", "--config", str(tmp_path / "deploy.toml")]


def test_it_says_what_it_did_and_where_it_lies(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("unchanged  images     8 calibrate, 12 others evaluate")
    assert printed[-2:] == [
        f"Report: {tmp_path / 'orin/report.html'}",
        f"Device bundle: {tmp_path / 'orin/bundle.zip'}",
    ]
    assert main([*command, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_a_gate_ends_it_with_status_3(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--require", "sqnr=90"]) == 3
    ended = capsys.readouterr()
    assert "required is at least 90 dB" in ended.err
    assert "Device bundle" not in ended.out


def test_an_interruption_says_that_it_goes_on(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DivideImages, "run", interrupted)
    assert main([*command, "--seed", "9"]) != 0
    assert "the same command resumes here" in capsys.readouterr().err
