"""Small nets, their calibration, and pictures for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from mini_googlenet import SPECIFICATION, Net, build_mini, build_tiny
from PIL import Image

from googlenet_deploy.calibration.calibrate import (
    CalibrationOptions,
    CalibrationResult,
    CalibrationSource,
    calibrate_arrays,
)
from googlenet_deploy.calibration.images import ArrayBatches
from googlenet_deploy.calibration.table import CalibrationTable
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.export.samples import seeded_samples, smooth_pictures
from googlenet_deploy.graph.files import write_model


@pytest.fixture(scope="session")
def tiny() -> Callable[..., onnx.ModelProto]:
    """Builds a net of two convolutions and a classifier, anew each time."""
    return build_tiny


@pytest.fixture(scope="session")
def net() -> Callable[..., Net]:
    """Starts a graph; see `Net`."""
    return Net


@pytest.fixture(scope="session")
def mini() -> Callable[..., onnx.ModelProto]:
    """Builds the small GoogLeNet, anew each time; see `build_mini`."""
    return build_mini


@pytest.fixture(scope="session")
def source_of() -> Callable[..., CalibrationSource]:
    """Wraps a model for calibration."""
    return lambda model: CalibrationSource(model, "model.onnx", "0" * 64, SPECIFICATION, {"architecture": "bvlc"})


@pytest.fixture(scope="session")
def specification() -> Preprocessing:
    """How the small nets' images are prepared."""
    return SPECIFICATION


def prepared_pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.asarray(seeded_samples(SPECIFICATION, count, seed).prepared)


@pytest.fixture(scope="session")
def pictures() -> Callable[..., np.ndarray]:
    """Seeded pictures as the small nets take them, float32 (count, 3, 16, 16)."""
    return prepared_pictures


@pytest.fixture(scope="session")
def calibrated(source_of: Callable[..., CalibrationSource]) -> Callable[..., CalibrationResult]:
    """Calibrates a model on seeded pictures, or on the array that is given."""

    def run(model: onnx.ModelProto, array: Any = None, batch_size: int = 4, **options: Any) -> CalibrationResult:
        values = prepared_pictures(12) if array is None else array
        return calibrate_arrays(source_of(model), ArrayBatches(values, batch_size), CalibrationOptions(**options))

    return run


@pytest.fixture(scope="session")
def mini_table(calibrated: Callable[..., CalibrationResult]) -> CalibrationTable:
    """The small GoogLeNet's table."""
    return calibrated(build_mini()).table


@pytest.fixture
def model_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model to a file."""

    def write(model: onnx.ModelProto, name: str = "model.onnx") -> Path:
        write_model(tmp_path / name, model)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seeded pictures as PNG files, a little larger than the nets' input."""
    folder = tmp_path_factory.mktemp("pictures")
    for index, pixels in enumerate(smooth_pictures(40, (20, 24), 3, seed=5)):
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder
