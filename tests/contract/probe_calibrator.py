"""Derives calibrators from these bindings' classes and lets them answer, as TensorRT would ask."""

import importlib
import json
import sys
from typing import Any

from googlenet_deploy.device.trt_compat import TensorRT
from googlenet_deploy.errors import DeviceError

module = importlib.import_module(sys.argv[1])
library = TensorRT(module, rtx=sys.argv[1] == "tensorrt_rtx")


def derive(algorithm: str) -> Any:
    base = library.calibrator_base(algorithm)

    class FromCache(base):
        def __init__(self) -> None:
            super().__init__()

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> None:
            return None

        def read_calibration_cache(self) -> bytes:
            return b"scales"

        def write_calibration_cache(self, cache: bytes) -> None:
            pass

    return FromCache()


try:
    made = [derive(algorithm) for algorithm in ("entropy", "minmax")]
except DeviceError as error:
    print(error.message)
    sys.exit(3)
print(json.dumps({"cache": made[0].read_calibration_cache().decode(), "algorithms": len(made)}))
