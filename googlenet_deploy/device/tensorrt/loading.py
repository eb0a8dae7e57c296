"""Imports TensorRT or TensorRT-RTX, or says why that cannot be done."""

from __future__ import annotations

from importlib import import_module

from googlenet_deploy.device.tensorrt.names import OLDEST, Version
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT
from googlenet_deploy.device.text import one_line
from googlenet_deploy.errors import DeviceError, install_command

BACKENDS = ("tensorrt", "tensorrt-rtx")
_LABELS = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_INSTALL = {
    "tensorrt": "on a Jetson, TensorRT comes with JetPack (apt install python3-libnvinfer); "
    "without a GPU, --dry-run plans and --backend tensorrt-rtx builds",
    "tensorrt_rtx": install_command("rtx"),
}


def load_tensorrt(backend: str, oldest: Version = OLDEST) -> TensorRT:
    """Imports TensorRT or TensorRT-RTX.

    Args:
        backend: One of `BACKENDS`.
        oldest: First version that will do: `OLDEST` builds engines, `OLDEST_TO_RUN` runs them.

    Raises:
        DeviceError: It is not installed, cannot be loaded, or is too old.
    """
    name = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}[backend]
    try:
        module = import_module(name)
    except ImportError as error:
        raise DeviceError(f"{_LABELS[name]} cannot be loaded: {one_line(error)}", _INSTALL[name]) from error
    library = TensorRT(module, rtx=name == "tensorrt_rtx")
    if not library.rtx and library.version < oldest:
        raise DeviceError(
            f"TensorRT {library.version_text} is installed; {'.'.join(map(str, oldest))} or later is needed",
            "on JetPack 4 build with trtexec: `--dry-run --target jetpack-4.6 --also-trtexec` prints its command line",
        )
    return library
