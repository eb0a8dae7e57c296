"""What a user asks of an engine."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Tuple

from googlenet_deploy.errors import UsageError

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
TYPINGS = ("auto", "weak", "strong")
HARDWARE_COMPATIBILITY = ("ampere+", "same-compute-capability")
# LRN's sum of squares overflows in FP16 where activations are not normalised.
KEEP_FP32 = ("LRN",)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


@dataclass(frozen=True)
class BuildOptions:
    """Options of an engine; everything left out keeps TensorRT's own default.

    Attributes:
        precision: "fp32", "fp16", "bf16" or "int8"; None takes the model's own.
        batch: (smallest, usual, largest) batch of a model with an open batch dimension.
        typing: "weak" for precision flags, "strong" for the model's own types, "auto" as the version has it.
        workspace_bytes: Limit of the scratch memory that a layer may use.
        timing_cache: File in which measured timings are kept between builds.
        optimization_level: 0 (fastest build) to 5.
        tactic_sources: Libraries that kernels may come from; () leaves TensorRT's own alone.
        version_compatible: Engine for later TensorRT versions of the same major version too.
        hardware_compatible: "ampere+" or "same-compute-capability".
        strip_plan: Engine without weights, to be refitted.
        refit: Engine whose weights can be replaced.
        dla_core: Run on this deep learning accelerator.
        gpu_fallback: Layers that a DLA cannot run go to the GPU.
        sparsity: Let TensorRT use 2:4 sparse kernels.
        tf32: Let FP32 layers multiply in TF32 (10 bits after the point) on Ampere and later, as is TensorRT's default.
        verbosity: "none", "names" or "detailed": what the engine tells of its layers.
        calibration_cache: TensorRT calibration cache for implicit INT8.
        calibration_images: Folder for live calibration.
        calibration_algorithm: "entropy" or "minmax".
        calibration_count: How many images of the folder, evenly spread.
        cuda_backend: What gives live calibration its device memory; None takes what is installed.
        keep_fp32: Operators or layers that weakly typed builds keep in FP32.
        compute_capabilities: GPUs that TensorRT-RTX builds for ahead of time.
    """

    precision: Optional[str] = None
    batch: Optional[Tuple[int, int, int]] = None
    typing: str = "auto"
    workspace_bytes: Optional[int] = None
    timing_cache: Optional[str] = None
    optimization_level: Optional[int] = None
    tactic_sources: Optional[Tuple[str, ...]] = None
    version_compatible: bool = False
    hardware_compatible: Optional[str] = None
    strip_plan: bool = False
    refit: bool = False
    dla_core: Optional[int] = None
    gpu_fallback: bool = True
    sparsity: bool = False
    tf32: bool = True
    verbosity: str = "detailed"
    calibration_cache: Optional[str] = None
    calibration_images: Optional[str] = None
    calibration_algorithm: str = "entropy"
    calibration_count: int = 256
    cuda_backend: Optional[str] = None
    keep_fp32: Tuple[str, ...] = KEEP_FP32
    compute_capabilities: Tuple[Tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.calibration_count < 1:
            raise UsageError("--calibration-count must be at least 1")

    @property
    def usual_batch(self) -> int:
        """The batch that an engine with an open batch is tuned for."""
        return self.batch[1] if self.batch else 1

    def flag_names(self) -> List[str]:
        """The options that are builder flags, by the keys of `trt_compat.FLAGS`."""
        both = self.strip_plan and self.refit
        wanted = {
            "version-compatible": self.version_compatible,
            "strip-plan-and-refit": both,
            "strip-plan": self.strip_plan and not both,
            "refit": self.refit and not both,
            "sparsity": self.sparsity,
        }
        return [name for name, asked in wanted.items() if asked]

    def to_dict(self) -> Dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def parse_size(text: str) -> int:
    """``512M`` or ``2GiB`` in bytes; k, M and G are powers of 1024, as in trtexec.

    Raises:
        UsageError: It is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if match is None or float(match.group(1)) <= 0:
        raise UsageError(f"{text!r} is no size", "write 512M or 2G")
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def parse_batch(text: str) -> Tuple[int, int, int]:
    """``8`` or ``1,8,32`` as (smallest, usual, largest).

    Raises:
        UsageError: These are not one or three ascending numbers from 1 on.
    """
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) == 1:
        sizes *= 3
    if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise UsageError(f"{text!r} is no batch profile", "write one size, or smallest,usual,largest such as 1,8,32")
    return sizes[0], sizes[1], sizes[2]


def parse_capabilities(text: str) -> Tuple[Tuple[int, int], ...]:
    """``8.6,8.9`` as ((8, 6), (8, 9)), in the order given, each once.

    Raises:
        UsageError: One of them is no compute capability.
    """
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,2})\.(\d)", part.strip())
        if match is None:
            raise UsageError(f"{part.strip()!r} is no compute capability", "write for instance 8.6,8.9,12.0")
        capability = (int(match.group(1)), int(match.group(2)))
        if capability not in found:
            found.append(capability)
    return tuple(found)
