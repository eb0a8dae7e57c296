"""Boards rebuilt from tests/data/power, and a clock that moves only when it is told to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_clock import FakeClock

DATA = Path(__file__).resolve().parents[3] / "data" / "power"


class Board:
    """A module's part of /sys in a folder, whose rails can be set."""

    def __init__(self, root: Path, tree: str) -> None:
        self.root = root
        folder = root
        for line in tree.splitlines():
            if line.startswith("["):
                folder = root / line.strip("[]")
                folder.mkdir(parents=True, exist_ok=True)
            elif line and not line.startswith("#"):
                name, _, value = line.partition(" ")
                (folder / name).write_text(value + "\n")

    def set_watts(self, rail: str, watts: float) -> None:
        """Writes what the driver would show for a power, in its own units and whole numbers."""
        for label in self._labels(rail):
            if label.name.startswith("rail_name_"):
                channel = label.name.rpartition("_")[2]
                (label.parent / f"in_power{channel}_input").write_text(f"{round(watts * 1000)}\n")
            elif label.name == "label":
                (label.parent / "power1_input").write_text(f"{round(watts * 1e6)}\n")
            else:
                channel = label.name[2:-6]
                millivolts = int((label.parent / f"in{channel}_input").read_text())
                (label.parent / f"curr{channel}_input").write_text(f"{round(watts * 1e6 / millivolts)}\n")

    @functools.cached_property
    def _names(self) -> dict[Path, str]:
        drivers = self.root / "sys/bus/i2c/drivers"
        return {path: path.read_text().strip() for path in [*drivers.rglob("*label"), *drivers.rglob("rail_name_*")]}

    def _labels(self, rail: str) -> list[Path]:
        return [path for path, name in self._names.items() if name == rail]


@pytest.fixture
def clock() -> FakeClock:
    """A clock that moves only by `advance`."""
    return FakeClock()


@pytest.fixture
def board(tmp_path: Path) -> Callable[[str], Board]:
    """Builds a module by the name of its tree."""
    return lambda name: Board(tmp_path, (DATA / f"{name}.tree").read_text())


@pytest.fixture(scope="session")
def tegrastats_lines() -> dict[str, str]:
    """A line of tegrastats by module."""
    lines = (DATA / "tegrastats.txt").read_text().splitlines()
    return {name.strip("# "): line for name, line in zip(lines[::2], lines[1::2], strict=True)}
