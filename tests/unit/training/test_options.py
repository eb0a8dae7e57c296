"""Options out of range are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from googlenet_deploy.errors import UsageError
from googlenet_deploy.training.options import IMPLIED, TrainingOptions, implied


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


NOTEBOOK = {"schedule": "constant", "warmup_epochs": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0, "averaging": 0.0}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {}),
        ({"optimizer": "sgd", "resize_mode": "short-side"}, {}),
        ({"optimizer": "adam"}, NOTEBOOK),
        ({"resize_mode": "stretch", "epochs": 3}, {"augmentation": "none"}),
        ({"optimizer": "adam", "resize_mode": "stretch"}, {**NOTEBOOK, "augmentation": "none"}),
    ],
)
def test_what_the_notebooks_recipe_implies(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert implied(given) == wanted


@pytest.mark.parametrize(("name", "value"), [("schedule", "cosine"), ("averaging", 0.9), ("weight_decay", 0.0)])
def test_what_is_given_is_never_replaced(name: str, value: object) -> None:
    """Also if it equals the option's usual default."""
    given = {"optimizer": "adam", name: value}
    assert implied(given) == {key: default for key, default in NOTEBOOK.items() if key != name}
    options = TrainingOptions(**{**implied(given), **given})
    assert getattr(options, name) == value
    assert options.to_record()["label_smoothing"] == 0.0


def test_implied_options_exist_and_are_in_range() -> None:
    for (name, value), options in IMPLIED.items():
        TrainingOptions(**{name: value, **options})
        assert name not in options
