"""Small data sets, built in the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from PIL import Image

from googlenet_deploy.training.data.batches import ImageFeed, validation_batches
from googlenet_deploy.training.data.folders import read_folders
from googlenet_deploy.training.data.image_cache import ImageStore, centre
from googlenet_deploy.training.data.pools import Workers
from googlenet_deploy.training.distributed import Processes
from googlenet_deploy.training.loop import Trainer
from googlenet_deploy.training.network import build_network
from googlenet_deploy.training.options import TrainingOptions
from googlenet_deploy.training.validation import Validator

ALONE = Processes(0, 1, torch.device("cpu"))

COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30))


class MakeFolder(Protocol):
    def __call__(self, root: Path, counts: dict[str, int], *, size: tuple[int, int] = (40, 32)) -> Path: ...


@pytest.fixture
def make_folder() -> MakeFolder:
    """Writes a folder per class; images of a class share a colour, with noise."""

    def make(root: Path, counts: dict[str, int], *, size: tuple[int, int] = (40, 32)) -> Path:
        generator = np.random.default_rng(0)
        for label, (name, count) in enumerate(counts.items()):
            (root / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                noise = generator.integers(-25, 26, (size[1], size[0], 3))
                pixels = np.clip(np.array(COLOURS[label % len(COLOURS)]) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / name / f"{index:03d}.png")
        return root

    return make


class MakeTrainer(Protocol):
    def __call__(self, decay: float = 0.9, **options: Any) -> Trainer: ...


@pytest.fixture
def make_trainer(tmp_path: Path, make_folder: MakeFolder) -> MakeTrainer:
    """Makes trainers of a small network on two colours: 12 images to learn from, 4 to measure with."""
    data = read_folders(make_folder(tmp_path / "colours", {"a": 8, "b": 8}), None, validation_share=0.25, seed=0)
    small = {"width": 0.125, "input_size": 32, "augmentation": "none", "batch_size": 4, "epochs": 2}

    def make(decay: float = 0.9, **options: Any) -> Trainer:
        network = build_network(TrainingOptions(**{**small, **options}), data)
        stores = [
            ImageStore(part, network.preprocessing, centre, budget=10**9, workers=Workers(1), quiet=True)
            for part in (data.train, data.validation)
        ]
        feed = ImageFeed(stores[0], network.options, network.options.batch_size, Workers(1))
        validator = Validator(lambda: validation_batches(stores[1], 3, Workers(1)), stores[1].spec, 2, processes=ALONE)
        return Trainer(network, feed, validator, decay=decay, processes=ALONE, quiet=True)

    return make
