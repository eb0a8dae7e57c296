"""The report as HTML and Markdown."""

from __future__ import annotations

import html.parser
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from googlenet_deploy.report.html import render_html, write_html
from googlenet_deploy.report.markdown import render_markdown, write_markdown
from googlenet_deploy.report.results import Doubt, Missing, Results
from googlenet_deploy.report.sections.all import sections

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Checks nesting, and collects what matters."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_it_is_one_well_formed_page(full: Results, bare: Results) -> None:
    for results in (full, bare):
        page = Page(render_html(results))
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert max(Counter(ids).values()) == 1
        for link in page.all("a"):
            assert str(link["href"]).removeprefix("#") in ids
        assert [tag for tag, _ in page.tags].count("h1") == 1
        assert page.all("html")[0]["lang"] == "en"


def test_it_loads_nothing_and_runs_nothing(full: Results) -> None:
    text = render_html(full)
    page = Page(text)
    assert not page.all("script")
    assert not re.search(r"(?i)https?:|//[a-z]|url\(|@import|\bon[a-z]+=", text)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_tables_can_be_read_by_keyboard_and_ear(full: Results) -> None:
    page = Page(render_html(full))
    tables, captions = page.all("table"), page.all("caption")
    assert len(tables) == len(captions) > 8
    regions = [div for div in page.all("div") if div.get("role") == "region"]
    assert len(regions) == len(tables)
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)
    assert {head.get("scope") for head in page.all("th")} == {"col", "row"}
    assert all(image.get("alt") for image in page.all("img"))


def test_every_chart_has_its_numbers_below(full: Results) -> None:
    page = Page(render_html(full))
    words = " ".join(page.text)
    for number in ("75.0", "98.4", "29.4", "0.260", "22.0", "33.0", "35.0", "2.40", "0.412", "7.77", "18\u202fs"):
        assert number in words, number
    assert "inception29/conv" in words


def test_hostile_texts_stay_texts(full: Results) -> None:
    evil = "<script>alert(1)</script>\"'&"
    subject = replace(full.subject, title=evil, target_title=evil, weights=evil)
    results = replace(
        full,
        subject=subject,
        steps=(replace(full.steps[0], name=evil, text=evil),),
        layers=(replace(full.layers[0], name=evil),),
        histograms=(replace(full.histograms[0], tensor=evil),),
        memory=(replace(full.memory[0], node=evil),),
        disagreements=(replace(full.disagreements[0], image=evil, label=evil),),
        environment={evil: evil},
        commands=(evil,),
        notes=(evil,),
        missing=(Missing(evil, evil),),
    )
    page = Page(render_html(results))
    assert not page.all("script")
    assert "alert(1)" in " ".join(page.text)
    assert "<script>" not in render_markdown(results).replace("\\<script\\>", "").replace(f"```\n{evil}", "")


def test_what_is_missing_is_said_with_its_reason(bare: Results, full: Results) -> None:
    words = " ".join(Page(render_html(bare)).text)
    assert words.count("not here.") >= 9
    assert "The images have no labels" in words
    assert "Measured time per layer: not here. No engine ran here" in re.sub(
        r"\s+", " ", " ".join(Page(render_html(full)).text)
    )
    alone = replace(full, disagreements=())
    assert "There are none: every precision assigns the same class to every image." in render_html(alone)
    untested = replace(alone, missing=(Missing("disagreements", "there was no time"),))
    assert "There was no time" in render_html(untested)


@pytest.mark.parametrize(
    "part", ["layers", "histograms", "sensitivity", "memory", "latencies", "bounds", "steps", "variants", "commands"]
)
def test_any_part_may_be_missing(full: Results, part: str) -> None:
    Page(render_html(replace(full, **{part: ()})))
    render_markdown(replace(full, **{part: ()}))


def test_variants_without_figures_are_listed(full: Results) -> None:
    plain = tuple(
        replace(v, top1=None, top5=None, difference=None, agreement=None, latency=None) for v in full.variants
    )
    words = " ".join(Page(render_html(replace(full, variants=plain))).text)
    assert "Costs of each precision" in words
    assert "Agreement with FP32: not here." in re.sub(r"\s+", " ", words)


def test_long_tables_are_folded_and_short_ones_are_not(full: Results) -> None:
    page = Page(render_html(full))
    folded = len(page.all("details"))
    assert folded == 1  # the layers; all other tables are short here
    assert sum(len(section.blocks) > 0 for section in sections(full)) == 12


