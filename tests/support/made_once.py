"""Test processes that run side by side share what takes long to make."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder of this test run that `make` fills in the first process that asks for it; not to be changed.

    Args:
        factory: Where the run's files go.
        name: Names the folder; nothing else of the run may have it.
        make: Receives the empty folder. If it fails, the next process tries again.
    """
    base = factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    root.mkdir(exist_ok=True)
    folder, done = root / name, root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def model_made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[], Any]) -> Any:
    """The same for an ONNX model, which each process then has as its own."""
    from onnx import ModelProto

    folder = made_once(factory, name, lambda folder: (folder / "model").write_bytes(make().SerializeToString()))
    return ModelProto.FromString((folder / "model").read_bytes())
