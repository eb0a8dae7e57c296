"""Small clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250))


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """Writes a clip that is red, green and blue in turn."""

    def make(name: str = "clip.avi", frames: int = 6, size: int = 16) -> Path:
        cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed (the extra opencv brings it)")
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (size, size))
        assert writer.isOpened()
        for index in range(frames):
            writer.write(np.full((size, size, 3), COLOURS[index % 3][::-1], np.uint8))
        writer.release()
        return path

    return make
