"""Each rule by its own evidence; faults made in real models are in calibration's tests of inner errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from googlenet_deploy.device.specification import BVLC, TORCHVISION
from googlenet_deploy.evaluation.agreement import Agreement
from googlenet_deploy.evaluation.diagnosis import Evidence, Verdict, diagnose, evidence_of, prepared_differently
from googlenet_deploy.evaluation.evaluate import Answers, Evaluation
from googlenet_deploy.evaluation.layer_error import LayerError, TensorRange
from googlenet_deploy.evaluation.statistics import PairedDifference

COUNT = 500


def agreement(decibels: float = 30.0, equal: int = COUNT - 10) -> Agreement:
    noise = COUNT * 10 ** (-decibels / 10)
    return Agreement(COUNT, equal, 1.0, float(COUNT), noise, np.zeros(4))


def use(tensor: str, **changes: Any) -> TensorRange:
    made = TensorRange(tensor, False, 10.0, 9.9, 0.99, 0.0, 0.0, 32.0)
    return replace(made, **changes)


IMAGE = use("input", is_input=True, sqnr=44.0)
INNER = tuple(use(f"t{index}") for index in range(20))


def evidence(**changes: Any) -> Evidence:
    """That of a sound model."""
    labels = list(np.random.default_rng(0).integers(0, 10, COUNT))
    made = Evidence(
        agreement=agreement(),
        paired=PairedDifference(3, 5, COUNT),
        best=labels,
        reference_best=labels,
        labels=labels,
        classes=10,
        reference_right=0.75,
        reference_confidence=0.8,
        ranges=(IMAGE, *INNER),
        layers=(LayerError("conv1", "Conv", "t0", 36.0, None, 36.0), LayerError("norm", "LRN", "t1", 30.0, 36.0, 30.0)),
        calibration_images=256,
    )
    return replace(made, **changes)


def worse(**changes: Any) -> Evidence:
    """That of a model with some fault."""
    return evidence(**{"agreement": agreement(12.0, 400), **changes})


def causes(given: Evidence) -> list[tuple[str, str]]:
    return [(verdict.severity, verdict.cause) for verdict in diagnose(given)]


def text_of(given: Evidence, cause: str) -> str:
    return next(verdict.text for verdict in diagnose(given) if verdict.cause == cause)


def test_a_sound_model_is_called_so() -> None:
    assert causes(evidence()) == [("fine", "sound")]
    assert "no more than chance" in text_of(evidence(), "sound")
    better = evidence(paired=PairedDifference(20, 2, COUNT))
    assert "in the model's favour" in text_of(better, "sound")


@pytest.mark.parametrize(
    "change",
    [
        {"agreement": agreement(20.0)},
        {"agreement": agreement(30.0, 440)},
        {"paired": PairedDifference(2, 20, COUNT)},
    ],
    ids=["noise", "agreement", "top-1"],
)
def test_what_is_not_sound_is_a_problem_even_without_a_reason(change: dict[str, Any]) -> None:
    given = evidence(**change)
    assert not given.is_sound
    assert causes(given) == [("problem", "unexplained")]
    assert "t0 (32 dB), t1 (32 dB), t2 (32 dB)" in text_of(given, "unexplained")
    assert "--budget" in text_of(given, "unexplained")


def test_without_inner_tensors_that_is_said() -> None:
    assert "inner tensors were not compared" in text_of(worse(ranges=(), layers=()), "unexplained")


def test_agreement_on_few_images_is_judged_by_its_interval() -> None:
    few = Agreement(20, 19, 0.1, 20.0, 20.0 * 10**-3, np.zeros(4))
    given = evidence(agreement=few, paired=PairedDifference(0, 1, 20))
    assert given.is_sound
    assert ("note", "few images") in causes(given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sqnr": 3.0, "saturated": 0.4, "used": 50.0, "largest": 500.0}, "reach 500, 40 % lie beyond 10"),
        ({"sqnr": 8.0, "used": 0.02, "largest": 0.2}, "reach 0.2, 2 % of the range of 10"),
        ({"sqnr": 30.0, "used": 1.4, "saturated": 0.02, "largest": 14.0}, "reach 14, 2 % lie beyond 10"),
        ({"sqnr": 33.0, "used": 0.5, "largest": 5.0}, "reach 5, 50 % of the range of 10"),
    ],
)
def test_an_image_that_does_not_fit_its_range(change: dict[str, Any], words: str) -> None:
    given = worse(ranges=(replace(IMAGE, **change), *INNER))
    assert causes(given)[0] == ("problem", "preprocessing")
    assert words in text_of(given, "preprocessing")


def test_an_image_that_fits_badly_without_harm_is_a_note() -> None:
    assert causes(evidence(ranges=(replace(IMAGE, used=0.5), *INNER)))[0] == ("note", "preprocessing")


def test_preparation_that_differs() -> None:
    given = {"channels": ("RGB", "BGR")}
    assert causes(worse(preparation=given))[0] == ("problem", "preprocessing")
    assert causes(evidence(preparation=given))[0] == ("note", "preprocessing")
    assert "channels RGB against BGR" in text_of(evidence(preparation=given), "preprocessing")


def clipped(count: int, **changes: Any) -> tuple[TensorRange, ...]:
    worst = {"saturated": 0.02, "sqnr": 15.0, "used": 2.0, **changes}
    return (IMAGE, *(replace(each, **worst) if index < count else each for index, each in enumerate(INNER)))


def test_one_clipped_tensor_is_that_tensor() -> None:
    given = worse(ranges=clipped(1))
    assert causes(given) == [("problem", "saturated tensor")]
    assert "t0 (2 % clipped, 15 dB)" in text_of(given, "saturated tensor")


def test_many_clipped_tensors_are_the_calibrations_images() -> None:
    given = worse(ranges=clipped(8, sqnr=24.0))
    assert causes(given) == [("problem", "calibration images")]
    assert "8 of 20 activations" in text_of(given, "calibration images")
    assert "unlike images" in text_of(given, "calibration images")


def test_one_tensor_that_stands_out_is_that_tensor_also_where_others_follow() -> None:
    first, *others = clipped(8, saturated=0.001, sqnr=30.0)[1:]
    given = worse(ranges=(IMAGE, replace(first, saturated=0.3, sqnr=2.0), *others))
    assert causes(given) == [("problem", "saturated tensor")]


def test_few_calibration_images_are_named() -> None:
    given = worse(ranges=clipped(1), calibration_images=4)
    assert "calibrated on 4 images only" in text_of(given, "calibration images")
    assert "0 of" not in text_of(given, "calibration images")
    assert causes(evidence(calibration_images=4))[0] == ("note", "calibration images")


def test_what_was_clipped_in_calibration_may_be_clipped_again() -> None:
    ranges = clipped(8, expected=0.01, saturated=0.03)
    assert causes(evidence(ranges=ranges)) == [("fine", "sound")]


def test_of_models_that_do_not_say_more_must_be_clipped() -> None:
    assert causes(evidence(ranges=clipped(8, expected=None, saturated=0.001))) == [("fine", "sound")]
    given = evidence(ranges=clipped(8, expected=None, saturated=0.01))
    assert ("note", "calibration images") in causes(given)


def test_a_range_that_is_too_wide() -> None:
    given = worse(ranges=clipped(1, saturated=0.0, used=0.05, sqnr=9.0))
    assert causes(given) == [("problem", "range too wide")]
    assert "t0 uses 5 % of its range" in text_of(given, "range too wide")
    two = worse(ranges=clipped(2, saturated=0.0, used=0.05, sqnr=9.0))
    assert "1 other tensors likewise" in text_of(two, "range too wide")


def test_float_operators_in_between() -> None:
    lrn = LayerError("norm1", "LRN", "norm1", 14.0, 24.0, 14.0)
    given = worse(ahead_of_lrn=("maxpool1/DequantizeLinear",), layers=(lrn,))
    assert causes(given) == [("problem", "float operator in between")]
    text = text_of(given, "float operator in between")
    assert text.startswith("maxpool1/DequantizeLinear quantises what an LRN reads")
    assert "14 dB are left behind LRN norm1" in text
    division = LayerError("div", "Div", "div", 10.0, 30.0, 10.0)
    assert causes(worse(layers=(division,))) == [("problem", "float operator in between")]
    assert causes(evidence(layers=(division,), ahead_of_lrn=("p",))) == [("fine", "sound")]
    assert "left behind" not in text_of(worse(ahead_of_lrn=("p",), layers=()), "float operator in between")


def test_a_layer_that_breaks_what_comes_in_whole() -> None:
    broken = LayerError("conv5", "Conv", "t5", 6.0, 28.0, 6.0)
    after = LayerError("conv6", "Conv", "t6", 5.0, 6.0, 5.0)
    given = worse(layers=(broken, after), ranges=clipped(8, sqnr=5.0))
    assert causes(given) == [("problem", "layer")]
    assert "Conv conv5 alone raises the SQNR from 28 to 6 dB" in text_of(given, "layer")
    rounded = replace(broken, unrounded=27.0)
    assert causes(worse(layers=(rounded,), ranges=clipped(1))) == [("problem", "saturated tensor")]


def test_one_class_for_all() -> None:
    lost = LayerError("conv5", "Conv", "t5", -4.0, 28.0, -4.0)
    given = worse(best=[7] * COUNT, layers=(lost,))
    assert [cause for _, cause in causes(given)] == ["layer", "collapse"]
    assert "the same class to every image, 7; the signal is lost at Conv conv5 (-4 dB)" in text_of(given, "collapse")
    assert "lost" not in text_of(worse(best=[7] * COUNT, layers=()), "collapse")
    alike = worse(best=[7] * COUNT, reference_best=[7] * COUNT)
    assert "collapse" not in [cause for _, cause in causes(alike)]


class TestLabels:
    """The reference is sure and wrong: no matter of quantisation."""

    def test_in_another_order(self) -> None:
        given = evidence()
        given = replace(given, labels=[label + 1 for label in given.labels], reference_right=0.01)
        assert causes(given)[0] == ("problem", "label order")
        text = text_of(given, "label order")
        assert "gets 1 % right while it is 80 % sure" in text
        assert "count from one" in text
        unsure = replace(given, reference_confidence=None)
        assert "sure" not in text_of(unsure, "label order")

    def test_of_another_list(self) -> None:
        random = np.random.default_rng(3)
        given = evidence(labels=list(random.integers(0, 10, COUNT)), reference_right=0.1)
        assert causes(given)[0] == ("problem", "labels or preprocessing")

    def test_of_a_reference_that_is_weak_and_knows_it(self) -> None:
        random = np.random.default_rng(3)
        labels = list(random.integers(0, 10, COUNT))
        assert causes(evidence(labels=labels, reference_right=0.1, reference_confidence=0.2)) == [("fine", "sound")]
        assert causes(evidence(labels=labels, reference_right=0.1, reference_confidence=None)) == [("fine", "sound")]


def test_models_that_only_normalise_elsewhere_prepare_alike() -> None:
    assert prepared_differently(BVLC, BVLC) == {}
    assert prepared_differently(BVLC.with_uint8_input(), BVLC) == {}
    assert prepared_differently(BVLC, BVLC.with_uint8_input()) == {}
    assert set(prepared_differently(BVLC, TORCHVISION)) == {"channels", "scale", "mean", "std"}


def test_the_evidence_of_an_evaluation() -> None:
    reference = Answers([True, False], [True, True], [1, 2], [0.9, 0.5])
    result = Evaluation(Answers([True, True], [True, True], [1, 3]), reference, agreement(), ["a", "b"], [1, 3], 4)
    found = evidence_of(result, ("w", "x", "y", "z"), {"scale": (1, 2)})
    assert (found.paired.gained, found.paired.lost) == (1, 0)
    assert (found.reference_right, found.reference_confidence, found.classes) == (0.5, 0.7, 4)
    assert (found.best, found.reference_best, found.labels) == ([1, 3], [1, 2], [1, 3])
    assert evidence_of(replace(result, reference=Answers([True], [True], [1]), model=Answers([True], [True], [1]))
                       ).reference_confidence is None  # fmt: skip


def test_problems_come_first() -> None:
    given = worse(paired=PairedDifference(0, 0, 20), preparation={"scale": (1, 2)})
    severities = [verdict.severity for verdict in diagnose(given)]
    assert severities == sorted(severities, key=("problem", "note", "fine").index)
    assert isinstance(diagnose(given)[0], Verdict)
