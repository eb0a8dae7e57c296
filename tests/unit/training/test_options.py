"""Options out of range are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from googlenet_deploy.errors import UsageError
from googlenet_deploy.training.options import TrainingOptions


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--epochs", {"epochs": 0}),
        ("--batch-size", {"batch_size": 1}),
        ("--input-size", {"input_size": 31}),
        ("--resize", {"resize": 60, "input_size": 64}),
        ("--lr", {"learning_rate": 0.0}),
        ("--lr", {"learning_rate": float("nan")}),
        ("--width", {"width": -1.0}),
        ("--momentum", {"momentum": 1.0}),
        ("--averaging", {"averaging": 1.5}),
        ("--schedule", {"schedule": "linear"}),
        ("--augmentation", {"augmentation": "all"}),
        ("--validation-share", {"validation_share": 1.0}),
        ("--weight-decay", {"weight_decay": float("nan")}),
    ],
)
def test_out_of_range(option: str, values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=option):
        TrainingOptions(**values)


def test_the_record_leaves_out_what_cannot_change_the_result() -> None:
    record = TrainingOptions(workers=3, cache_megabytes=1).to_record()
    assert record == TrainingOptions().to_record()
    assert record["seed"] == 0
