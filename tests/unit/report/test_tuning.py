"""The section on what `tune` measured."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tuned_example import TUNED

from googlenet_deploy.report.document import Absent, Chart, Table
from googlenet_deploy.report.html import render_html
from googlenet_deploy.report.markdown import render_markdown
from googlenet_deploy.report.results import Missing, Results, load_results, save_results
from googlenet_deploy.report.sections.tuning import section


def test_the_choice_its_reason_and_every_setting_are_there(full: Results) -> None:
    found = section(replace(full, tuned=replace(TUNED, reason="the best, told apart", meter="INA3221, module")))
    assert "the least energy per image within latency at most 5 ms" in found.lead
    assert "Chosen: model.int8.onnx, openvino, batch 2, 4 threads (the best, told apart)" in found.lead
    chart, left_out = found.blocks
    assert isinstance(chart, Chart)
    assert isinstance(chart.table, Table)
    assert isinstance(left_out, Table)
    assert [drawing.title for drawing in chart.drawings] == ["Throughput against latency", "Throughput against energy"]
    assert len(chart.table.rows) == 3
    assert chart.table.marked == {0}
    assert chart.table.rows[0][1:8] == ("INT8", "2", "2.00", "2.50", "500", "14.0", "98.5 %")
    assert chart.table.rows[2][9] == "behind in stage 1"
    assert left_out.rows == (("power mode MAXN", "needs a reboot"),)


def test_the_plot_has_a_mark_per_setting_and_names_the_frontier(full: Results) -> None:
    (chart, _) = section(replace(full, tuned=TUNED)).blocks
    assert isinstance(chart, Chart)
    latency, energy = (drawing.svg for drawing in chart.drawings)
    assert latency.count("<circle") == 3
    assert energy.count("<circle") == 2  # one setting has no energy
    # FP16 is slower and has less throughput, so it is not on the frontier.
    assert re.findall(r">([A-Z0-9]+ \N{MULTIPLICATION SIGN}\d)<", latency) == ["INT8 \N{MULTIPLICATION SIGN}2"]


def test_without_a_meter_there_is_one_plot_and_the_reason(full: Results) -> None:
    results = tuple(replace(each, millijoules_per_image=None) for each in TUNED.results)
    found = section(replace(full, tuned=replace(TUNED, results=results, objective="rate", no_energy="no meter here")))
    assert isinstance(found.blocks[0], Chart)
    assert len(found.blocks[0].drawings) == 1
    assert "No energy was measured: no meter here." in found.lead


def test_limits_that_nothing_holds_are_said_with_the_nearest(full: Results) -> None:
    found = section(replace(full, tuned=replace(TUNED, chosen=None, nearest=2, ties=())))
    assert "Nothing meets these limits; the nearest is model.fp16.onnx, openvino, batch 2" in found.lead


def test_both_pages_show_it_and_hostile_names_stay_text(full: Results) -> None:
    evil = "<script>alert(1)</script>|`x`"
    model = replace(TUNED.models[0], path=evil)
    results = tuple(
        replace(each, setting=replace(each.setting, model=evil), verdict=evil) for each in TUNED.results[:2]
    )
    tuned = replace(TUNED, models=(model,), results=results, ties=(1,))
    html = render_html(replace(full, tuned=tuned))
    assert "<script>alert(1)" not in html
    assert "Throughput against latency" in html
    assert "Tuning" in render_markdown(replace(full, tuned=tuned))


def test_it_survives_the_way_through_the_file(full: Results, tmp_path: Path) -> None:
    results = replace(full, tuned=TUNED)
    save_results(tmp_path / "results.json", results)
    assert load_results(tmp_path / "results.json").tuned == TUNED


def test_without_it_the_reason_is_there(full: Results) -> None:
    (absent,) = section(replace(full, missing=(Missing("tuning", "run `tune` on the device"),))).blocks
    assert isinstance(absent, Absent)
    assert absent.reason == "run `tune` on the device"
