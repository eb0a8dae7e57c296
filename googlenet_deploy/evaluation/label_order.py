"""Finds the order of classes in which labels would match a model's predictions."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from googlenet_deploy.device.labels import imagenet_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Order = Callable[[int], int]

# A hypothesis must explain many more predictions than the labels as given, and enough in absolute terms.
LEAST_GAIN, LEAST_SHARE = 0.3, 0.4
LEAST_MATCHES, LEAST_SHIFTED = 3, 6  # images; a shift inferred from the images themselves needs more of them
IMAGES_PER_CLASS = 3


def explain_labels(best: Sequence[int], labels: Sequence[int], names: Sequence[str], classes: int) -> str:
    """Describes the order of classes in which the labels would match the predictions; empty if none is found.

    Args:
        best: The model's best class of each image.
        labels: The true class of each image, according to the labels.
        names: Class names in the model's order; may be empty.
        classes: Number of the model's classes.
    """
    right = _share(best, labels, lambda label: label)
    found = max(
        ((_share(best, labels, order), words) for words, order in _orders(names, classes, *_usual_shift(best, labels))),
        key=lambda entry: entry[0],
        default=(0.0, ""),
    )
    if found[0] >= max(LEAST_SHARE, right + LEAST_GAIN) and round(found[0] * len(best)) >= LEAST_MATCHES:
        return f"{found[1]}: so read, {100 * found[0]:.0f} % would be right"
    consistent = _consistent_share(best, labels)
    if consistent >= max(LEAST_SHARE, right + LEAST_GAIN):
        return f"images of one label do get one class ({100 * consistent:.0f} % of them), but another one"
    return _background(labels, classes) if right < LEAST_SHARE else ""


def _background(labels: Sequence[int], classes: int) -> str:
    """A hint if a model with wrong predictions has one class more than ImageNet and no label uses it."""
    if classes != len(imagenet_classes()) + 1 or len(labels) < LEAST_MATCHES or max(labels) >= classes - 1:
        return ""
    return (
        f"the model has {classes} classes, as ImageNet's with a background class ahead, and no label is above "
        f"{max(labels)}, so the labels may lack that class (add 1 to them)"
    )


def _share(best: Sequence[int], labels: Sequence[int], order: Order) -> float:
    return sum(answer == order(label) for answer, label in zip(best, labels, strict=True)) / max(1, len(best))


def _usual_shift(best: Sequence[int], labels: Sequence[int]) -> tuple[int, int]:
    """The most frequent difference between the model's class and the label's, and its number of images."""
    differences = Counter(answer - label for answer, label in zip(best, labels, strict=True))
    return differences.most_common(1)[0] if differences else (0, 0)


def _orders(names: Sequence[str], classes: int, shift: int, matches: int) -> Iterator[tuple[str, Order]]:
    yield "the labels count from one, or have a background class ahead", lambda label: label - 1
    yield "the model has a background class ahead, which the labels lack", lambda label: label + 1
    if abs(shift) > 1 and matches >= LEAST_SHIFTED:
        words = f"the model's classes are {abs(shift)} places {'after' if shift > 0 else 'before'} those of the labels"
        yield words, lambda label: label + shift
    as_text = sorted(range(classes), key=str)
    yield from _permutations("the classes' numbers were sorted as text (0, 1, 10, 11, ... 2, ...)", as_text)
    names = _names_of(names, classes)
    if len(names) == classes:
        by_name = sorted(range(classes), key=lambda index: names[index].lower())
        yield from _permutations("the classes were sorted by their names", by_name)
        with_capitals = sorted(range(classes), key=lambda index: names[index])
        if with_capitals != by_name:
            yield from _permutations("the classes were sorted by their names, capital letters first", with_capitals)


def _names_of(names: Sequence[str], classes: int) -> Sequence[str]:
    """The model's class names; ImageNet's if it has no names but the same number of classes."""
    imagenet = imagenet_classes()
    return tuple(entry.name for entry in imagenet) if not names and classes == len(imagenet) else names


def _permutations(words: str, order: list[int]) -> Iterator[tuple[str, Order]]:
    """An order and its inverse, since it is not known which of the two sides was sorted."""
    inverse = {index: position for position, index in enumerate(order)}
    yield words, lambda label: inverse.get(label, -1)
    yield words, lambda label: order[label] if 0 <= label < len(order) else -1


def _consistent_share(best: Sequence[int], labels: Sequence[int]) -> float:
    """Share of images whose predicted class is their label's most frequent one, over labels with several images."""
    answers: dict[int, Counter[int]] = defaultdict(Counter)
    for answer, label in zip(best, labels, strict=True):
        answers[label][answer] += 1
    enough = [counts for counts in answers.values() if counts.total() >= IMAGES_PER_CLASS]
    favourites = {counts.most_common(1)[0][0] for counts in enough}
    if len(favourites) < 2:  # a single class for everything is not an order
        return 0.0
    return sum(counts.most_common(1)[0][1] for counts in enough) / max(1, sum(counts.total() for counts in enough))
