"""Imports TensorRT or TensorRT-RTX, or explains why that is not possible."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import List, Optional

from googlenet_deploy.device.tensorrt.names import OLDEST, Version
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT
from googlenet_deploy.device.text import one_line
from googlenet_deploy.errors import DeviceError, install_command

BACKENDS = ("tensorrt", "tensorrt-rtx")
_LABELS = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_SITE_PACKAGES = "python3 -m venv --system-site-packages"
_INSTALL = {
    "tensorrt": f"on x86 with an NVIDIA GPU, {install_command('tensorrt')}; on a Jetson, JetPack's own package "
    f"(apt install python3-libnvinfer), in an environment made with {_SITE_PACKAGES}; "
    "without a GPU, --dry-run plans and --backend tensorrt-rtx builds",
    "tensorrt_rtx": install_command("rtx"),
}


def load_tensorrt(backend: str, oldest: Version = OLDEST) -> TensorRT:
    """Imports TensorRT or TensorRT-RTX.

    Args:
        backend: One of `BACKENDS`.
        oldest: Oldest sufficient version: `OLDEST` for building engines, `OLDEST_TO_RUN` for running them.

    Raises:
        DeviceError: It is not installed, cannot be loaded, or is too old.
    """
    name = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}[backend]
    try:
        module = import_module(name)
    except ImportError as error:
        hidden = _hidden_by_environment(name, error)
        raise DeviceError(f"{_LABELS[name]} cannot be loaded: {one_line(error)}", hidden or _INSTALL[name]) from error
    library = TensorRT(module, rtx=name == "tensorrt_rtx")
    if not library.rtx and library.version < oldest:
        raise DeviceError(
            f"TensorRT {library.version_text} is installed; {'.'.join(map(str, oldest))} or later is needed",
            "on JetPack 4 build with trtexec: `--dry-run --target jetpack-4.6 --also-trtexec` prints its command line",
        )
    return library


def _hidden_by_environment(name: str, error: ImportError, root: Path = Path("/")) -> Optional[str]:
    """The remedy if a virtual or conda environment hides a TensorRT installed by apt; None outside an environment.

    JetPack's TensorRT is an apt package for the system's Python, which such an environment cannot import.
    """
    environment = _environment()
    if not environment or name != "tensorrt" or getattr(error, "name", None) != name:
        return None
    found = _system_copies(root)
    if not found:
        return (
            f"{_INSTALL[name]}; this Python is in {environment}, which does not see what apt installs unless it was "
            "made so; else use the system's Python"
        )
    version = re.search(r"python(\d\.\d+)", found[0])
    other = version and version.group(1) != "{}.{}".format(*sys.version_info[:2])
    if other:
        return (
            f"it is in {found[0]}, for Python {version.group(1)}, and this is Python "  # type: ignore[union-attr]
            f"{sys.version_info[0]}.{sys.version_info[1]} in {environment}: use the system's python3, or make the "
            f"environment with it: {_SITE_PACKAGES}"
        )
    return (
        f"it is in {found[0]}, which {environment} does not see: make that with {_SITE_PACKAGES}, or set "
        f"PYTHONPATH={Path(found[0]).parent}"
    )


def _environment() -> str:
    """The virtual or conda environment of this Python; "" if there is none."""
    if sys.prefix != sys.base_prefix:
        return f"the virtual environment {sys.prefix}"
    if (Path(sys.prefix) / "conda-meta").is_dir():
        return f"the conda environment {os.environ.get('CONDA_PREFIX', sys.prefix)}"
    return ""


def _system_copies(root: Path) -> List[str]:
    """Where apt installed the package; the path may contain the Python version."""
    patterns = ("usr/lib/python3.*/dist-packages/tensorrt", "usr/lib/python3/dist-packages/tensorrt")
    found = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    return [str(path) for path in found if (path / "__init__.py").is_file() or list(path.glob("*.so"))]
