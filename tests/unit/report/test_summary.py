"""The answers at the top."""

from __future__ import annotations

from dataclasses import replace

from googlenet_deploy.evaluation.statistics import PairedDifference
from googlenet_deploy.report.figures import MEASURED, Quantity
from googlenet_deploy.report.results import CheckResult, Doubt, GateResult, Missing, Results, StepResult
from googlenet_deploy.report.summary import BAD, CARE, GOOD, OPEN, summarise


def with_int8(results: Results, **changes: object) -> Results:
    kept = [replace(v, **changes) if v.name == "int8" else v for v in results.variants]  # type: ignore[arg-type]
    return replace(results, variants=tuple(kept))


def test_all_holds(full: Results) -> None:
    summary = summarise(full)
    assert summary.state == GOOD
    assert summary.verdict == "Ship: 1 check and 1 gate hold."
    right, fast, energy, memory = summary.tiles
    assert right.answer == "75.0\u202f%"
    assert "\u22120.4 points against FP32" in right.detail
    assert right.state == GOOD
    assert fast.answer == "\u2248\u202f0.260\u202fms"
    assert "predicted, not measured, for Jetson Orin Nano 8 GB, 25W: 0.100 to 0.310\u202fms" in fast.detail
    assert energy.answer == "\u2248\u202f6.55\u202fmJ"
    assert "5.10 to 8.20\u202fmJ in nine of ten cases" in energy.detail
    assert memory.answer == "\u2248\u202f823\u202fMB"
    assert summary.unchecked == (("layer times", "no engine ran here"),)


def test_measured_numbers_say_so(full: Results) -> None:
    measured = Quantity(5.2, "ms", MEASURED, "Orin Nano, 15W")
    tile = summarise(with_int8(full, latency=measured)).tiles[1]
    assert (tile.answer, tile.detail) == ("5.20\u202fms", "per image, measured on Orin Nano, 15W")


def test_a_gate_that_does_not_hold_comes_first(full: Results) -> None:
    summary = summarise(replace(full, gates=(GateResult("agreement", "99 %", "98.4 %", False),)))
    assert summary.state == BAD
    assert summary.verdict == "Do not ship: agreement is 98.4 %, required is 99 %."
    assert summary.tiles[0].state == BAD


def test_a_check_that_fails_and_a_step_that_stopped(full: Results) -> None:
    broken = replace(full, checks=(CheckResult("self-test", False, "the self-test fails"),))
    assert summarise(broken).verdict == "Do not ship: the self-test fails."
    stopped = replace(full, steps=(StepResult("quantize", "failed", 1.0, "the budget cannot be met"),))
    assert summarise(stopped).verdict == "Do not ship: it stopped at quantize, the budget cannot be met."


def test_without_gates_chance_decides(full: Results) -> None:
    plain = replace(full, gates=())
    assert summarise(plain).tiles[0].state == GOOD
    worse = with_int8(plain, difference=PairedDifference(1, 14, 244))
    assert summarise(worse).tiles[0].state == BAD
    unpaired = with_int8(plain, difference=None)
    tile = summarise(unpaired).tiles[0]
    assert tile.state == OPEN
    assert "FP32 has 75.4" in tile.detail


def test_without_labels_agreement_answers(full: Results) -> None:
    unlabelled = replace(full, missing=(Missing("accuracy", "the images have no labels"),))
    tile = summarise(with_int8(unlabelled, top1=None, difference=None)).tiles[0]
    assert tile.answer == "98.4\u202f%"
    assert "same class as FP32 on 244 images; the images have no labels" in tile.detail


def test_nothing_known_is_said(bare: Results, full: Results) -> None:
    summary = summarise(bare)
    assert (summary.state, summary.verdict) == (OPEN, "Nothing was checked.")
    assert [tile.answer for tile in summary.tiles] == ["not known", *["not measured"] * 3]
    assert summary.tiles[0].detail == "the images have no labels"
    nothing = with_int8(full, top1=None, agreement=None, latency=None, energy=None, memory=None)
    answers = [tile.answer for tile in summarise(nothing).tiles]
    assert answers == ["not measured", "not measured", "not measured", "28.0\u202fMB"]


def test_fp32_alone_gives_its_interval(full: Results) -> None:
    alone = replace(full, subject=replace(full.subject, precision="fp32"), gates=())
    assert "95\u202f% interval 69.6 to 80.4" in summarise(alone).tiles[0].detail


def test_doubts_make_it_ship_with_care_and_say_what_to_do(full: Results) -> None:
    few = Doubt("only 24 calibration images", "24 images calibrated the ranges", "calibrate on about 256")
    labels = Doubt("accuracy is unknown", "the images have no labels", "pass --labels")
    summary = summarise(replace(full, doubts=(few, labels)))
    assert (summary.state, summary.next) == (CARE, "")  # each doubt has its remedy
    assert summary.verdict == "Ship with care: only 24 calibration images; accuracy is unknown."
    assert summary.doubts == (few, labels)
    assert summary.tiles[0].state == CARE
    unknown = summarise(replace(full, doubts=(replace(few, remedy=""),)))
    assert unknown.next.startswith("run the bundle's self-test")
    broken = replace(full, doubts=(few,), checks=(CheckResult("self-test", False, "the self-test fails"),))
    assert summarise(broken).state == BAD  # a doubt does not soften a failure


def test_a_gate_that_could_not_fail_is_no_check(full: Results) -> None:
    vague = GateResult("agreement", "at least 98 %", "100.00 %", True, "189 images could show it")
    blind = CheckResult("No loss", True, "+0.00 points", "12 images would show only large losses")
    summary = summarise(replace(full, gates=(vague,), checks=(*full.checks, blind)))
    assert summary.verdict == "Ship: 1 check holds."
    assert len(summary.checked) == 1
    assert summary.unchecked[0] == ("agreement at least 98 %", "found 100.00 %, but 189 images could show it")
    assert summary.unchecked[1][0] == "No loss"


def test_what_the_device_measured_is_the_headline(full: Results) -> None:
    measured = Quantity(3.1, "ms", MEASURED, "Orin Nano, 15W")
    results = replace(with_int8(full, latency=measured), device={"measured on": "Orin Nano, 15W"})
    assert summarise(results).next == ""
    assert summarise(full).next.endswith("`deploy --device-results`")
