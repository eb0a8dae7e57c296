"""The objective and limits of `tune`, and what it tries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Tuple

from googlenet_deploy.device.benchmark.options import MAX_BATCH, MAX_IMAGES, MAX_ROUNDS, MAX_SECONDS, MAX_STREAMS
from googlenet_deploy.device.options import auto_on_off, check_options, option, words
from googlenet_deploy.device.runner.select import REGISTRY, RUNNING
from googlenet_deploy.errors import UsageError

ENERGY, LATENCY, RATE, SIZE = "energy", "latency", "rate", "size"
OBJECTIVES = (ENERGY, LATENCY, RATE, SIZE)
GOAL, TRIED, STAGES = "objective", "candidates", "search"


@dataclass(frozen=True)
class TuneOptions:
    """The objective, the limits, and what is tried.

    Attributes:
        objective: One of `OBJECTIVES`; None uses the energy per image with a power meter, else the latency.
        max_latency: Milliseconds that 95 % of the batches must not exceed, from their start to their answers.
        min_rate: Images per second.
        min_agreement: Percent of the images with FP32's class.
        batch_sizes: Batch sizes; empty for the usual ones of the device.
        stream_counts: Batches in flight; empty as above.
        thread_counts: CPU threads; empty as above.
        backends: For ONNX models; empty for ONNX Runtime and OpenVINO, if installed.
        cuda_graph: None tries engines with and without CUDA graphs.
        power_modes: Whether the modes of ``nvpmodel`` are also tried.
        image_count: Most images that are classified for the agreement.
        first_seconds: Length of a round in the first stage; it doubles from stage to stage.
        seconds: Length of a round in the last stage.
        rounds: Most rounds of the last stage.
        warm_up: Longest warm-up of a setting, in seconds.

    Raises:
        UsageError: A value is out of range.
    """

    objective: Optional[str] = option(
        None, "what is as small as possible: energy per image, time of a batch, 1 / (images/s), or the model's file",
        group=GOAL, choices=OBJECTIVES, shown_default="energy with a power meter, else latency",
    )  # fmt: skip
    max_latency: Optional[float] = option(
        None,
        "milliseconds that 95 % of the batches must keep, from start to answers",
        group=GOAL,
        metavar="MS",
        above=0,
    )
    min_rate: Optional[float] = option(None, "images per second", group=GOAL, metavar="N", above=0)
    min_agreement: Optional[float] = option(
        None, "percent of the images that must get FP32's class", group=GOAL, metavar="P", above=0, most=100
    )
    batch_sizes: Tuple[int, ...] = option(
        (), "batch sizes", group=TRIED, flag="--batch", metavar="N,N", least=1, most=MAX_BATCH,
        shown_default="1 for latency; else 1 to 32 on a GPU, 1 and multiples of the cores on a CPU",
    )  # fmt: skip
    stream_counts: Tuple[int, ...] = option(
        (), "batches in flight", group=TRIED, flag="--streams", metavar="N,N", least=1, most=MAX_STREAMS,
        shown_default="1; on a GPU 1,2,4 unless for latency",
    )  # fmt: skip
    thread_counts: Tuple[int, ...] = option(
        (), "CPU threads of ONNX models", group=TRIED, flag="--threads", metavar="N,N", least=1,
        shown_default="1 and one per core",
    )  # fmt: skip
    backends: Tuple[str, ...] = option(
        (), "what runs ONNX models", group=TRIED, flag="--backend", metavar="NAME,NAME", parse=words,
        shown_default="onnxruntime and openvino, as far as installed; none where an engine runs",
    )  # fmt: skip
    cuda_graph: Optional[bool] = option(
        None, "run engines as a CUDA graph", group=TRIED, metavar="{auto,on,off}", parse=auto_on_off,
        shown_default="auto: try both",
    )  # fmt: skip
    power_modes: bool = option(
        False, "try every power mode of a Jetson too; needs root, and puts the present mode back", group=TRIED
    )
    image_count: int = option(
        256, "most images of --images, evenly spread, that are classified for the agreement", group=STAGES, metavar="N",
        flag="--count", least=1, most=MAX_IMAGES,
    )  # fmt: skip
    first_seconds: float = option(
        0.25, "length of a round in the first stage; it doubles from stage to stage", group=STAGES, metavar="S",
        above=0, most=MAX_SECONDS,
    )  # fmt: skip
    seconds: float = option(
        0.5,
        "length of a round in the last stage; a slow power meter lengthens it",
        group=STAGES,
        metavar="S",
        above=0,
        most=MAX_SECONDS,
    )
    rounds: int = option(
        8, "most rounds of the last stage, for the best that are hard to tell apart", group=STAGES, metavar="N",
        least=3, most=MAX_ROUNDS,
    )  # fmt: skip
    warm_up: float = option(5.0, "longest warm-up of a setting", group=STAGES, metavar="S", least=0, most=MAX_SECONDS)

    def __post_init__(self) -> None:
        check_options(self)
        lists = (("--batch", self.batch_sizes), ("--streams", self.stream_counts), ("--threads", self.thread_counts))
        for name, values in (*lists, ("--backend", self.backends)):
            if len(set(values)) != len(values):
                raise UsageError(f"{name} {','.join(map(str, values))} names a value twice")
        able = [name for name, entry in REGISTRY.items() if not entry.engines]
        for name in self.backends:
            if name not in able:
                raise UsageError(f"--backend {name}: runs no ONNX models", f"choose among {', '.join(able)}")

    @property
    def budget(self) -> TuneBudget:
        """The limits."""
        return TuneBudget(self.max_latency, self.min_rate, self.min_agreement)


@dataclass(frozen=True)
class TuneBudget:
    """Limits; None for no limit. See `TuneOptions` for their meaning."""

    max_latency: Optional[float] = None
    min_rate: Optional[float] = None
    min_agreement: Optional[float] = None

    def excess(self, latency: float, rate: float, agreement: Optional[float], slack: float = 0.0) -> float:
        """How far figures are beyond the limits, as the sum of logarithms of ratios; 0 if all limits are met.

        Args:
            latency: 95th percentile of the batches' milliseconds.
            rate: Images per second.
            agreement: Percent; None if it was not measured, which meets no limit.
            slack: Share by which a time limit may be missed, for preliminary figures.
        """
        found = 0.0
        if self.max_latency is not None:
            found += max(0.0, math.log(latency / self.max_latency) - math.log1p(slack))
        if self.min_rate is not None:
            found += max(0.0, math.log(self.min_rate / rate) - math.log1p(slack))
        if self.min_agreement is not None:
            found += max(0.0, self.min_agreement - (agreement or 0.0)) / 100
        return found

    def text(self) -> str:
        """The limits as human-readable text; "" without any."""
        parts = [
            f"latency at most {self.max_latency:g} ms" if self.max_latency is not None else "",
            f"at least {self.min_rate:g} images/s" if self.min_rate is not None else "",
            f"agreement at least {self.min_agreement:g} %" if self.min_agreement is not None else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class TunedOptions:
    """The option that names the file with the choice of `tune`."""

    tuned: Optional[str] = option(
        None, "run the model as tune chose it: backend, batch, streams, threads, CUDA graph; options beside it win",
        group=RUNNING, metavar="FILE",
    )  # fmt: skip
