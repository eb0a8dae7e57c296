"""The answers at the top."""

from __future__ import annotations

from dataclasses import replace

from googlenet_deploy.report.results import MEASURED, Check, Difference, Gate, Missing, Quantity, Results, Step
from googlenet_deploy.report.summary import BAD, GOOD, OPEN, summarise


def with_int8(results: Results, **changes: object) -> Results:
    kept = [replace(v, **changes) if v.name == "int8" else v for v in results.variants]  # type: ignore[arg-type]
    return replace(results, variants=tuple(kept))


def test_all_holds(full: Results) -> None:
    summary = summarise(full)
    assert summary.state == GOOD
    assert summary.verdict == "Everything that was checked holds: 1 check and 1 gate."
    right, fast, energy, memory = summary.tiles
    assert right.answer == "75.0\u202f%"
    assert "\u22120.4 points against FP32" in right.detail
    assert right.state == GOOD
    assert fast.answer == "\u2265\u202f0.100\u202fms"
    assert "bound" in fast.detail
    assert energy.answer == "\u2265\u202f2.63\u202fmJ"
    assert memory.answer == "\u2265\u202f8.83\u202fMB"
    assert summary.unchecked == (("layer times", "no engine ran here"),)


def test_measured_numbers_say_so(full: Results) -> None:
    measured = Quantity(5.2, "ms", MEASURED, "Orin Nano, 15W")
    tile = summarise(with_int8(full, latency=measured)).tiles[1]
    assert (tile.answer, tile.detail) == ("5.20\u202fms", "per image measured on Orin Nano, 15W")


def test_a_gate_that_does_not_hold_comes_first(full: Results) -> None:
    summary = summarise(replace(full, gates=(Gate("agreement", "99 %", "98.4 %", False),)))
    assert summary.state == BAD
    assert summary.verdict == "Not ready: agreement is 98.4 %, required is 99 %."
    assert summary.tiles[0].state == BAD


def test_a_check_that_fails_and_a_step_that_stopped(full: Results) -> None:
    broken = replace(full, checks=(Check("self-test", False, "the self-test fails"),))
    assert summarise(broken).verdict == "Not ready: the self-test fails."
    stopped = replace(full, steps=(Step("quantize", "failed", 1.0, "the budget cannot be met"),))
    assert summarise(stopped).verdict == "It stopped at quantize: the budget cannot be met"


def test_without_gates_chance_decides(full: Results) -> None:
    plain = replace(full, gates=())
    assert summarise(plain).tiles[0].state == GOOD
    worse = with_int8(plain, difference=Difference(-3.0, -5.0, -1.0, 1, 9))
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
