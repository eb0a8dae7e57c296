"""What test processes share is made by one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from made_once import made_once


@dataclass(frozen=True)
class Factory:
    """The one method of pytest's factory that is used."""

    base: Path

    def getbasetemp(self) -> Path:
        return self.base


def worker(folder: Path, name: str) -> Factory:
    (folder / name).mkdir(exist_ok=True)
    return Factory(folder / name)


@pytest.mark.parametrize(("workers", "times"), [("yes", 1), ("", 2)])
def test_workers_of_one_run_share_it_and_runs_without_workers_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str, times: int
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    if workers:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "content").write_text(f"number {len(made)}")

    for name in ("gw0", "gw1", "gw0"):
        folder = made_once(worker(tmp_path, name), "thing", make)  # type: ignore[arg-type]
        assert (folder / "content").is_file()
    assert len(made) == times == len(set(made))


def test_what_failed_is_tried_again_in_an_empty_folder(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise OSError("no space left")

    factory = worker(tmp_path, "gw0")
    with pytest.raises(OSError, match="no space left"):
        made_once(factory, "thing", fail)  # type: ignore[arg-type]
    folder = made_once(factory, "thing", lambda folder: (folder / "whole").write_text(""))  # type: ignore[arg-type]
    assert [path.name for path in folder.iterdir()] == ["whole"]
