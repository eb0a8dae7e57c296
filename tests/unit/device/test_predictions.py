from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from googlenet_deploy.device.predictions import class_scores, is_probability, predict, softmax, top_indices
from googlenet_deploy.errors import BadModelError

LOGITS = np.array([[1.0, 3.0, 2.0], [5.0, 5.0, -1.0]], np.float32)


def test_logits_become_probabilities() -> None:
    answers = predict({"logits": LOGITS}, 2, "m")
    np.testing.assert_array_equal(answers.indices, [[1, 2], [0, 1]])  # of equal ones the smaller index first
    np.testing.assert_array_equal(answers.scores, [[3, 2], [5, 5]])
    assert answers.probabilities is not None
    expected = np.exp(3) / (np.exp(1) + np.exp(2) + np.exp(3))
    assert answers.probabilities[0, 0] == pytest.approx(expected, rel=1e-6)


def test_probabilities_pass_through_no_second_softmax() -> None:
    probabilities = softmax(LOGITS)
    for name in ("probabilities", "prob_1"):
        answers = predict({name: probabilities}, 3, "m")
        np.testing.assert_array_equal(answers.probabilities, np.take_along_axis(probabilities, answers.indices, 1))


def test_half_precision_probabilities_are_still_probabilities() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (4, 1000)).astype(np.float32)
    assert is_probability(softmax(logits).astype(np.float16).astype(np.float32))
    assert not is_probability(logits)


def test_top_k_of_the_model_is_taken_as_it_is() -> None:
    outputs = {"top_k_values": np.array([[0.7, 0.2, 0.1]]), "top_k_indices": np.array([[4, 9, 2]], np.int32)}
    answers = predict(outputs, 2, "m")
    np.testing.assert_array_equal(answers.indices, [[4, 9]])
    np.testing.assert_allclose(answers.probabilities, [[0.7, 0.2]])


def test_top_k_logits_have_no_probabilities() -> None:
    answers = predict({"top_k_values": np.array([[8.5, 2.0]]), "top_k_indices": np.array([[4, 9]])}, 5, "m")
    assert answers.probabilities is None
    np.testing.assert_array_equal(answers.scores, [[8.5, 2.0]])


@pytest.mark.parametrize(
    ("values", "indices", "words"),
    [
        ([[1.0, 2.0]], [[1]], "do not fit"),
        ([1.0], [1], "do not fit"),
        ([[1.0]], [[0.5]], "do not fit"),
        ([[1.0]], [[-1]], "below 0"),
        ([[np.nan]], [[1]], "not finite"),
    ],
)
def test_top_k_that_makes_no_sense_is_refused(values: list[float], indices: list[float], words: str) -> None:
    with pytest.raises(BadModelError, match=f"^m: .*{words}"):
        predict({"top_k_values": np.array(values), "top_k_indices": np.array(indices)}, 1, "m")


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1), (2, 1, 3)])
def test_scores_of_every_usual_shape(shape: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(class_scores({"y": LOGITS.reshape(shape)}, "m"), LOGITS)


def test_our_own_names_come_before_other_outputs() -> None:
    np.testing.assert_array_equal(class_scores({"aux": -LOGITS, "logits": LOGITS}, "m"), LOGITS)


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"y": np.zeros(3, np.float32)},
        {"y": np.zeros((2, 1), np.float32)},
        {"y": np.zeros((2, 3), np.int64)},
        {"features": np.zeros((2, 8, 7, 7), np.float32)},
    ],
    ids=["none", "vector", "one class", "integers", "feature map"],
)
def test_outputs_of_no_classifier_are_refused(outputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(BadModelError, match=r"^m: no output looks like that of a classifier"):
        class_scores(outputs, "m")


def test_values_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(BadModelError, match="not finite"):
        predict({"logits": np.array([[np.nan, 1.0]], np.float32)}, 1, "m")


@given(
    stn.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(2, 9)), elements=st.floats(-(2.0**100), 2.0**100, width=32)
    )
)
def test_softmax_is_a_distribution_in_the_order_of_the_logits(logits: np.ndarray) -> None:
    probabilities = softmax(logits)
    assert is_probability(probabilities)
    best = top_indices(logits, 1)
    assert (np.take_along_axis(probabilities, best, 1) == probabilities.max(axis=1, keepdims=True)).all()


@given(st.integers(1, 20), st.integers(2, 9))
def test_never_more_classes_than_there_are(k: int, classes: int) -> None:
    scores = np.arange(classes, dtype=np.float32)[np.newaxis]
    indices = top_indices(scores, k)
    assert indices.shape == (1, min(k, classes))
    assert indices.tolist() == [sorted(range(classes), reverse=True)[:k]]
