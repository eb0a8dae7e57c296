"""The walk-throughs in examples/: every block of commands runs, on a small network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from googlenet_deploy.export.samples import smooth_pictures
from googlenet_deploy.report.results import load_results
from tests.unit.deployment.conftest import Ground, ground

__all__ = ["ground"]  # the small classifier with its images, a fixture

FENCE = re.compile(r"^```sh(?P<words>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_HERE = "on the device"


@dataclass(frozen=True)
class Block:
    """One block of commands, and what stands behind its fence: "settings", "exit 3", "on the device"."""

    words: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    found = [Block(match["words"].strip(), match["text"]) for match in FENCE.finditer(page.read_text(encoding="utf-8"))]
    assert page.read_text(encoding="utf-8").count("```") == 2 * len(found), "every block is sh"
    return found


def run_page(page: Path, settings: dict[str, str], folder: Path) -> str:
    """Runs all blocks of a page, its settings replaced by ours; what they printed."""
    blocks = blocks_of(page)
    assert blocks[0].words == "settings"
    names = {line.partition("=")[0] for line in blocks[0].text.splitlines()}
    assert names <= set(settings), f"the page has other settings than the test: {names}"
    printed = ""
    environment = {**os.environ, **settings, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for block in blocks[1:]:
        if block.words == NOT_HERE:
            continue
        expected = int(block.words.removeprefix("exit ") or 0)
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == expected, f"{block.text}\n{result.stdout}\n{result.stderr}"
        printed += result.stdout + result.stderr
    return printed


@pytest.fixture
def settings(ground: Ground, tmp_path: Path) -> dict[str, str]:
    return {
        "WEIGHTS": str(ground.weights),
        "IMAGES": str(ground.images),
        "LABELS": str(ground.labels),
        "WORK": str(tmp_path / "work"),
        "FAST": "--no-benchmark --golden-images 2 --calibration-images 8 --no-gates",
    }


def test_pages_are_listed_and_tested(repository: Path) -> None:
    pages = {path.name for path in (repository / "examples").glob("*.md")} - {"README.md"}
    listed = set(re.findall(r"\(([a-z0-9-]+\.md)\)", (repository / "examples/README.md").read_text(encoding="utf-8")))
    assert pages == listed == {"imagenet-to-orin-nano.md", "own-classes.md", "int8-diagnosed.md"}


def test_imagenet_to_an_orin_nano(repository: Path, settings: dict[str, str], tmp_path: Path) -> None:
    # The page's own limits are for real photographs; here there are 12 images.
    settings["FAST"] = settings["FAST"].replace(" --no-gates", "")
    page = tmp_path / "page.md"
    text = (repository / "examples/imagenet-to-orin-nano.md").read_text(encoding="utf-8")
    page.write_text(text.replace("--require loss=2", "--require loss=60").replace("agreement=90", "agreement=40"))
    settings["FAST"] += " --require agreement=40"
    printed = run_page(page, settings, tmp_path)
    assert "ok       model.int8.onnx" in printed
    assert "deepstream bundle for jetpack-6.2, INT8" in printed
    assert load_results(tmp_path / "work/results.json").subject.target == "orin-nano"


def test_own_classes(repository: Path, settings: dict[str, str], tmp_path: Path) -> None:
    colours = {"red": (0.4, 1, 1), "green": (1, 0.4, 1), "blue": (1, 1, 0.4)}
    pictures = smooth_pictures(36, (72, 72), 3, seed=4)
    for index, pixels in enumerate(pictures):
        name = list(colours)[index % 3]
        folder = tmp_path / "photos" / ("train" if index < 21 else "val") / name
        folder.mkdir(parents=True, exist_ok=True)
        dimmed = (pixels * [1.4 - factor for factor in colours[name]]).clip(0, 255).astype("uint8")
        Image.fromarray(dimmed).save(folder / f"{index}.png")
    settings["PHOTOS"] = str(tmp_path / "photos")
    settings["FAST_TRAINING"] = "--epochs 2 --augmentation none --batch-size 8 --input-size 64"
    settings["FAST"] = settings["FAST"].replace("--calibration-images 8", "--calibration-images 6")
    printed = run_page(repository / "examples/own-classes.md", settings, tmp_path)
    results = load_results(tmp_path / "work/deployment/results.json")
    assert results.subject.classes == 3
    assert all(variant.top1 is not None for variant in results.variants)
    assert "image,rank,class,name,probability" in printed


def test_int8_diagnosed(repository: Path, settings: dict[str, str], ground: Ground, tmp_path: Path) -> None:
    command = [
        "-m",
        "googlenet_deploy",
        "export",
        "--weights",
        str(ground.weights),
        "--output",
        str(tmp_path / "m.onnx"),
    ]
    subprocess.run([sys.executable, *command, "--quiet"], check=True)
    settings["MODEL"] = str(tmp_path / "m.onnx")
    printed = run_page(repository / "examples/int8-diagnosed.md", settings, tmp_path)
    assert "problem: the model and its reference prepare images differently" in printed
    assert (tmp_path / "work/diagnosis.txt").read_text().count("problem:") >= 1
