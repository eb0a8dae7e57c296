"""Makes our calibrators of these bindings' classes and asks them as TensorRT would; prints their answers as JSON."""

import importlib
import json
import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

try:
    import numpy  # noqa: F401
    import PIL  # noqa: F401
except ImportError:  # a bare Python for old bindings; no image is read and nothing is computed here
    sys.modules.update({name: Mock() for name in ("numpy", "numpy.typing", "PIL", "PIL.Image")})

from googlenet_deploy.device.builder.calibrator import cache_calibrator, live_calibrator
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT
from googlenet_deploy.errors import DeviceError


class Array(bytes):
    """A batch of two images, as far as it is handed on."""

    nbytes = 8

    def __len__(self) -> int:
        return 2


class Images:
    """One full batch."""

    batch_size, skipped = 2, []

    def __iter__(self) -> Any:
        yield SimpleNamespace(array=Array(b"two"))


class Memory:
    """Device memory at one address."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def allocate(self, size: int) -> int:
        self.calls.append(f"allocate {size}")
        return 4096

    def copy_in(self, address: int, array: Any) -> None:
        self.calls.append(f"copy {address}")

    def free(self, address: int) -> None:
        self.calls.append(f"free {address}")

    def close(self) -> None:
        self.calls.append("close")


module = importlib.import_module(sys.argv[1])
library = TensorRT(module, rtx=sys.argv[1] == "tensorrt_rtx")
memory, done = Memory(), []
try:
    cached = cache_calibrator(library, b"scales", "entropy")
    live = live_calibrator(library, "minmax", Images(), memory, done.append)
except DeviceError as error:
    print(error.message)
    sys.exit(3)
sys.modules["numpy"].ascontiguousarray = lambda array: array
answers = {
    "bases": [isinstance(cached, module.IInt8EntropyCalibrator2), isinstance(live, module.IInt8MinMaxCalibrator)],
    "cache": cached.read_calibration_cache().decode(),
    "concluded": cached.conclude(),
    "size": live.get_batch_size(),
    "first": live.get_batch(["input"]),
    "second": live.get_batch(["input"]),
    "read": live.read_calibration_cache(),
}
live.write_calibration_cache(b"found")
answers["facts"] = live.conclude()
answers["memory"], answers["images"] = memory.calls, done
print(json.dumps(answers))
