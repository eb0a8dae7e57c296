from __future__ import annotations

import math

import numpy as np
import pytest

from googlenet_deploy.device.predictions import softmax
from googlenet_deploy.evaluation.agreement import Agreement

REFERENCE = np.random.default_rng(0).normal(0, 4, (32, 10)).astype(np.float32)


def compare(reference: np.ndarray, scores: np.ndarray) -> Agreement:
    agreement = Agreement()
    for start in range(0, len(reference), 5):  # in batches, as it is used
        agreement.add(reference[start : start + 5], scores[start : start + 5])
    return agreement


def test_equal_scores_agree_without_noise() -> None:
    agreement = compare(REFERENCE, REFERENCE)
    assert (agreement.images, agreement.equal) == (32, 32)
    assert agreement.mean_divergence == 0
    assert agreement.sqnr == math.inf


def test_sqnr_of_known_noise() -> None:
    scores = REFERENCE * np.float32(1.01)  # noise of a hundredth of the signal: 40 dB
    assert compare(REFERENCE, scores).sqnr == pytest.approx(40, abs=1e-3)
    assert compare(REFERENCE, -REFERENCE).sqnr == pytest.approx(-10 * math.log10(4))
    assert compare(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)).sqnr == -math.inf


def test_divergence_is_that_of_the_definition_for_logits_and_probabilities() -> None:
    scores = REFERENCE + np.random.default_rng(1).normal(0, 1, REFERENCE.shape).astype(np.float32)
    p, q = (softmax(each).astype(np.float64) for each in (REFERENCE, scores))
    expected = np.mean([sum(a * math.log(a / b) for a, b in zip(x, y, strict=True)) for x, y in zip(p, q, strict=True)])
    assert compare(REFERENCE, scores).mean_divergence == pytest.approx(expected, rel=1e-4)
    assert compare(softmax(REFERENCE), softmax(scores)).mean_divergence == pytest.approx(expected, rel=1e-4)


def test_agreement_counts_equal_best_classes() -> None:
    scores = REFERENCE.copy()
    scores[:3] = -scores[:3]
    assert compare(REFERENCE, scores).equal == 29


def test_zero_probabilities_give_a_finite_divergence() -> None:
    certain = np.array([[1.0, 0.0, 0.0]], np.float32)
    assert math.isfinite(compare(certain, certain[:, ::-1]).mean_divergence)


def noisy(images: int, seed: int) -> Agreement:
    random = np.random.default_rng(seed)
    reference = random.normal(0, 4, (images, 8)).astype(np.float32)
    scale = random.uniform(0.05, 0.4, (images, 1))  # images differ in how much noise they get
    return compare(reference, (reference + random.normal(0, 1, reference.shape) * scale).astype(np.float32))


def test_intervals_hold_the_truth_in_about_95_of_100_samples() -> None:
    truth = noisy(20_000, 999)
    agreements = [noisy(60, seed) for seed in range(400)]
    inside = [low <= truth.sqnr <= high for low, high in (each.sqnr_interval for each in agreements)]
    assert 0.90 < np.mean(inside) < 0.985
    inside = [low <= truth.mean_divergence <= high for low, high in (each.divergence_interval for each in agreements)]
    assert 0.85 < np.mean(inside) <= 1.0


def test_intervals_narrow_with_more_images_and_are_wide_open_for_one() -> None:
    few, many = (noisy(count, 1).sqnr_interval for count in (20, 2000))
    assert many[1] - many[0] < 0.3 * (few[1] - few[0])
    one = compare(REFERENCE[:1], REFERENCE[:1] + 1)
    assert one.sqnr_interval == (-math.inf, math.inf)
    assert one.divergence_interval == (0.0, math.inf)
    assert compare(REFERENCE, REFERENCE).sqnr_interval == (-math.inf, math.inf)
    assert compare(REFERENCE, REFERENCE).divergence_interval == (0.0, 0.0)


def test_the_share_that_agrees_has_its_interval() -> None:
    scores = REFERENCE.copy()
    scores[:3] = -scores[:3]
    assert (compare(REFERENCE, scores).proportion.successes, compare(REFERENCE, scores).proportion.total) == (29, 32)
