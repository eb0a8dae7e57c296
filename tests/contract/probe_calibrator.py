"""Derives calibrators from these bindings' classes and lets them answer, as TensorRT would ask."""

import importlib
import json
import sys

from googlenet_deploy.device.trt_compat import TensorRT
from googlenet_deploy.errors import DeviceError

module = importlib.import_module(sys.argv[1])
library = TensorRT(module, rtx=sys.argv[1] == "tensorrt_rtx")


def derive(algorithm):
    base = library.calibrator_base(algorithm)

    class FromCache(base):
        def __init__(self):
            super().__init__()

        def get_batch_size(self):
            return 1

        def get_batch(self, names):
            return None

        def read_calibration_cache(self):
            return b"scales"

        def write_calibration_cache(self, cache):
            pass

    return FromCache()


try:
    made = [derive(algorithm) for algorithm in ("entropy", "minmax")]
except DeviceError as error:
    print(error.message)
    sys.exit(3)
print(json.dumps({"cache": made[0].read_calibration_cache().decode(), "algorithms": len(made)}))
