"""The report of a training run: what its charts show is what the epochs were."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from googlenet_deploy.report.charts.lines import BASE, LEFT, RIGHT, TOP, Line, lines_chart
from googlenet_deploy.report.training_history import training_page, training_picture, write_training_report

BLUE, ORANGE = (31, 119, 180), (214, 102, 14)


def epoch(number: int, loss: float, accuracy: float, best: bool = True) -> dict[str, Any]:
    return {
        "epoch": number,
        "train_loss": loss,
        "validation_loss": loss / 2,
        "train_accuracy_percent": accuracy,
        "validation_accuracy_percent": accuracy / 2,
        "best": best,
    }


RUN = [epoch(1, 4.0, 20.0), epoch(2, 2.0, 60.0), epoch(3, 1.0, 50.0, best=False)]


def test_points_lie_where_the_values_are() -> None:
    svg = lines_chart([1, 2, 3], [Line("loss", "c-int8", (4.0, 2.0, 0.0))], "", "Loss", str)
    points = re.findall(r'<circle class="c-int8" cx="([\d.]+)" cy="([\d.]+)" r="2.5">', svg)
    wanted = [(LEFT, TOP), ((LEFT + RIGHT) / 2, (TOP + BASE) / 2), (RIGHT, BASE)]
    found = [float(value) for point in points for value in point]
    assert found == pytest.approx([value for point in wanted for value in point])


def test_the_page_names_the_best_epoch_and_escapes_the_title() -> None:
    page = training_page(RUN, "<b>mine</b>.safetensors", b"")
    assert "&lt;b&gt;mine&lt;/b&gt;.safetensors" in page
    assert "<b>mine" not in page
    assert "The best on the validation images is epoch 2: 30.00 %." in page
    assert page.count("<svg") == 2
    row = '<tr><th scope="row">3</th><td class="n">1.0000</td><td class="n">0.5000</td><td class="n">50.00</td>'
    assert row in page
    assert "http" not in re.sub(r"http-equiv", "", page)  # nothing is loaded


def test_the_picture_has_both_charts_in_both_colours() -> None:
    data = training_picture(RUN)
    assert data == training_picture(RUN)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    assert image.size == (1280, 480)
    for left in (0, 640):
        panel = image.crop((left, 60, left + 640, 480))  # below the names of the lines
        counts = {colour: number for number, colour in panel.getcolors(1 << 20) or ()}
        assert counts[BLUE] > 100
        assert counts[ORANGE] > 100


@pytest.mark.parametrize("run", [RUN[:1], [epoch(1, 0.0, 0.0), epoch(2, 0.0, 0.0)], [epoch(7, 1e-5, 100.0)]])
def test_short_and_flat_runs_are_drawn(run: list[dict[str, Any]], tmp_path: Path) -> None:
    page, picture = write_training_report(tmp_path / "run.html", run, "m")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert page.read_text(encoding="utf-8").count('r="2.5"') == 4 * len(run)
