"""What the report takes from the steps: images that precisions disagree on, and what to try at a gate."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from googlenet_deploy.deployment.gates import what_to_try
from googlenet_deploy.deployment.job import Job
from googlenet_deploy.deployment.report_data import THUMBNAIL, disagreements, thumbnail
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.report.results import Gate
from tests.unit.deployment.conftest import Ground


@pytest.fixture
def make_job(ground: Ground, copy_of: Callable[[], Path]) -> Callable[..., Job]:
    folder = copy_of()

    def make(**changes: Any) -> Job:
        return Job(ground.config(folder, **changes), load_target("orin-nano"), quiet=True)

    return make


def with_data(job: Job, step: str, **changes: Any) -> Job:
    """The job as if a step had left something else."""
    record = job.state.records[step]
    job.state.records[step] = replace(record, data={**record.data, **changes})
    return job


def test_images_that_precisions_disagree_on_are_shown(make_job: Callable[..., Job]) -> None:
    entry = {
        "image": "03.png",
        "label": 4,
        "answers": {"fp32": {"class": 4, "probability": 0.6}, "int8": {"class": 77, "probability": 0.5}},
    }
    unlabelled = {**entry, "image": "gone.png", "label": None}
    shown = disagreements(with_data(make_job(), "evaluate", disagreements=[entry, unlabelled]))
    assert [(item.image, item.label) for item in shown] == [("03.png", "class 4"), ("gone.png", "")]
    assert [(answer.variant, answer.name) for answer in shown[0].answers] == [("fp32", "class 4"), ("int8", "77")]
    size = Image.open(io.BytesIO(base64.b64decode(shown[0].thumbnail.partition("base64,")[2]))).size
    assert 1 < size[0] <= THUMBNAIL[0]
    assert shown[1].thumbnail == thumbnail(Path("nowhere.png"))  # a grey pixel stands in for what has gone


@pytest.mark.parametrize(
    ("precision", "name", "found", "advice"),
    [
        ("int8", "top-1", "not measured", "give --labels"),
        ("int8", "budget", "93 %", "deploy --precision fp16"),
        ("fp32", "top-1", "12.00 %", "train further"),
        ("fp16", "SQNR", "20.00 dB", "try --precision fp32"),
        ("int8", "SQNR", "20.00 dB", "--budget agreement=98"),
    ],
)
def test_every_gate_says_what_to_try(
    make_job: Callable[..., Job], precision: str, name: str, found: str, advice: str
) -> None:
    job = with_data(make_job(precision=precision), "evaluate", int8={"verdicts": []})
    assert advice in what_to_try(job, Gate(name, "at least 99 %", found, False))
