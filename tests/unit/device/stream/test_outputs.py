"""Answers as they are written, and drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from googlenet_deploy.device.predictions import Predictions
from googlenet_deploy.device.stream import annotate
from googlenet_deploy.device.stream.annotate import Annotations, annotated
from googlenet_deploy.device.stream.answers import (
    CSV_HEADING,
    Answer,
    AnswerFile,
    RankedClass,
    answers_of,
    csv_lines,
    json_line,
    table_lines,
)
from googlenet_deploy.errors import OutputError, UsageError

ANSWER = Answer("a, b.png", [RankedClass(3, 'ox "y"', 0.75, 1.5)])
SCORED = Answer("c.png", [RankedClass(1, "n" * 50, None, 7.25)])


def test_predictions_become_answers() -> None:
    indices = np.array([[1, 0], [5, 1]])
    values = np.array([[0.9, 0.1], [0.6, 0.4]], np.float32)
    with_probabilities = answers_of(["x", "y"], Predictions(indices, values, values * 9), ["zero", "one"])
    assert [answer.image for answer in with_probabilities] == ["x", "y"]
    assert [[entry.name for entry in answer.classes] for answer in with_probabilities] == [
        ["one", "zero"],
        ["5", "one"],
    ]
    assert with_probabilities[0].classes[0].probability == pytest.approx(0.9)
    (scored, _) = answers_of(["x", "y"], Predictions(indices, None, values * 9), [])
    assert scored.classes[0].row() == {"class": 1, "name": "1", "score": pytest.approx(8.1)}


def test_the_three_forms() -> None:
    assert json.loads(json_line(ANSWER)) == {
        "image": "a, b.png",
        "classes": [{"class": 3, "name": 'ox "y"', "probability": 0.75}],
    }
    assert csv_lines(ANSWER) == '"a, b.png",1,3,"ox ""y""",0.750000\n'
    assert csv_lines(SCORED).endswith(",7.250000\n")
    assert table_lines(ANSWER) == 'a, b.png\n    75.00%  ox "y" (3)\n'
    assert table_lines(SCORED) == f"c.png\n      7.250  {'n' * 37}... (1)\n"


def test_a_file_appears_whole_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.csv"
    with AnswerFile(str(path), csv_lines, CSV_HEADING) as file:
        file.write([ANSWER])
        assert not path.exists()
        file.write([ANSWER])
    assert path.read_text().splitlines() == [CSV_HEADING.strip(), *[csv_lines(ANSWER).strip()] * 2]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("old")

    def fail() -> None:
        with AnswerFile(str(path), json_line) as file:
            file.write([ANSWER])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_of_an_endless_input_every_batch_can_be_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with AnswerFile(str(path), json_line, at_once=True) as file:
        for count in (1, 2):
            file.write([ANSWER])
            assert path.read_text() == json_line(ANSWER) * count


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for at_once in (False, True):
        with (
            pytest.raises(OutputError, match="cannot be written"),
            AnswerFile(str(tmp_path / "file" / "a.csv"), csv_lines, at_once=at_once),
        ):
            pass


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OutputError, match="no space left"), AnswerFile("/dev/full", json_line, at_once=True) as file:
        file.write([ANSWER] * 1000)


def test_drawing_changes_a_copy_in_the_corner_alone() -> None:
    image = Image.new("RGB", (200, 200), (200, 200, 200))
    drawn = np.asarray(annotated(image, ANSWER))
    assert (np.asarray(image) == 200).all()
    changed = np.argwhere((drawn != 200).any(2))
    assert len(changed)
    assert changed.max(0)[0] < 40
    assert np.asarray(annotated(image, Answer("x", [RankedClass(0, "雪", None, 1.0)]))).any()


def answers(*names: str) -> list[Answer]:
    return [Answer(name, ANSWER.classes) for name in names]


def images(*sizes: int) -> list[Image.Image]:
    return [Image.new("RGB", (size, size), (0, 0, 200)) for size in sizes]


def test_a_folder_gets_a_file_for_each_frame(tmp_path: Path) -> None:
    names = ("x/a.png", "y/a.png", "clip.mp4#3", "b.tiff", "-")
    with Annotations(str(tmp_path / "out"), single=False) as writer:
        writer.write(images(32, 32, 32, 32, 32), answers(*names))
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == ["-.png", "a-2.png", "a.png", "b.png", "clip.mp4#3.jpg"]
    assert Image.open(tmp_path / "out" / "a.png").size == (32, 32)


