"""Memory of a process that runs an engine: the engine, its execution context, and what CUDA and TensorRT load.

    engine = weights + a fixed part;  context = largest activations alive at once * a factor;  libraries = a fixed part

The engine's part and the context's factor are from engines that we built; the libraries' memory is what TensorRT
printed on Jetsons ("MemUsageChange"). On a Jetson all of it is the module's one memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from googlenet_deploy.analysis.layer_work import ModelWork


@dataclass(frozen=True)
class MemoryConstants:
    """Measured values, each as (lowest, typical, highest).

    Attributes:
        engine_bytes: Bytes of an engine beyond its weights.
        context_factor: Ratio of the execution context to the live activations.
        library_bytes: Bytes of CUDA and TensorRT's libraries in a process.
    """

    engine_bytes: tuple[float, float, float]
    context_factor: tuple[float, float, float]
    library_bytes: tuple[float, float, float]


@dataclass(frozen=True)
class PredictedMemory:
    """Peak memory in bytes.

    Attributes:
        engine: The engine, weights included.
        context: Activations and scratch memory of one execution context.
        libraries: CUDA and TensorRT.
        low: Lower end of the sum.
        high: Upper end.
        available: The module's memory, which the system shares; None if the profile does not state it.
    """

    engine: float
    context: float
    libraries: float
    low: float
    high: float
    available: int | None

    @property
    def total(self) -> float:
        """The sum."""
        return self.engine + self.context + self.libraries


def predict_memory(work: ModelWork, constants: MemoryConstants, available: int | None) -> PredictedMemory:
    """Peak memory of a process with one engine and one context."""
    live = max((size for _, size in work.schedule()), default=0)

    def part(index: int) -> tuple[float, float, float]:
        engine = work.weight_bytes + constants.engine_bytes[index]
        return engine, live * constants.context_factor[index], constants.library_bytes[index]

    return PredictedMemory(*part(1), low=sum(part(0)), high=sum(part(2)), available=available)
