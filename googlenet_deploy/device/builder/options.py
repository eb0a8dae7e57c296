"""The user's options for an engine."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Tuple

from googlenet_deploy.device.options import check_options, option
from googlenet_deploy.errors import UsageError

MODEL_PRECISIONS = ("fp32", "fp16", "int8")  # in which a classifier is deployed, from the widest to the smallest
LAYER_PRECISIONS = ("fp32", "fp16", "bf16", "int8")  # in which TensorRT computes
TYPINGS = ("auto", "weak", "strong")
VERBOSITIES = ("none", "names", "detailed")
CUDA_BACKENDS = ("cuda-bindings", "pycuda")
HARDWARE_COMPATIBILITY = ("ampere+", "same-compute-capability")
# LRN's sum of squares overflows in FP16 where activations are not normalised.
KEEP_FP32 = ("LRN",)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def parse_size(text: str) -> int:
    """``512M`` or ``2GiB`` in bytes; k, M and G are powers of 1024, as in trtexec.

    Raises:
        UsageError: It is not a size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if match is None or float(match.group(1)) <= 0:
        raise UsageError(f"{text!r} is not a size", "write 512M or 2G")
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def parse_batch(text: str) -> Tuple[int, int, int]:
    """``8`` or ``1,8,32`` as (smallest, usual, largest).

    Raises:
        UsageError: The text is not one number, or three ascending numbers, of at least 1.
    """
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) == 1:
        sizes *= 3
    if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise UsageError(f"{text!r} is not a batch profile", "write one size, or smallest,usual,largest such as 1,8,32")
    return sizes[0], sizes[1], sizes[2]


def parse_capabilities(text: str) -> Tuple[Tuple[int, int], ...]:
    """``8.6,8.9`` as ((8, 6), (8, 9)), in the given order, without duplicates.

    Raises:
        UsageError: One of them is not a compute capability.
    """
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,2})\.(\d)", part.strip())
        if match is None:
            raise UsageError(f"{part.strip()!r} is not a compute capability", "write for instance 8.6,8.9,12.0")
        capability = (int(match.group(1)), int(match.group(2)))
        if capability not in found:
            found.append(capability)
    return tuple(found)


PRECISION, BUILD, PORTABILITY = "precision", "shape, memory and speed of the build", "where the engine runs"


@dataclass(frozen=True)
class BuildOptions:
    """Options of an engine; whatever is not set keeps TensorRT's default."""

    precision: Optional[str] = option(
        None, "what layers compute in", group=PRECISION, choices=LAYER_PRECISIONS, shown_default="the model's own"
    )
    batch: Optional[Tuple[int, int, int]] = option(
        None, "smallest, usual, largest batch of a dynamic model", group=BUILD, metavar="N|MIN,OPT,MAX",
        parse=parse_batch, shown_default="1",
    )  # fmt: skip
    typing: str = option(
        "auto", "weak: precision flags (TensorRT 8.5 to 10); strong: the model's types (10.12 and later); auto: as "
        "the version has it", group=PRECISION, choices=TYPINGS,
    )  # fmt: skip
    workspace_bytes: Optional[int] = option(
        None, "limit of scratch memory, such as 512M", group=BUILD, flag="--workspace", metavar="SIZE",
        parse=parse_size,
    )  # fmt: skip
    timing_cache: Optional[str] = option(None, "keep kernel timings there between builds", group=BUILD, metavar="FILE")
    optimization_level: Optional[int] = option(
        None, "0: fastest build; 5: searches longest", group=BUILD, metavar="0-5", least=0, most=5
    )
    tactic_sources: Optional[Tuple[str, ...]] = option(
        None, "libraries for kernels, such as cudnn,cublas; '' for none", group=BUILD, metavar="LIST"
    )
    version_compatible: bool = option(False, "run on later TensorRT of the same major version", group=PORTABILITY)
    hardware_compatible: Optional[str] = option(
        None, "run on other GPUs too", group=PORTABILITY, choices=HARDWARE_COMPATIBILITY
    )
    strip_plan: bool = option(False, "leave the weights out; refit before use", group=PORTABILITY)
    refit: bool = option(False, "weights can be replaced later", group=PORTABILITY)
    dla_core: Optional[int] = option(None, "run on this DLA core", group=PORTABILITY, metavar="N")
    gpu_fallback: bool = option(True, "fail where the DLA cannot run a layer", group=PORTABILITY)
    sparsity: bool = option(False, "allow 2:4 sparse kernels", group=BUILD)
    tf32: bool = option(
        True, "FP32 layers multiply in FP32, not in TF32 (10 bits after the point) as on Ampere and later",
        group=PRECISION,
    )  # fmt: skip
    verbosity: str = option("detailed", "layer information in the engine", group=BUILD, choices=VERBOSITIES)
    calibration_cache: Optional[str] = option(
        None, "TensorRT calibration cache, for implicit INT8", group=PRECISION, metavar="FILE"
    )
    calibration_images: Optional[str] = option(
        None, "calibrate live on these images, for implicit INT8", group=PRECISION, metavar="DIR"
    )
    calibration_algorithm: str = option(
        "entropy", "of live calibration", group=PRECISION, choices=("entropy", "minmax")
    )
    calibration_count: int = option(
        256, "images of live calibration, evenly spread over the folder", group=PRECISION, metavar="N", least=1
    )
    cuda_backend: Optional[str] = option(
        None, "device memory for live calibration", group=PRECISION, choices=CUDA_BACKENDS,
        shown_default="what is installed",
    )  # fmt: skip
    keep_fp32: Tuple[str, ...] = option(
        KEEP_FP32, "operators or layers that precision flags leave in FP32; '' for none", group=PRECISION,
        metavar="LIST",
    )  # fmt: skip
    compute_capabilities: Tuple[Tuple[int, int], ...] = option(
        (), "TensorRT-RTX: GPUs to build for, such as 8.6,8.9", group=PORTABILITY, flag="--compute-capability",
        metavar="LIST", parse=parse_capabilities,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)

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