def test_one_image_goes_to_one_file(tmp_path: Path) -> None:
    with Annotations(str(tmp_path / "a.jpg"), single=True) as writer:
        writer.write(images(32), answers("x"))
    assert Image.open(tmp_path / "a.jpg").format == "JPEG"
    with pytest.raises(UsageError, match="there may be several"):
        Annotations(str(tmp_path / "a.jpg"), single=False)


@pytest.mark.parametrize("suffix", [".mov", ".webm", ".tiff"])
def test_forms_that_are_not_written_become_no_folder(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UsageError, match=f"{suffix} files are not written"):
        Annotations(str(tmp_path / f"a{suffix}"), single=True)
    (tmp_path / f"old{suffix}").mkdir()
    with Annotations(str(tmp_path / f"old{suffix}"), single=False) as writer:
        writer.write(images(32), answers("x.png"))
    assert (tmp_path / f"old{suffix}" / "x.png").is_file()


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_a_video_of_all_frames(tmp_path: Path, suffix: str) -> None:
    cv2: Any = pytest.importorskip("cv2", reason="OpenCV is not installed (the extra opencv brings it)")
    path = tmp_path / "new" / f"a{suffix}"
    with Annotations(str(path), single=False) as writer:
        writer.write(images(65, 65, 80), answers("a", "b", "c"))
        assert writer.resized == 3  # codecs want even sizes
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        good, frame = capture.read()
        if not good:
            break
        frames.append(frame)
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 3
    assert frames[0][50:, 30:].mean((0, 1)).argmax() == 0  # blue, in OpenCV's order
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_no_video(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed (the extra opencv brings it)")

    def fail() -> None:
        with Annotations(str(tmp_path / "a.avi"), single=False) as writer:
            writer.write(images(64), answers("a"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed (the extra opencv brings it)")
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OutputError, match="cannot be written"),
        Annotations(str(tmp_path / "file" / "a.avi"), single=False) as writer,
    ):
        writer.write(images(64), answers("a"))
    monkeypatch.setitem(annotate.VIDEO_CODES, ".avi", "zzzz")
    with pytest.raises(OutputError, match="written"), Annotations(str(tmp_path / "a.avi"), single=False) as writer:
        writer.write(images(64), answers("a"))


def levels(path: Path) -> tuple[float, list[int]]:
    """Rate and the grey level of every frame."""
    cv2: Any = pytest.importorskip("cv2", reason="OpenCV is not installed (the extra opencv brings it)")
    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        good, frame = capture.read()
        if not good:
            return float(capture.get(cv2.CAP_PROP_FPS)), found
        found.append(round(float(frame[40:, 40:].mean()) / 40))


GREYS = [Image.new("RGB", (64, 64), (value, value, value)) for value in (40, 80, 120)]


@pytest.mark.parametrize(
    ("times", "rate", "expected"),
    [
        ([0.0, 0.1, 0.2], 10.0, [1, 2, 3]),
        ([5.0, 5.1, 5.4], 10.0, [1, 2, 2, 2, 3]),  # a pause at a variable rate
        ([0.0, 0.02, 0.5], 10.0, [1, 2, 2, 2, 2, 3]),  # two frames faster than the video's rate: both are kept
        ([0.0, 1000.0, 1000.1], 10.0, [1, 2, 3]),  # a clock that jumps
        ([1.0, 0.1, 0.2], 10.0, [1, 2, 3]),  # joined transport streams begin again
        ([None, None, None], 60.0, [1, 2, 3]),
    ],
)
def test_a_video_runs_as_fast_as_its_source(
    tmp_path: Path, times: list[float | None], rate: float, expected: list[int]
) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed (the extra opencv brings it)")
    path = tmp_path / "a.avi"
    seconds = {f"clip#{index}": time for index, time in enumerate(times)}
    with Annotations(str(path), single=False, rate=rate, time_of=seconds.get) as writer:
        writer.write(GREYS, answers("clip#0", "clip#1", "clip#2"))
    assert levels(path) == (rate, expected)


def test_each_source_has_its_own_clock(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed (the extra opencv brings it)")
    path = tmp_path / "a.avi"
    seconds = {"a#0": 0.0, "b#0": 7.0, "b#1": 7.2}
    with Annotations(str(path), single=False, rate=10.0, time_of=seconds.get) as writer:
        writer.write(GREYS, answers("a#0", "b#0", "b#1"))
    assert levels(path)[1] == [1, 2, 2, 3]
