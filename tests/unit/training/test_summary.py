"""What is said at the end of a run."""

from __future__ import annotations

import json

import numpy as np

from googlenet_deploy.training.loop import EpochResult
from googlenet_deploy.training.summary import result_lines, result_values
from googlenet_deploy.training.validation import Validation


def result(confusion: list[list[int]]) -> EpochResult:
    return EpochResult(3, 0.5, 75.0, 0.01, Validation(0.25, np.array(confusion)), 100.0, 1.5)


def test_few_classes_get_the_whole_matrix() -> None:
    lines = result_lines(result([[9, 1], [0, 10]]), ["cat", "dog"], 5)
    assert lines[0].startswith("  validation accuracy 95.0 %")
    assert "epoch 3 of 5" in lines[0]
    assert lines[2].split() == ["cat", "dog"]
    assert lines[3].split() == ["cat", "9", "1", "90.0", "%"]
    assert lines[4].split() == ["dog", "0", "10", "100.0", "%"]


def test_long_names_get_numbers() -> None:
    lines = result_lines(result([[9, 1], [0, 10]]), ["a very long name of a class that goes on", "dog"], 5)
    assert lines[2].split() == ["1", "2"]
    assert lines[3].strip().startswith("1 a very long name of a clas")
    assert lines[4].split() == ["2", "dog", "0", "10", "100.0", "%"]


def test_many_classes_get_what_is_wrong_most() -> None:
    confusion = np.eye(20, dtype=int) * 10
    confusion[3, 7], confusion[5, 6] = 4, 2
    lines = result_lines(result(confusion.tolist()), [f"c{k}" for k in range(20)], 5)
    assert "c3 71.4 %, c5 83.3 %" in lines[1]
    assert lines[2] == "  taken most often: c3 for c7 (4), c5 for c6 (2)"
    assert len(result_lines(result((np.eye(20, dtype=int)).tolist()), [str(k) for k in range(20)], 5)) == 1


def test_classes_without_images_have_no_accuracy() -> None:
    lines = result_lines(result([[9, 1, 0], [0, 10, 0], [0, 0, 0]]), ["cat", "dog", "owl"], 5)
    assert lines[-1].split() == ["owl", "0", "0", "0", "no", "images"]
    confusion = np.eye(20, dtype=int) * 4
    confusion[3, 3], confusion[5, 6] = 0, 1
    assert "c3 " not in " ".join(result_lines(result(confusion.tolist()), [f"c{k}" for k in range(20)], 5))


def test_values_hold_everything_and_are_json() -> None:
    values = result_values(result([[9, 1], [0, 10]]), ["cat", "dog"])
    assert json.loads(json.dumps(values)) == values
    assert values["classes"][0] == {"name": "cat", "correct": 9, "images": 10}
    assert values["confusion"] == [[9, 1], [0, 10]]
    assert values["validation"]["images"] == 20
