"""Where an engine is to run: the TensorRT version, and what is known about the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from googlenet_deploy.device.targets.target import NO_INT8, Target
from googlenet_deploy.device.tensorrt.names import ONLY_STRONGLY_TYPED, Version


@dataclass(frozen=True)
class Site:
    """Where the engine is to run, as far as it is known.

    Attributes:
        label: For messages: ``TensorRT 8.5 of jetpack-5.1``.
        version: Version of TensorRT or TensorRT-RTX.
        rtx: Whether it is TensorRT-RTX.
        compute_capability: None if unknown.
        dla_cores: None if unknown.
    """

    label: str
    version: Version
    rtx: bool = False
    compute_capability: Optional[Tuple[int, int]] = None
    dla_cores: Optional[int] = None

    @property
    def has_int8(self) -> bool:
        """Whether the GPU computes in INT8, as far as is known."""
        return self.compute_capability not in NO_INT8

    @property
    def capability_text(self) -> str:
        """``compute capability 8.7``; for known GPUs."""
        return "compute capability {}.{}".format(*self.compute_capability) if self.compute_capability else "this GPU"

    @property
    def strong_only(self) -> bool:
        """Whether this TensorRT has strongly typed networks only."""
        return self.rtx or self.version >= ONLY_STRONGLY_TYPED


def site_of(target: Target) -> Site:
    """The site of a target; for a module, the site with its oldest TensorRT."""
    module = target.module
    return Site(
        label=f"{target.reader} of {target.name}",
        version=target.tensorrt[0] if target.tensorrt else (1, 0),
        rtx=target.rtx,
        compute_capability=module.compute_capability if module else None,
        dla_cores=module.dla_cores if module else None,
    )
