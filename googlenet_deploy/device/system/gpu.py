"""Identifies the GPU through the driver itself, so that building an engine needs no Python package for CUDA.

Function names, argument order and attribute numbers are those of NVIDIA's ``cuda.h``.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any, NamedTuple, Optional, Tuple

from googlenet_deploy.device.system.sysfs import try_text
from googlenet_deploy.errors import DeviceError

_LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CU_DEVICE_ATTRIBUTE_...
_NAME_LENGTH = 256


class Gpu(NamedTuple):
    """The first GPU.

    Attributes:
        name: Its name.
        compute_capability: (major, minor).
        free_memory: Bytes that can be allocated now; None if unknown.
        integrated: Whether it shares the processor's memory, as on every Jetson.
    """

    name: str
    compute_capability: Tuple[int, int]
    free_memory: Optional[int]
    integrated: bool = False

    @property
    def capability_text(self) -> str:
        """``8.7``."""
        return "{}.{}".format(*self.compute_capability)


def find_gpu(library: Any = None, root: Path = Path("/")) -> Gpu:  # noqa: ANN401 - ctypes has no types
    """Asks CUDA's driver for the first GPU.

    Args:
        library: The driver's library; None loads it.
        root: Root of the file system.

    Raises:
        DeviceError: There is no driver, or it has no GPU.
    """
    driver = _Driver(_load() if library is None else library)
    driver.call("cuInit", 0)
    if driver.integer("cuDeviceGetCount") < 1:
        raise DeviceError("CUDA finds no GPU", "is CUDA_VISIBLE_DEVICES set to none?")
    device = driver.integer("cuDeviceGet", 0)
    name = ctypes.create_string_buffer(_NAME_LENGTH)
    driver.call("cuDeviceGetName", name, _NAME_LENGTH, device)
    major, minor, integrated = (
        driver.integer("cuDeviceGetAttribute", number, device) for number in (_MAJOR, _MINOR, _INTEGRATED)
    )
    free = driver.free_memory(device)
    if integrated and free is not None:
        free = max(free, _available(root))
    return Gpu(name.value.decode("utf-8", "replace"), (major, minor), free, bool(integrated))


def _load() -> Any:  # noqa: ANN401 - ctypes has no types
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise DeviceError(
            f"there is no NVIDIA driver: {error}", "install it, or work on a machine with a GPU"
        ) from error


def _available(root: Path) -> int:
    """Memory that the system can provide, caches included: on a Jetson the driver counts only unused memory."""
    match = re.search(r"MemAvailable:\s*(\d+) kB", try_text(root / "proc/meminfo"))
    return int(match.group(1)) * 1024 if match else 0


class _Driver:
    def __init__(self, library: Any) -> None:  # noqa: ANN401 - ctypes has no types
        self.library = library

    def call(self, function: str, *arguments: Any) -> None:  # noqa: ANN401 - whatever C takes
        status = int(getattr(self.library, function)(*arguments))
        if status:
            raise DeviceError(
                f"CUDA's driver: {function} failed with {self._name(status)}", "is there a GPU? see doctor"
            )

    def integer(self, function: str, *arguments: int) -> int:
        """The integer that a function writes through its first argument."""
        value = ctypes.c_int()
        self.call(function, ctypes.byref(value), *arguments)
        return value.value

    def free_memory(self, device: int) -> Optional[int]:
        """Needs a context, so it can fail although everything else works, as on a GPU whose memory is full."""
        context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
        try:
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        except DeviceError:
            return None
        try:
            self.call("cuCtxPushCurrent_v2", context)
            self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
            self.call("cuCtxPopCurrent_v2", ctypes.byref(context))
        except DeviceError:
            return None
        finally:
            self.call("cuDevicePrimaryCtxRelease_v2", device)
        return free.value

    def _name(self, status: int) -> str:
        text = ctypes.c_char_p()
        if int(self.library.cuGetErrorName(status, ctypes.byref(text))) == 0 and text.value:
            return text.value.decode("ascii", "replace")
        return f"error {status}"
