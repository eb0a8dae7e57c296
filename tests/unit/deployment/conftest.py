"""A small classifier with weights on disk, photographs with labels, and one finished deployment."""

from __future__ import annotations

import csv
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_once import made_once
from PIL import Image

from googlenet_deploy.deployment.config import DeployConfig
from googlenet_deploy.deployment.pipeline import Deployment, deploy
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.export.samples import smooth_pictures
from googlenet_deploy.model.architecture import get_architecture
from googlenet_deploy.model.checkpoint import Checkpoint, save_checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet

SPECIFICATION = Preprocessing(resize=72, crop=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
NAMES = tuple(f"class {index}" for index in range(10))
IMAGES = 20


@dataclass(frozen=True)
class Ground:
    """What a deployment starts from."""

    folder: Path

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def labels(self) -> Path:
        return self.folder / "labels.csv"

    def config(self, output: Path, **changes: Any) -> DeployConfig:
        values: dict[str, Any] = {
            "weights": str(self.weights),
            "images": str(self.images),
            "labels": str(self.labels),
            "target": "orin-nano",
            "output": str(output),
            "calibration_images": 8,
            "golden_images": 2,
            "benchmark": False,
            "gates": {"agreement": 50.0},
        }
        return DeployConfig(**{**values, **changes})


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """Labels are the model's own answers, but for one, so that accuracy is known."""
    return Ground(made_once(tmp_path_factory, "ground", lambda folder: _prepare(Ground(folder))))


def _prepare(ground: Ground) -> None:
    torch.manual_seed(5)
    net = GoogLeNet(get_architecture("torchvision"), len(NAMES), width=0.125).eval()
    with torch.inference_mode():
        net.fc.weight.data *= 10 / net(torch.randn(4, 3, 64, 64)).abs().max()
    save_checkpoint(ground.weights, Checkpoint(net, net.architecture, SPECIFICATION, NAMES, source="small"))
    ground.images.mkdir()
    for index, pixels in enumerate(smooth_pictures(IMAGES, (80, 90), 3, seed=2)):
        Image.fromarray(pixels).save(ground.images / f"{index:02d}.png")
    paths = sorted(ground.images.iterdir())
    batch = np.stack([preprocess(load_image(path), SPECIFICATION) for path in paths])
    with torch.inference_mode():
        answers = net(torch.from_numpy(batch)).argmax(dim=1).tolist()
    with ground.labels.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["filename", "label"])
        rows.writerows((path.name, NAMES[answer]) for path, answer in zip(paths, answers, strict=True))


@dataclass(frozen=True)
class Finished:
    """A deployment that came to its end, with what it said."""

    result: Deployment
    lines: tuple[str, ...]


def run(config: DeployConfig) -> Finished:
    lines: list[str] = []
    return Finished(deploy(config, lines.append, quiet=True), tuple(lines))


@pytest.fixture(scope="session")
def finished(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """INT8 for an Orin Nano; tests that change something copy its folder."""

    def finish(folder: Path) -> None:
        made = run(ground.config(folder / "orin"))
        (folder / "finished.pickle").write_bytes(pickle.dumps((made.result, made.lines)))

    folder = made_once(tmp_path_factory, "finished", finish)
    return Finished(*pickle.loads((folder / "finished.pickle").read_bytes()))


@pytest.fixture
def copy_of(finished: Finished, tmp_path: Path) -> Callable[[], Path]:
    """Copies the finished folder."""

    def make() -> Path:
        return Path(shutil.copytree(finished.result.folder, tmp_path / "orin"))

    return make


def outcomes(finished: Finished) -> dict[str, str]:
    return {row.name: row.outcome for row in finished.result.rows}
