"""What a deployment is asked for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from googlenet_deploy.device.targets.target import Target, load_target
from googlenet_deploy.errors import UsageError
from googlenet_deploy.quantization.refine.registry import EQUALIZE, parse_refinements

PRECISIONS = ("fp32", "fp16", "int8")
# By name: the unit, and whether the figure must be at least or at most the limit.
GATES = {
    "top1": ("%", "at least"),
    "top5": ("%", "at least"),
    "agreement": ("%", "at least"),
    "sqnr": ("dB", "at least"),
    "loss": ("points", "at most"),
}
BUDGETS = ("top1", "agreement", "sqnr")
# A sound INT8 GoogLeNet gives 98 of 100 images the class that FP32 gives them; below 95 something is wrong.
DEFAULT_GATES = {"agreement": 95.0}


@dataclass(frozen=True)
class DeployConfig:
    """Everything that can be asked for; the names are those of the TOML file and of the options.

    Attributes:
        weights: A checkpoint, or "bvlc" or "torchvision" for the published weights.
        images: A folder of photographs; calibration and evaluation share it, never an image.
        labels: CSV of filename,label; "" takes the folder of an image for its class where that is one.
        target: A module, a JetPack, a TensorRT, or tensorrt-rtx.
        precision: "fp32", "fp16" or "int8".
        output: The folder for everything that is made.
        calibration_images: How many images calibrate; at most two thirds of all do.
        evaluation_images: How many others are evaluated at most; 0 for all.
        seed: Of the draw between the two.
        method: How thresholds are chosen, see `calibrate`.
        refine: Refinements of the INT8 model, see `quantize`; without "equalize", which changes the FP32 one.
        batch: Batches of the engine: smallest, usual, largest.
        benchmark: Whether this machine's own latency is measured too.
        sensitivity: Whether it is measured what quantising each layer alone costs.
        budget: What INT8 must keep by leaving layers in floating point: "top1" (points lost at most), "agreement" (%)
            or "sqnr" (dB); judged on images that neither calibrate nor evaluate.
        golden_images: Images in the bundle's self-test.
        compute_capabilities: GPUs for which TensorRT-RTX builds ahead of time.
        gates: Limits by name, see `GATES`.
        threads: CPU threads; 0 for one per core.
    """

    weights: str
    images: str
    target: str
    output: str
    labels: str = ""
    precision: str = "int8"
    calibration_images: int = 256
    evaluation_images: int = 0
    seed: int = 0
    method: str = "auto"
    refine: str = "fast"
    batch: tuple[int, ...] = (1, 4, 16)
    benchmark: bool = True
    sensitivity: bool = True
    budget: Mapping[str, float] = field(default_factory=dict)
    golden_images: int = 6
    compute_capabilities: tuple[str, ...] = ("8.6", "8.9")
    gates: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_GATES))
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("weights", "images", "target", "output"):
            if not getattr(self, name):
                raise UsageError(f"deploy needs {name}", f"give --{name}, or {name} in the configuration")
        if self.precision not in PRECISIONS:
            raise UsageError(f"unknown precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}")
        for name, least in (("calibration_images", 1), ("golden_images", 1), ("evaluation_images", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}")
        if len(self.batch) != 3 or not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise UsageError("batch is smallest, usual, largest: such as 1,4,16")
        if EQUALIZE in parse_refinements(self.refine):
            raise UsageError("deploy cannot equalize: the FP32 model that it compares with stays as it is")
        _check_limits("budget", self.budget, BUDGETS)
        _check_limits("gate", self.gates, GATES)

    @property
    def batches(self) -> tuple[int, int, int]:
        """The engine's batches."""
        return self.batch[0], self.batch[1], self.batch[2]

    def resolved(self) -> tuple[DeployConfig, Target, tuple[str, ...]]:
        """The configuration with what the target changes about it, the target, and what was changed.

        Raises:
            UsageError: There is no such target.
        """
        target = load_target(self.target)
        if self.precision == "int8" and target.has_int8 is False:
            note = f"{target.title} has no INT8 instructions: FP16 is deployed instead"
            return replace(self, precision="fp16"), target, (note,)
        return self, target, ()

    def to_dict(self) -> dict[str, Any]:
        """The values by name, as TOML knows them."""
        values: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
            for name, value in values.items()
        }


def _check_limits(kind: str, limits: Mapping[str, float], known: Collection[str]) -> None:
    for name, limit in limits.items():
        if name not in known:
            raise UsageError(f"unknown {kind} {name!r}: choose among {', '.join(known)}")
        if not math.isfinite(limit) or (kind == "budget" and limit < 0):
            raise UsageError(f"the {kind} {name} cannot be {limit:g}")
