"""What the report takes from the steps: images that precisions disagree on, and what to try at a gate."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from googlenet_deploy.deployment.gates import what_to_try, why_inconclusive
from googlenet_deploy.deployment.job import Job
from googlenet_deploy.deployment.records import EVALUATION, QUANTIZATION, EvaluationRecord, QuantizationRecord
from googlenet_deploy.deployment.report_checks import checks, doubts
from googlenet_deploy.deployment.steps.evaluate import Shown
from googlenet_deploy.device.json_decode import encode
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.evaluation.diagnosis import Verdict
from googlenet_deploy.evaluation.evaluate import Answers, Evaluation
from googlenet_deploy.evaluation.statistics import PairedDifference
from googlenet_deploy.report.pictures import THUMBNAIL, thumbnail
from googlenet_deploy.report.results import GateResult, StepResult
from tests.unit.deployment.conftest import NAMES, Ground


@pytest.fixture
def make_job(ground: Ground, copy_of: Callable[[], Path]) -> Callable[..., Job]:
    folder = copy_of()

    def make(**changes: Any) -> Job:
        return Job(ground.config(folder, **changes), load_target("orin-nano"), quiet=True)

    return make


def evaluation(best: list[int], labels: list[int], confidence: float = 0.5) -> Evaluation:
    answers = Answers(best=best, confidence=[confidence] * len(best))
    return Evaluation(model=answers, names=[f"photos/{index:02d}.png" for index in range(len(best))], labels=labels)


def test_images_that_precisions_disagree_on_are_shown(ground: Ground) -> None:
    names = [str(ground.images / "03.png"), str(ground.images / "gone.png"), str(ground.images / "04.png")]
    fp32 = replace(evaluation([4, 1, 2], [4, 9, 2], 0.6), names=names)
    int8 = replace(evaluation([77, 0, 2], [4, 9, 2]), names=names)
    shown = Shown(ground.images, NAMES, (4, 9, 2)).disagreements({"fp32": fp32, "int8": int8})
    assert [(item.image, item.label) for item in shown] == [("03.png", "class 4"), ("gone.png", "class 9")]
    answers = [(answer.variant, answer.name, answer.probability) for answer in shown[0].answers]
    assert answers == [("fp32", "class 4", 0.6), ("int8", "77", 0.5)]
    size = Image.open(io.BytesIO(base64.b64decode(shown[0].thumbnail.partition("base64,")[2]))).size
    assert 1 < size[0] <= THUMBNAIL[0]
    assert shown[1].thumbnail == thumbnail(Path("nowhere.png"))  # a grey pixel stands in for what has gone
    unlabelled = Shown(ground.images, NAMES, ()).disagreements({"fp32": fp32, "int8": int8})
    assert [item.label for item in unlabelled] == ["", ""]


def test_the_most_frequent_confusions_come_first_with_what_fp32_says() -> None:
    labels = [0, 0, 0, 1, 1, 2]
    int8, fp32 = evaluation([3, 3, 0, 2, 1, 2], labels), evaluation([3, 0, 0, 2, 1, 2], labels)
    found = Shown(Path("photos"), NAMES, tuple(labels)).confusions(int8, fp32)
    assert [(each.label, each.answer, each.count, each.total, each.reference) for each in found] == [
        ("class 0", "class 3", 2, 3, 1),
        ("class 1", "class 2", 1, 2, 1),
    ]
    assert [example.image for example in found[0].examples] == ["00.png", "01.png"]
    assert Shown(Path("photos"), NAMES, ()).confusions(replace(int8, labels=[]), fp32) == ()


@pytest.mark.parametrize(
    ("name", "limit", "images", "shows"),
    [
        # n of n images right leaves n / (n + 1.96**2) possible: 95 % from 73 images, 98 % from 189
        ("agreement", 95.0, 72, "73 images could show it"),
        ("agreement", 95.0, 73, ""),
        ("top1", 98.0, 40, "189 images could show it"),
        ("top1", 74.0, 12, ""),
        ("top5", 100.0, 5000, "more than 100000 images could show it"),
        ("loss", 2.0, 36, "images could show it"),
        ("loss", 60.0, 12, ""),
        ("sqnr", 30.0, 1, ""),
    ],
)
def test_a_gate_shows_something_only_with_enough_images(name: str, limit: float, images: int, shows: str) -> None:
    why = why_inconclusive(name, limit, images)
    assert why.endswith(shows)
    assert bool(why) == bool(shows)


def test_doubts_are_those_of_few_images_and_missing_labels(make_job: Callable[..., Job]) -> None:
    job = make_job()
    job.state.records["images"] = replace(
        job.state.records["images"], data={**job.data("images"), "calibration": [str(index) for index in range(24)]}
    )
    gate = GateResult("agreement", "at least 95 %", "100.00 %", True, "73 images could show it")
    texts = [doubt.text for doubt in doubts(job, (gate,))]
    assert texts[0].startswith("only 24 images calibrated the INT8 ranges")
    assert re.match(
        r"12 evaluation images show the change of top-1 against FP32 to .\d+\.\d points only and cannot "
        r"show agreement at least 95 %",
        texts[1],
    )
    assert not any("labels" in text for text in texts)
    assert all(doubt.remedy for doubt in doubts(job, (gate,))[:2])


def test_a_test_for_loss_on_few_images_is_blind() -> None:
    """Six images that only FP32 has right are the fewest that McNemar's test calls more than chance: 2 / 2**6."""
    assert PairedDifference(0, 0, 100).least_significant_loss == 6.0
    assert PairedDifference(0, 0, 5).least_significant_loss == math.inf


