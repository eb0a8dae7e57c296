"""What is used of cuda-bindings, held against the real package; it imports without a GPU."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from googlenet_deploy.device.cuda.memory import open_cuda
from googlenet_deploy.errors import DeviceError

runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed (the extra cuda)")


def names_in_source(repository: Path) -> set[str]:
    """Every ``cuda...`` name that the source has, as attribute or text."""
    source = (repository / "googlenet_deploy" / "device" / "cuda" / "bindings.py").read_text(encoding="utf-8")
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "value", None)
        if isinstance(name, str) and name.startswith("cuda") and name.isalnum():
            found.add(name)
    return found


def test_every_name_exists(repository: Path) -> None:
    owners = (
        runtime,
        runtime.cudaMemcpyKind,
        runtime.cudaDeviceAttr,
        runtime.cudaStreamCaptureMode,
        runtime.cudaError_t,
    )
    names = names_in_source(repository)
    assert len(names) > 25
    assert [name for name in sorted(names) if not any(hasattr(owner, name) for owner in owners)] == []


def test_a_machine_without_a_driver_is_one_clear_error() -> None:
    status, *_ = runtime.cudaGetDeviceCount()
    if int(status) == 0:
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="cudaGetDeviceCount failed: cudaError"):
        open_cuda("cuda-bindings")
