"""A fake GPU with a fake TensorRT, and engines for them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_cuda import FakeGpu, install
from fake_tensorrt import engine_bytes, tensorrt_module

from googlenet_deploy.device.engine.manifest import EngineManifest, sha256_bytes, write_engine

MakeEngine = Callable[..., Path]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A GPU with cuda-bindings and TensorRT 10.3."""
    fake = FakeGpu()
    install(monkeypatch, fake)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_module(fake))
    return fake


@pytest.fixture
def make_engine(tmp_path: Path) -> MakeEngine:
    """Writes an engine with its manifest; keyword arguments change the manifest, `engine` the engine."""

    def make(name: str = "model.engine", engine: dict[str, Any] | None = None, **changes: Any) -> Path:
        data = engine_bytes(**(engine or {}))
        values: dict[str, Any] = {
            "engine_sha256": sha256_bytes(data),
            "engine_bytes": len(data),
            "backend": "tensorrt",
            "tensorrt_version": "10.3.0",
            "compute_capabilities": ("8.7",),
            "gpu": "Fake GPU",
            "dialect": "weakly typed",
            "precision": "fp16",
            "flags": ("FP16",),
            "options": {},
            "inputs": (),
            "outputs": (),
            "batch": (1, 2, 4),
            "layers": (),
            "layers_note": "",
            "precision_shares": {},
            "device_memory_bytes": 3 * 2**20,
            "timing_cache_sha256": "",
            "calibration": {},
            "build_seconds": 1.0,
            "notes": (),
            "source": {"metadata": {"googlenet_deploy.architecture": "bvlc"}},
            "rebuild": "googlenet-deploy build model.onnx",
        }
        path = tmp_path / name
        write_engine(path, data, EngineManifest(**{**values, **changes}))
        return path

    return make
