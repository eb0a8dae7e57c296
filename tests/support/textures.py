"""Images of textures that a small network learns to distinguish in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def draw(name: str, generator: np.random.Generator) -> Image.Image:
    """Stripes or a chequerboard of random period, phase and contrast, on noise."""
    period = generator.uniform(5, 8)
    x, y = (np.sin(2 * np.pi * (np.arange(32) / period + generator.uniform())) for _ in range(2))
    waves = {"columns": x[np.newaxis, :], "rows": y[:, np.newaxis], "squares": x[np.newaxis, :] * y[:, np.newaxis]}
    contrast = generator.uniform(60, 110)
    grey = 128 + contrast * np.broadcast_to(waves[name], (32, 32)) + generator.normal(0, 10, (32, 32))
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))


def write_textures(root: Path, names: tuple[str, ...], count: int, seed: int = 0) -> Path:
    """A folder per class with `count` images each."""
    generator = np.random.default_rng(seed)
    for name in names:
        (root / name).mkdir(parents=True)
        for index in range(count):
            draw(name, generator).save(root / name / f"{index:03d}.png")
    return root