def test_markdown_has_the_same_numbers(full: Results) -> None:
    text = render_markdown(full)
    assert text.startswith("# GoogLeNet (bvlc) on Jetson Orin Nano 8 GB\n")
    assert "**Ship: 1 check and 1 gate hold.**" in text
    assert "| INT8 | 75.0 | 69.2 to 80.0 |" in text
    assert "<svg" not in text
    widths = [line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("|")]
    assert all(width >= 2 for width in widths)
    assert "- a.jpg: FP32 cat 60 %; INT8 dog 50 %; true cat" in text
    assert "```\ngooglenet-deploy deploy --weights w\n```" in text


def test_pipes_do_not_break_tables(full: Results) -> None:
    layers = (replace(full.layers[0], name="a|b"),)
    assert "| a\\|b | Conv |" in render_markdown(replace(full, layers=layers))


def test_files_are_written(full: Results, tmp_path: Path) -> None:
    write_html(tmp_path / "report.html", full)
    write_markdown(tmp_path / "report.md", full)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_html(full)
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == render_markdown(full)


def test_cells_are_styled_by_what_they_hold(full: Results) -> None:
    """Numbers stand to the right, hashes are small, sentences have room even on a phone."""
    steps = (replace(full.steps[0], text="a sentence " * 8),)
    text = render_html(replace(full, artefacts={"model.onnx": "0123abcd" * 8}, steps=steps))
    assert f'<td class="hash">{"0123abcd" * 8}</td>' in text
    assert f'<td class="words">{"a sentence " * 8}</td>' in text
    assert '<td class="n">' in text


def test_a_prediction_is_named_as_such_with_its_range(full: Results) -> None:
    text = render_markdown(full)
    assert "0.260\N{NARROW NO-BREAK SPACE}ms (predicted; 0.100 to 0.310)" in text
    assert (
        "\N{ALMOST EQUAL TO}\N{NARROW NO-BREAK SPACE}823\N{NARROW NO-BREAK SPACE}MB (predicted; 255 to 939) |" in text
    )
    assert "| How fast? | \N{ALMOST EQUAL TO}\N{NARROW NO-BREAK SPACE}0.260\N{NARROW NO-BREAK SPACE}ms |" in text
    assert "6.55\N{NARROW NO-BREAK SPACE}mJ (predicted; 5.10 to 8.20)" in text


def test_backticks_become_code_and_hostile_code_stays_text(full: Results) -> None:
    results = replace(full, notes=("run `quantize --repair` or `<b>`", "a lone ` stays"))
    html_text, markdown_text = render_html(results), render_markdown(results)
    assert "run <code>quantize --repair</code> or <code>&lt;b&gt;</code>" in html_text
    assert "a lone ` stays" in html_text
    assert "run `quantize --repair` or \\`\\<b\\>\\`" in markdown_text
    assert "a lone \\` stays" in markdown_text


def test_doubts_are_in_the_banner_in_amber(full: Results) -> None:
    results = replace(full, doubts=(Doubt("only 24 images", "only 24 images calibrate", "calibrate on `256`"),))
    text = render_html(results)
    banner = text[text.index('class="verdict care"') : text.index('class="tiles"')]
    assert "Ship with care: only 24 images." in banner
    assert "Only 24 images calibrate." in banner
    assert "Calibrate on <code>256</code>." in banner
    assert "- only 24 images calibrate; calibrate on `256`" in render_markdown(results)


def test_the_worst_layers_are_pointed_out(full: Results) -> None:
    text = render_html(full)
    assert "Farthest from FP32: <code>inception1/conv</code> (21.0 dB), <code>inception2/conv</code>" in text
    assert "Most is lost at: <code>inception29/conv</code> (14.5 dB)" in text
    assert '<tr class="marked"><th scope="row">inception1/conv</th>' in text
    assert '<tr><th scope="row">inception9/conv</th>' in text


def test_confusions_are_shown_with_their_images(full: Results) -> None:
    words = re.sub(r"\s+", " ", " ".join(Page(render_html(full)).text))
    assert "cat dog 3 of 20 2" in words
    assert "Most frequent confusions" in words
    none = replace(full, confusions=())
    assert "There are none: INT8 is right on every evaluation image." in render_html(none)


def test_the_head_is_about_this_deployment(full: Results) -> None:
    """A per cent sign stays on the line of its number, and images are others only beside those of the calibration."""
    title = "GoogLeNet, pruned to 61 % of its channels"
    subject = replace(full.subject, title=title, calibration_images=12, evaluation_images=34)
    both = " ".join(Page(render_html(replace(full, subject=subject))).text)
    assert "pruned to 61\N{NO-BREAK SPACE}% of its channels" in both
    assert "evaluated on 34 other images" in both
    alone = " ".join(Page(render_html(replace(full, subject=replace(subject, calibration_images=0)))).text)
    assert "evaluated on 34 images" in alone
    assert "calibrated on" not in alone