@pytest.mark.parametrize(
    ("precision", "name", "found", "advice"),
    [
        ("int8", "top-1", "not measured", "pass --labels"),
        ("int8", "budget", "93 %", "deploy --precision fp16"),
        ("fp32", "top-1", "12.00 %", "train further"),
        ("fp16", "SQNR", "20.00 dB", "try --precision fp32"),
        ("int8", "SQNR", "20.00 dB", "--budget agreement=98"),
    ],
)
def test_every_gate_says_what_to_try(
    make_job: Callable[..., Job], precision: str, name: str, found: str, advice: str
) -> None:
    job = make_job(precision=precision)
    record = replace(job.load(EvaluationRecord, EVALUATION), verdicts=())
    job.path(EVALUATION).write_text(json.dumps(encode(record)))
    assert advice in what_to_try(job, GateResult(name, "at least 99 %", found, False))


def written(job: Job, file: str, **changes: Any) -> None:
    kind: type[Any] = {EVALUATION: EvaluationRecord, QUANTIZATION: QuantizationRecord}[file]
    job.path(file).write_text(json.dumps(encode(replace(job.load(kind, file), **changes))))


def test_labels_in_another_order_are_a_check_that_fails(make_job: Callable[..., Job]) -> None:
    """INT8 may be as near to FP32 as can be: where the labels are another list's, no accuracy means anything."""
    job = make_job()
    rows = (StepResult("evaluate", "done", 1.0, ""),)
    name = "The labels fit the model's classes"
    before = {check.name: check.ok for check in checks(job, rows)}
    assert before[name]
    record = job.load(EvaluationRecord, EVALUATION)
    wrong = Verdict("problem", "label order", "the labels count from one")
    written(job, EVALUATION, verdicts=(*record.verdicts, wrong))
    after = {check.name: (check.ok, check.text) for check in checks(job, rows)}
    assert after[name] == (False, "the labels count from one")


def test_what_quantisation_doubts_comes_first_in_the_banner(make_job: Callable[..., Job]) -> None:
    job = make_job()
    assert not any(doubt.name == "INT8 is doubtful" for doubt in doubts(job, ()))
    written(job, QUANTIZATION, doubts=("the INT8 model is ruined: 12.0 % agreement",))
    assert doubts(job, ())[0].text == "the INT8 model is ruined: 12.0 % agreement"
