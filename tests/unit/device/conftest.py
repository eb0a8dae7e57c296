"""A TensorRT 10.3 that builds in plain Python, with a GPU in plain Python; small nets, float and quantised."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_builder import Behaviour, FakeDriver, builder_module
from small_models import write_small_model
from small_nets import build_net

MakeNet = Callable[..., Path]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """CUDA's driver with one GPU of compute capability 8.7."""
    fake = FakeDriver()
    real = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda name, *rest: fake if name == "libcuda.so.1" else real(name, *rest))
    return fake


@pytest.fixture
def behaviour(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Behaviour:
    """TensorRT 10.3 as ``tensorrt``, and how it behaves."""
    fake = Behaviour()
    monkeypatch.setitem(sys.modules, "tensorrt", builder_module(fake))
    return fake


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., str]:
    """Writes a small model; its path."""

    def write(kind: str = "fp32", name: str = "m.onnx", **options: Any) -> str:
        return write_small_model(tmp_path / name, kind, **options)

    return write


@pytest.fixture
def make_net(tmp_path: Path) -> MakeNet:
    """Writes the net; see `build_net`."""

    def make(name: str = "net.onnx", **options: Any) -> Path:
        return build_net(tmp_path / name, **options)

    return make


@pytest.fixture
def quantized_model(make_net: MakeNet) -> Path:
    """The net with Q/DQ."""
    return make_net("net.int8.onnx", quantized=True)


@pytest.fixture(scope="session")
def quantized_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Its content."""
    return build_net(tmp_path_factory.mktemp("net") / "net.onnx", quantized=True).read_bytes()
