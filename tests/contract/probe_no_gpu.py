"""Asks for a builder where TensorRT's factory gives none."""

import importlib
import sys

from googlenet_deploy.device.tensorrt.trt_compat import TensorRT
from googlenet_deploy.errors import DeviceError

library = TensorRT(importlib.import_module(sys.argv[1]), rtx=False)
try:
    library.builder(library.logger(lambda severity, message: None))
except DeviceError as error:
    print(error.message)
    sys.exit(1)
