"""A model with its weights in a file beside it: every command answers as for the model in one file.

From whatever folder it is called, another file of the same name in the working folder included, and after the file of
weights was replaced.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from mini_googlenet import SPECIFICATION, build_tiny
from PIL import Image

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.export.samples import smooth_pictures

NAME = "m.onnx.data"
PLACES = ("own", "decoy", "elsewhere")
MINE, REPLACED, DECOY = 0, 1, 2  # seeds of the weights


class Ground:
    """The split model, the same in one file by seed, images, and three working folders."""

    def __init__(self, root: Path) -> None:
        self.root, self.images, self.model = root, root / "images", root / "own" / "m.onnx"
        for place in (*PLACES, "images"):
            (root / place).mkdir()
        for index, pixels in enumerate(smooth_pictures(10, (18, 20), 3, seed=3)):
            Image.fromarray(pixels).save(self.images / f"{index}.png")
        self.data = {}
        for seed in (DECOY, REPLACED, MINE):
            onnx.save(build_tiny(seed), str(self.whole(seed)))
            split = {"save_as_external_data": True, "location": NAME, "size_threshold": 0}
            onnx.save(build_tiny(seed), str(self.model), **split)
            self.data[seed] = (self.root / "own" / NAME).read_bytes()
            (self.root / "own" / NAME).unlink()
        (root / "decoy" / NAME).write_bytes(self.data[DECOY])
        self.use(MINE)
        assert len(set(self.data.values())) == len(self.data)
        assert len({len(data) for data in self.data.values()}) == 1

    def whole(self, seed: int) -> Path:
        return self.root / f"whole{seed}.onnx"

    def use(self, seed: int) -> None:
        (self.root / "own" / NAME).write_bytes(self.data[seed])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture
def ground(shared: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    # One cache for all tests of this file: a compiled model of other weights is in it.
    monkeypatch.setenv("GOOGLENET_DEPLOY_CACHE", str(shared.root / "cache"))
    shared.use(MINE)
    yield shared
    shared.use(MINE)


def probabilities(model: bytes | Path, images: Path) -> np.ndarray:
    """What plain ONNX Runtime makes of the images, without our code's sessions."""
    session = onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model))
    batch = np.stack([preprocess(load_image(path), SPECIFICATION) for path in sorted(images.iterdir())])
    (logits,) = session.run(["logits"], {"input": batch})
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def run(command: str, *words: object) -> None:
    assert main([command, *map(str, words)]) == 0


def infer(model: object, images: Path, output: Path, backend: str) -> np.ndarray:
    run("infer", model, images, "--backend", backend, "--top-k", 6, "--json", output)
    rows = sorted((json.loads(line) for line in output.read_text().splitlines()), key=lambda row: str(row["image"]))
    return np.array([[c["probability"] for c in sorted(row["classes"], key=lambda c: c["class"])] for row in rows])


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_infer_from_three_folders_and_with_other_weights(
    ground: Ground, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {seed: probabilities(ground.whole(seed), ground.images) for seed in (MINE, REPLACED, DECOY)}
    assert np.abs(wanted[MINE] - wanted[DECOY]).max() > 0.01
    for seed, places in ((MINE, PLACES), (REPLACED, PLACES[:2]), (MINE, PLACES[1:2])):
        ground.use(seed)
        for place in places:
            monkeypatch.chdir(ground.root / place)
            model = os.path.relpath(ground.model)
            got = infer(model, ground.images, tmp_path / "answers.json", backend)
            assert np.abs(got - wanted[seed]).max() < 1e-4, (seed, place)


def quantized(model: object, ground: Ground, output: Path) -> Any:
    """The calibration's ranges, and the graph of the INT8 model with its weights."""
    images = ["--images", ground.images, "--count", 6, "--quiet"]
    run("calibrate", model, *images, "--output", output.with_suffix(".json"))
    run("quantize", model, *images, "--table", output.with_suffix(".json"), "--output", output)
    ranges = json.loads(output.with_suffix(".json").read_text())["tensors"]
    return ranges, onnx.load(str(output)).graph.SerializeToString(deterministic=True)


def evaluated(model: object, ground: Ground, output: Path) -> Any:
    """Agreement and SQNR against a model of fixed weights."""
    reference = ["--reference", ground.whole(DECOY), "--layers", 4]
    run("evaluate", model, "--images", ground.images, *reference, "--json", output)
    values = json.loads(output.read_text())
    return values["figures"], values["inside"]


def packed(model: object, ground: Ground, output: Path) -> Any:
    """What the bundle's model answers, alone in a folder."""
    bundle = ["--kind", "jetson", "--target", "orin-nano", "--fp32", model, "--images", ground.images]
    run("bundle", *bundle, "--output", output.with_suffix(".zip"))
    with zipfile.ZipFile(output.with_suffix(".zip")) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".onnx"))
        assert not [name for name in archive.namelist() if name.endswith(".data")]
        return probabilities(archive.read(name), ground.images).tolist()


@pytest.mark.parametrize("command", [quantized, evaluated, packed])
def test_other_commands_answer_as_for_the_model_in_one_file(
    ground: Ground, tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for seed, place in ((MINE, "decoy"), (REPLACED, "elsewhere")):
        ground.use(seed)
        monkeypatch.chdir(ground.root / place)
        results.append(command(os.path.relpath(ground.model), ground, tmp_path / "split"))
        assert results[-1] == command(ground.whole(seed), ground, tmp_path / "whole"), place
    assert results[0] != results[1]


def test_benchmark_runs_from_another_folder_and_knows_the_weights_by_their_content(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ground.root / "decoy")
    hashes = []
    for seed in (MINE, REPLACED):
        ground.use(seed)
        options = ["--rounds", 1, "--seconds", 0.05, "--warm-up", 0, "--backend", "onnxruntime"]
        run("benchmark", "../own/m.onnx", *options, "--json", tmp_path / "b.json", "--quiet")
        hashes.append(json.loads((tmp_path / "b.json").read_text())["model"]["sha256"])
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("command", ["infer", "calibrate", "quantize", "evaluate", "benchmark", "bundle"])
def test_missing_weights_are_named_by_every_command(
    ground: Ground, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ground.root / "decoy")  # where a file of this name is not the model's
    (ground.root / "own" / NAME).unlink()
    model, images = "../own/m.onnx", ["--images", str(ground.images)]
    words = {
        "infer": [model, str(ground.images)],
        "evaluate": [model, *images, "--reference", str(ground.whole(MINE))],
        "benchmark": [model],
        "bundle": ["--kind", "jetson", "--target", "orin-nano", "--fp32", model, *images, "--output", "b.zip"],
    }.get(command, [model, *images, "--output", str(tmp_path / "o")])
    assert main([command, *words]) == 1
    error = capsys.readouterr().err.splitlines()[0]
    assert "m.onnx" in error
    assert f"{NAME} cannot be read: no such file" in error
