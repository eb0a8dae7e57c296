"""Logs as JSON lines, CSV and TensorBoard, and going on with them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from googlenet_deploy.errors import OutputError
from googlenet_deploy.training.log import RunLog
from googlenet_deploy.training.loop import EpochResult
from googlenet_deploy.training.validation import Validation


def result(epoch: int) -> EpochResult:
    confusion = np.array([[3, 1], [0, 4]])
    return EpochResult(epoch, 0.5, 75.0, 0.01, Validation(0.25, confusion), 100.04, 1.5)


def test_lines_of_json(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.begin()
    log.write("start", seed=0)
    log.write_epoch(result(1), True)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0] == {"event": "start", "seed": 0}
    assert lines[1]["validation_accuracy_percent"] == 87.5
    assert (lines[1]["epoch"], lines[1]["best"], lines[1]["images_per_second"]) == (1, True, 100.0)


def test_rows_of_csv(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.csv")
    log.begin()
    log.write("start", seed=0)
    for epoch in (1, 2):
        log.write_epoch(result(epoch), epoch == 2)
    with (tmp_path / "log.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["best"] for row in rows] == ["False", "True"]


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv"])
def test_a_run_that_goes_on_drops_what_came_after_its_state(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    log = RunLog(path)
    log.begin()
    log.write_epoch(result(1), True)
    position = log.position()
    log.write_epoch(result(2), True)
    once = path.read_bytes()
    log.begin(position, 2)
    assert path.stat().st_size == position
    log.write_epoch(result(2), True)
    assert path.read_bytes() == once
    path.unlink()
    log.begin(position, 2)
    assert path.read_bytes() == b""


def test_a_new_run_begins_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("old")
    RunLog(tmp_path / "log.jsonl").begin()
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_without_files_nothing_is_written(tmp_path: Path) -> None:
    log = RunLog()
    log.begin()
    log.write("start")
    log.write_epoch(result(1), True)
    assert log.position() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        RunLog(tmp_path / "in the way" / "log.jsonl").begin()
    log = RunLog(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        log.write("start")
    with pytest.raises(OutputError, match="cannot be written"):
        log.begin(5)


def test_curves_for_tensorboard(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = RunLog(None, tmp_path / "board")
    log.begin()
    for epoch in (1, 2):
        log.write_epoch(result(epoch), True)
    log.begin(0, 2)
    log.write_epoch(result(2), True)
    read = events.EventAccumulator(str(tmp_path / "board"))
    read.Reload()
    assert "train_loss" in read.Tags()["scalars"]
    assert [event.step for event in read.Scalars("validation_accuracy_percent")] == [1, 2]


def test_a_tensorboard_folder_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        RunLog(None, tmp_path / "file" / "board").begin()
