"""Which versions have which names of TensorRT's Python API.

`VERSION_BOUND` lists every name that `trt_compat.py` and `execution.py` use and that some version lacks. A contract
test checks it against the bindings of each version, and another checks that no other file of the device part uses them.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional, Tuple

from googlenet_deploy.errors import DeviceError

Version = Tuple[int, ...]

# First release whose strongly typed networks have everything that a convolutional network needs.
FIRST_STRONGLY_TYPED: Version = (10, 12)
# From here on networks are always strongly typed, without precision flags and calibrators.
ONLY_STRONGLY_TYPED: Version = (11, 0)
# From here on PreviewFeature.kPROFILE_SHARING_0806 is on and cannot be changed (NvInfer.h of TensorRT 10.0).
ALWAYS_SHARES_PROFILES: Version = (10, 0)
OLDEST: Version = (8, 5)
# JetPack 4.6's: its engines run here, and trtexec builds them.
OLDEST_TO_RUN: Version = (8, 2)


class Bound(NamedTuple):
    """A name that only some versions have.

    Attributes:
        owner: Class of the module, or "" for the module itself.
        name: The attribute.
        since: First TensorRT with it.
        until: First TensorRT without it; None if the newest has it.
        rtx: Whether TensorRT-RTX has it.
    """

    owner: str
    name: str
    since: Version
    until: Optional[Version]
    rtx: bool


_OLD: Version = (8, 5)
VERSION_BOUND: Tuple[Bound, ...] = (
    Bound("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH", _OLD, (11, 0), False),
    Bound("NetworkDefinitionCreationFlag", "STRONGLY_TYPED", (10, 0), None, True),
    Bound("BuilderFlag", "FP16", _OLD, (11, 0), False),
    Bound("BuilderFlag", "INT8", _OLD, (11, 0), False),
    Bound("BuilderFlag", "BF16", (10, 0), (11, 0), False),
    Bound("BuilderFlag", "VERSION_COMPATIBLE", (8, 6), None, True),
    Bound("BuilderFlag", "STRIP_PLAN", (10, 0), None, True),
    Bound("BuilderFlag", "REFIT_IDENTICAL", (10, 0), None, True),
    Bound("Runtime", "engine_host_code_allowed", (8, 6), None, True),
    Bound("Builder", "platform_has_fast_int8", _OLD, (11, 0), False),
    Bound("IBuilderConfig", "int8_calibrator", _OLD, (11, 0), False),
    Bound("IBuilderConfig", "builder_optimization_level", (8, 6), None, True),
    Bound("IBuilderConfig", "hardware_compatibility_level", (8, 6), None, True),
    Bound("IBuilderConfig", "progress_monitor", (10, 0), None, True),
    Bound("IBuilderConfig", "num_compute_capabilities", (99, 0), None, True),
    Bound("IBuilderConfig", "set_compute_capability", (99, 0), None, True),
    Bound("IBuilderConfig", "set_calibration_profile", _OLD, (11, 0), False),
    Bound("BuilderFlag", "PREFER_PRECISION_CONSTRAINTS", _OLD, (11, 0), False),
    Bound("ILayer", "precision", _OLD, (11, 0), False),
    Bound("ICudaEngine", "device_memory_size", _OLD, (11, 0), False),
    Bound("ICudaEngine", "device_memory_size_v2", (10, 1), None, True),
    Bound("ParserError", "node_name", (10, 0), None, True),
    Bound("ParserError", "node_operator", (10, 0), None, True),
    Bound("", "IProgressMonitor", (10, 0), None, True),
    Bound("", "HardwareCompatibilityLevel", (8, 6), None, True),
    Bound("", "ComputeCapability", (99, 0), None, True),
    Bound("", "IInt8EntropyCalibrator2", _OLD, (11, 0), False),
    Bound("", "IInt8MinMaxCalibrator", _OLD, (11, 0), False),
    Bound("ICudaEngine", "num_bindings", _OLD, (10, 0), False),
    Bound("ICudaEngine", "get_binding_name", _OLD, (10, 0), False),
    Bound("ICudaEngine", "get_binding_shape", _OLD, (10, 0), False),
    Bound("ICudaEngine", "get_binding_dtype", _OLD, (10, 0), False),
    Bound("ICudaEngine", "binding_is_input", _OLD, (10, 0), False),
    Bound("ICudaEngine", "get_profile_shape", _OLD, (10, 0), False),
    Bound("ICudaEngine", "has_implicit_batch_dimension", _OLD, (11, 0), False),
    Bound("ICudaEngine", "num_io_tensors", (8, 5), None, True),
    Bound("ICudaEngine", "get_tensor_name", (8, 5), None, True),
    Bound("ICudaEngine", "get_tensor_mode", (8, 5), None, True),
    Bound("ICudaEngine", "get_tensor_shape", (8, 5), None, True),
    Bound("ICudaEngine", "get_tensor_dtype", (8, 5), None, True),
    Bound("ICudaEngine", "get_tensor_profile_shape", (8, 5), None, True),
    Bound("IExecutionContext", "set_binding_shape", _OLD, (10, 0), False),
    Bound("IExecutionContext", "get_binding_shape", _OLD, (10, 0), False),
    Bound("IExecutionContext", "execute_async_v2", _OLD, (10, 0), False),
    Bound("IExecutionContext", "set_input_shape", (8, 5), None, True),
    Bound("IExecutionContext", "set_tensor_address", (8, 5), None, True),
    Bound("IExecutionContext", "get_tensor_shape", (8, 5), None, True),
    Bound("IExecutionContext", "execute_async_v3", (8, 5), None, True),
    Bound("", "TensorIOMode", (8, 5), None, True),
    Bound("TacticSource", "CUDNN", _OLD, (11, 0), False),
    Bound("TacticSource", "CUBLAS", _OLD, (11, 0), False),
    Bound("TacticSource", "CUBLAS_LT", _OLD, (11, 0), False),
)


def when(owner: str, name: str) -> str:
    """The versions that have a name, in parentheses, for messages; empty if all have it."""
    for bound in VERSION_BOUND:
        if (bound.owner, bound.name) == (owner, name):
            first = ".".join(map(str, bound.since))
            last = f", gone in {'.'.join(map(str, bound.until))}" if bound.until else ""
            return f" (TensorRT {first} and later{last})"
    return ""


def parse_version(text: str) -> Version:
    """``"10.3.0.post1"`` is (10, 3, 0).

    Raises:
        DeviceError: It does not begin with a number.
    """
    match = re.match(r"\d+(?:\.\d+)*", text)
    if match is None:
        raise DeviceError(f"cannot make sense of TensorRT version {text!r}")
    return tuple(int(part) for part in match.group().split("."))
