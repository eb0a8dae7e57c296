"""Latency of a kernel: the larger of its arithmetic and memory times at fitted efficiencies, plus a launch.

    seconds = max(arithmetic, memory) + launch_cycles / clock
    arithmetic = operations / (efficiency * peak) * (1 + half_grid * SMs / results)
    memory = bytes / (efficiency * bandwidth)

Operations are two per multiply-add of the product as the GPU computes it: channels are padded to the width of its
tiles, and a 3x3 convolution with stride 1 on CUDA cores uses Winograd's method (Lavin and Gray 2016, arXiv:1509.09308).
Depthwise convolutions run on CUDA cores. `half_grid` is the number of results per streaming multiprocessor at which
half of the rate is reached: small layers do not fill the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from googlenet_deploy.device.targets.target import Module, PowerMode
from googlenet_deploy.errors import requires

with requires("export"):
    import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from googlenet_deploy.analysis.prediction.kernels import Kernel

KINDS = ("fp32", "fp16", "int8")
# F(2x2, 3x3) saves a factor of 2.25 of the multiplications in theory; engines show about this factor. Chosen once, with
# the fit, between 1 and 2.25.
WINOGRAD = 1.8
WINOGRAD_CHANNELS = 5  # the smallest number of input channels for Winograd's method
# Tiles of tensor cores: channels are padded to a multiple of (input, output) by type; images have 3 or 4.
_TILES = {"fp16": (8, 16), "bf16": (8, 16), "int8": (16, 32)}
_IMAGE_CHANNELS = 4
_CUDA_CORES_TILE = (1, 32)
_TENSOR_CORES_SINCE = (7, 0)


@dataclass(frozen=True)
class KernelArrays:
    """Kernels as arrays, with one element per kernel, and the rates of the GPU that they run on.

    Attributes:
        kind: Position in `KINDS` of the efficiency that applies.
        operations: Two per multiply-add, as computed.
        results: Number of values in the product; 0 without a product.
        bytes: Memory traffic.
        peak: Operations per second.
        bandwidth: Bytes per second.
        sms: Streaming multiprocessors.
        hertz: GPU clock.
    """

    kind: npt.NDArray[np.int64]
    operations: npt.NDArray[np.float64]
    results: npt.NDArray[np.float64]
    bytes: npt.NDArray[np.float64]
    peak: npt.NDArray[np.float64]
    bandwidth: npt.NDArray[np.float64]
    sms: npt.NDArray[np.float64]
    hertz: npt.NDArray[np.float64]

    @classmethod
    def join(cls, parts: Sequence[KernelArrays]) -> KernelArrays:
        """The kernels of all parts, in order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@dataclass(frozen=True)
class LatencyConstants:
    """The constants fitted for a generation of GPUs.

    Attributes:
        arithmetic: Share of the peak rate by type, in the order of `KINDS`.
        memory: Share of the memory's bandwidth.
        launch_cycles: GPU cycles of a launch.
        half_grid: Results per streaming multiprocessor at half of the rate.
    """

    arithmetic: tuple[float, float, float]
    memory: float
    launch_cycles: float
    half_grid: float


def kernel_arrays(kernels: Sequence[Kernel], module: Module, mode: PowerMode) -> KernelArrays:
    """Kernels with a module's rates in a power mode; the profile must have these rates."""
    tensor_cores = module.compute_capability >= _TENSOR_CORES_SINCE
    bandwidth, sms = module.bandwidth(mode), mode.sms or module.sms
    assert bandwidth is not None
    assert sms is not None
    count = len(kernels)
    return KernelArrays(
        kind=np.array([_efficiency_of(kernel, tensor_cores=tensor_cores) for kernel in kernels], dtype=np.int64),
        operations=np.array([operations(kernel, tensor_cores=tensor_cores) for kernel in kernels], dtype=np.float64),
        results=np.array([kernel.rows * kernel.columns * kernel.groups for kernel in kernels], dtype=np.float64),
        bytes=np.array([kernel.weight_bytes + kernel.activation_bytes for kernel in kernels], dtype=np.float64),
        peak=np.array([_peak(kernel, module, mode, tensor_cores=tensor_cores) for kernel in kernels], dtype=np.float64),
        bandwidth=np.full(count, bandwidth),
        sms=np.full(count, float(sms)),
        hertz=np.full(count, mode.gpu_mhz * 1e6),
    )


def kernel_seconds(arrays: KernelArrays, constants: LatencyConstants) -> npt.NDArray[np.float64]:
    """Seconds of every kernel."""
    efficiency = np.asarray(constants.arithmetic)[arrays.kind]
    filling = 1 + constants.half_grid * arrays.sms / np.maximum(arrays.results, 1)
    arithmetic = arrays.operations / (efficiency * arrays.peak) * filling
    memory = arrays.bytes / (constants.memory * arrays.bandwidth)
    seconds: npt.NDArray[np.float64] = np.maximum(arithmetic, memory) + constants.launch_cycles / arrays.hertz
    return seconds


def operations(kernel: Kernel, *, tensor_cores: bool) -> float:
    """Operations that the GPU computes for a kernel, padding and Winograd's saving included."""
    if not kernel.rows:
        return 2.0 * kernel.multiply_adds
    if is_depthwise(kernel):
        return 2.0 * kernel.multiply_adds
    on_cuda_cores = not tensor_cores or kernel.kind == "fp32"
    inner, outer = _CUDA_CORES_TILE if on_cuda_cores else _TILES[kernel.kind]
    if kernel.kind == "int8" and kernel.inputs <= _IMAGE_CHANNELS:
        inner = _IMAGE_CHANNELS
    positions = kernel.depth / max(1, kernel.inputs)
    computed = 2.0 * kernel.rows * kernel.groups * positions
    computed *= _padded(kernel.inputs, inner) * _padded(kernel.columns, outer)
    winograd = on_cuda_cores and kernel.plain_3x3 and kernel.inputs >= WINOGRAD_CHANNELS
    return computed / WINOGRAD if winograd else computed


def is_depthwise(kernel: Kernel) -> bool:
    """Whether every channel is filtered by itself."""
    return kernel.groups > 1 and kernel.columns == 1


def _padded(channels: int, multiple: int) -> int:
    return -(-channels // multiple) * multiple


def _efficiency_of(kernel: Kernel, *, tensor_cores: bool) -> int:
    if tensor_cores and is_depthwise(kernel):
        return KINDS.index("fp32")
    return KINDS.index("fp16" if kernel.kind == "bf16" else kernel.kind)


def _peak(kernel: Kernel, module: Module, mode: PowerMode, *, tensor_cores: bool) -> float:
    """Operations per second; 1 for a kernel without a product, which has none to compute."""
    peak = module.peak(kernel.kind, mode)
    if peak is None or not kernel.multiply_adds:
        return 1.0
    if not tensor_cores or not is_depthwise(kernel):
        return peak
    scalar = module.peak("fp32", mode) or peak
    return min(peak, scalar if kernel.kind == "fp32" else 2 * scalar)
