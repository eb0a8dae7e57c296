"""Labels in another order than the model's classes are recognised, and right ones are left alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from googlenet_deploy.evaluation.diagnosis import explain_labels

CLASSES = 20
NAMES = [f"{'zyxwvutsrqponmlkjihg'[index]}-name" for index in range(CLASSES)]  # the reverse of the alphabet


def answers(order: Callable[[int], int], share: float = 0.9, count: int = 300) -> tuple[list[int], list[int]]:
    """The answers of a model that is right in `share` of all cases, and labels in another order."""
    random = np.random.default_rng(1)
    truth = random.integers(0, CLASSES, count)
    best = np.where(random.random(count) < share, truth, random.integers(0, CLASSES, count))
    return best.tolist(), [order(int(index)) for index in truth]


def explained(order: Callable[[int], int], share: float = 0.9, names: list[str] | None = None) -> str:
    best, labels = answers(order, share)
    return explain_labels(best, labels, names or [], CLASSES)


def test_right_labels_need_no_explanation() -> None:
    assert explained(lambda index: index, names=NAMES) == ""
    assert explained(lambda index: index, share=0.5) == ""


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (lambda index: index + 1, "the labels count from one, or have a background class"),
        (lambda index: index - 1, "the model has a background class"),
        (lambda index: sorted(range(CLASSES), key=str).index(index), "sorted as text (0, 1, 10"),
        (lambda index: sorted(range(CLASSES), key=str)[index], "sorted as text (0, 1, 10"),
        (lambda index: sorted(range(CLASSES), key=NAMES.__getitem__).index(index), "sorted by their names"),
    ],
)
def test_known_mistakes_are_named(order: Callable[[int], int], words: str) -> None:
    text = explained(order, names=NAMES)
    assert words in text
    assert "% would be right" in text


def test_any_other_order_is_recognised_as_one() -> None:
    order = np.random.default_rng(5).permutation(CLASSES)
    text = explained(lambda index: int(order[index]), names=NAMES)
    assert text.startswith("images of one label do get one class (9")


def test_noise_is_no_order() -> None:
    assert explained(lambda index: index, share=0.0, names=NAMES) == ""


def test_one_class_for_everything_is_no_order() -> None:
    _, labels = answers(lambda index: index)
    assert explain_labels([3] * len(labels), labels, NAMES, CLASSES) == ""


def test_no_images_are_no_order() -> None:
    assert explain_labels([], [], NAMES, CLASSES) == ""
