"""Labels in another order than the model's classes are recognised, and right ones are left alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from googlenet_deploy.device.labels import imagenet_classes
from googlenet_deploy.evaluation.diagnosis import label_verdicts
from googlenet_deploy.evaluation.evaluate import Answers, Evaluation
from googlenet_deploy.evaluation.label_order import explain_labels

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


@pytest.mark.parametrize(("shift", "words"), [(5, "5 places before"), (-3, "3 places after")])
def test_any_shift_is_named(shift: int, words: str) -> None:
    assert words in explained(lambda index: index + shift)


def test_a_few_images_prove_no_shift() -> None:
    assert explain_labels([7, 9], [2, 3], [], CLASSES) == ""
    assert explain_labels([7, 9, 12, 14], [3, 5, 8, 10], [], CLASSES) == ""


def test_a_thousand_classes_without_names_are_tried_in_the_order_of_imagenets_names() -> None:
    names = [entry.name for entry in imagenet_classes()]
    by_name = sorted(range(1000), key=lambda index: names[index].lower())
    truth = list(range(0, 1000, 13))
    text = explain_labels(truth, [by_name.index(index) for index in truth], [], 1000)
    assert text == "the classes were sorted by their names: so read, 100 % would be right"


def evaluation(best: list[int], labels: list[int], sure: float | None, classes: int = CLASSES) -> Evaluation:
    right = [answer == label for answer, label in zip(best, labels, strict=False)]
    said = Answers(top1=right, top5=right, best=best, confidence=[] if sure is None else [sure] * len(best))
    return Evaluation(model=said, names=["x"] * len(best), labels=labels, classes=classes, classes_given=5)


def test_labels_are_checked_without_a_reference() -> None:
    best, labels = answers(lambda index: index + 1)
    (verdict,) = label_verdicts(evaluation(best, labels, 0.8))
    assert (verdict.severity, verdict.cause) == ("problem", "label order")
    assert "the model gets" in verdict.text
    assert "count from one" in verdict.text
    (verdict,) = label_verdicts(evaluation(best, [label - 2 for label in labels], None, CLASSES + 1))
    assert "the model has a background class ahead" in verdict.text


def test_labels_of_a_list_that_nothing_explains() -> None:
    best, _ = answers(lambda index: index)
    other = np.random.default_rng(8).integers(0, CLASSES, len(best)).tolist()
    (verdict,) = label_verdicts(evaluation(best, other, 0.8))
    assert verdict.cause == "labels or preprocessing"


def test_right_labels_weak_models_and_few_images_are_left_alone() -> None:
    best, labels = answers(lambda index: index)
    assert label_verdicts(evaluation(best, labels, 0.8)) == []
    other = np.random.default_rng(8).integers(0, CLASSES, len(best)).tolist()
    assert label_verdicts(evaluation(best, other, 0.2)) == []
    assert label_verdicts(evaluation([1, 2, 3, 4], [1, 9, 8, 7], 0.74)) == []
    assert label_verdicts(evaluation(best, [], 0.8)) == []


def test_a_model_of_1001_classes_that_is_wrong_hints_at_the_background_class() -> None:
    labels = [3, 17, 512, 999]
    assert "may lack that class" in explain_labels([5, 5, 9, 700], labels, [], 1001)
    assert explain_labels(labels, labels, [], 1001) == ""  # right as they are
    assert explain_labels([5, 5, 9, 700], [3, 17, 512, 1000], [], 1001) == ""
    assert explain_labels([5, 5, 9, 700], labels, [], 1002) == ""
