"""Figures for gates, JSON and people."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.evaluation.diagnosis import Verdict
from googlenet_deploy.evaluation.evaluate import Answers, Evaluation
from googlenet_deploy.evaluation.layer_error import LayerError, TensorRange
from googlenet_deploy.evaluation.summary import (
    as_json,
    figures_of,
    inner_lines,
    intervals_of,
    lines_of,
    paired_of,
    verdict_lines,
)


def evaluation(classes: int = 10, **changes: Any) -> Evaluation:
    scores = np.random.default_rng(0).normal(0, 3, (4, 10)).astype(np.float32)
    agreement = Agreement()
    agreement.add(scores, scores * np.float32(1.01))
    values: dict[str, Any] = {
        "model": Answers([True, True, False, False], [True] * 4, [0, 1, 2, 3]),
        "reference": Answers([True, False, False, False], [True, True, True, False], [0, 1, 2, 3]),
        "agreement": agreement,
        "names": list("abcd"),
        "labels": [0, 1, 0, 0],
        "classes": classes,
        "classes_given": min(classes, 5),
    }
    return Evaluation(**{**values, **changes})


def test_all_figures_have_an_interval_around_them() -> None:
    figures, intervals = figures_of(evaluation()), intervals_of(evaluation())
    assert set(figures) == set(intervals)
    assert all(low <= figures[name] <= high for name, (low, high) in intervals.items())
    assert (figures["top1"], figures["reference_top1"], figures["agreement"]) == (50.0, 25.0, 100.0)


def test_without_a_reference_there_is_nothing_of_one() -> None:
    alone = evaluation(reference=None, agreement=None)
    assert set(figures_of(alone)) == set(intervals_of(alone)) == {"top1", "top5"}
    assert paired_of(alone) == {}
    assert len(lines_of(alone)) == 2


def test_paired_differences() -> None:
    paired = paired_of(evaluation())
    assert {name: (each.gained, each.lost) for name, each in paired.items()} == {"top1": (1, 0), "top5": (1, 0)}
    assert set(paired_of(evaluation(classes=3))) == {"top1"}


def test_lines() -> None:
    lines = lines_of(evaluation())
    assert [line.split("  ")[1] for line in lines] == [
        "top-1", "top-5", "reference top-1", "reference top-5", "top-1 change", "top-5 change", "agreement",
        "KL divergence", "score SQNR",
    ]  # fmt: skip
    assert "+25.00 points" in lines[4]
    assert "100.0 % of the best classes are the reference's (95 % interval 51.0 to 100.0)" in lines[6]
    assert "40.00 dB (95 % interval " in lines[8]
    equal = evaluation(agreement=Agreement(4, 4, 0.0, 1.0, 0.0))
    assert lines_of(equal)[-1] == "  score SQNR       inf dB"
    assert "not measured: the model returns 3 classes" in lines_of(evaluation(classes=3))[1]


def test_inner_lines_show_the_worst_first() -> None:
    layers = [LayerError(f"layer{i}", "Conv", f"t{i}", 30.0 - i, 30.0 if i else None, 30.0) for i in range(8)]
    ranges = [TensorRange(f"t{i}", False, 1.0, 0.5, 0.5, 0.01, None if i else 0.001, 40.0 - i) for i in range(8)]
    lines = inner_lines(layers, ranges, 32)
    assert "on 32 images" in lines[0]
    assert [line.split()[1] for line in lines[1:6]] == ["layer7", "layer6", "layer5", "layer4", "layer3"]
    assert [line.split()[0] for line in lines[7:]] == ["t7", "t6", "t5", "t4", "t3"]
    assert "1.0000 %  ?" in lines[7]
    assert "0.1000 %" in inner_lines(layers[:1], ranges[:1], 1)[-1]
    assert "image ->  30.0" in inner_lines(layers[:1], [], 1)[-1]


def test_verdicts() -> None:
    assert verdict_lines([Verdict("note", "few images", "so few")]) == ["note: so few [few images]"]


def test_what_json_has_not_is_null() -> None:
    value = as_json({"a": (1, math.inf, [math.nan, "x", None, True]), "b": -math.inf})
    assert value == {"a": [1, None, [None, "x", None, True]], "b": None}
    json.dumps(value, allow_nan=False)
