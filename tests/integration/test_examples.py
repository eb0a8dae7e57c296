"""The walk-throughs in examples/: every block of commands runs, on a small network."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from googlenet_deploy.export.samples import smooth_pictures
from googlenet_deploy.report.results import load_results
from tests.unit.deployment.conftest import Finished, Ground, finished, ground

__all__ = ["finished", "ground"]  # the small classifier with its images, and its deployment: fixtures

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
    tested = {"imagenet-to-orin-nano.md", "own-classes.md", "int8-diagnosed.md", "your-own-module.md", "cifar10.md"}
    assert pages == listed == tested


def test_imagenet_to_an_orin_nano(repository: Path, settings: dict[str, str], tmp_path: Path) -> None:
    # The page's own limits are for real photographs; here there are 12 images.
    settings["FAST"] = settings["FAST"].replace(" --no-gates", "")
    page = tmp_path / "page.md"
    text = (repository / "examples/imagenet-to-orin-nano.md").read_text(encoding="utf-8")
    page.write_text(text.replace("--require loss=2", "--require loss=60").replace("agreement=90", "agreement=40"))
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


def test_int8_diagnosed(repository: Path, settings: dict[str, str], finished: Finished, tmp_path: Path) -> None:
    settings["MODEL"] = str(finished.result.folder / "model.onnx")
    printed = run_page(repository / "examples/int8-diagnosed.md", settings, tmp_path)
    assert "problem: the model and its reference prepare images differently" in printed
    assert (tmp_path / "work/diagnosis.txt").read_text().count("problem:") >= 1


def test_your_own_module(repository: Path, settings: dict[str, str], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = (repository / "examples/your-own-module.md").read_text(encoding="utf-8")
    page.write_text(text.replace("channels=32", "channels=8"))
    numbers = tmp_path / "numbers.csv"  # a module has no names of its classes
    numbers.write_text(Path(settings["LABELS"]).read_text(encoding="utf-8").replace(",class ", ","))
    run_page(page, {**settings, "LABELS": str(numbers)}, tmp_path)
    results = load_results(tmp_path / "work/deployment/results.json")
    assert results.subject.classes == 10
    answers = (tmp_path / "work/answers.csv").read_text().splitlines()
    assert len(answers) == 1 + len(list(Path(settings["IMAGES"]).rglob("*.png")))


def test_cifar10(repository: Path, settings: dict[str, str], tmp_path: Path) -> None:
    settings["CIFAR"] = str(write_cifar10(tmp_path / "cifar-10-binary.tar.gz", 4))
    settings["FAST_TRAINING"] = "--width 0.0625 --input-size 64 --epochs 1 --batch-size 10 --augmentation none"
    run_page(repository / "examples/cifar10.md", settings, tmp_path)
    assert len(list((tmp_path / "work/pictures").iterdir())) == 40
    agreement = json.loads((tmp_path / "work/agreement.json").read_text())
    assert agreement["images"] == 40
    assert (tmp_path / "work/training.html").read_text().startswith("<!doctype html>")


def write_cifar10(path: Path, per_class: int) -> Path:
    """An archive like CIFAR-10's binary one: classes are brightnesses, with noise."""
    random = np.random.default_rng(3)
    labels = np.tile(np.arange(10, dtype=np.uint8), per_class)
    with tarfile.open(path, "w:gz") as archive:
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
            pixels = random.integers(0, 25, (len(labels), 3072)) + 23 * labels[:, None]
            content = np.concatenate([labels[:, None], pixels.astype(np.uint8)], axis=1).tobytes()
            add_member(archive, f"{name}.bin", content)
        add_member(archive, "batches.meta.txt", "".join(f"class{index}\n" for index in range(10)).encode())
    return path


def add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
