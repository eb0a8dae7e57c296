"""Small data sets, built in the test."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from PIL import Image

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
