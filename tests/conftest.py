"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real weights and images, from $GOOGLENET_DEPLOY_DATA or ../shared/data; skips where absent."""
    folder = Path(os.environ.get("GOOGLENET_DEPLOY_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real weights and images at {folder} (set GOOGLENET_DEPLOY_DATA)")
    return folder


@pytest.fixture(scope="session")
def bvlc_weights(data_dir: Path) -> Path:
    """The published BVLC weights under their Caffe names."""
    path = data_dir / "bvlc_googlenet.safetensors"
    if not path.is_file():
        pytest.skip(f"no BVLC weights at {path}")
    return path


@pytest.fixture(scope="session")
def sample_images(data_dir: Path) -> Path:
    """Five hundred ImageNet validation images; labels.csv lies beside the folder."""
    path = data_dir / "imagenet-sample" / "images"
    if not path.is_dir():
        pytest.skip(f"no sample images at {path}")
    return path
