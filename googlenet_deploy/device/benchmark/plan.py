"""What can be measured here: batch sizes that the model takes and the memory holds, and how long a round lasts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, List

import numpy as np

from googlenet_deploy.device.benchmark.loops import Length
from googlenet_deploy.device.power.energy import window_for
from googlenet_deploy.device.power.none import NoSampler
from googlenet_deploy.device.runner.protocol import check_shape
from googlenet_deploy.device.system.sysfs import try_text
from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.benchmark.options import BenchmarkOptions
    from googlenet_deploy.device.power.select import AnySampler
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.specification import Preprocessing

# Batches that `inputs.make_batches` holds at the most, and the one that is being prepared.
BATCHES_HELD = 5


def batch_sizes(runner: Runner, spec: Preprocessing, options: BenchmarkOptions, root: Path = Path("/")) -> List[int]:
    """The sizes to measure: those that were asked for, else the model's own where it is fixed, else 1.

    Raises:
        UsageError: The model does not take them or the images, or they do not fit in memory.
    """
    smallest, largest = runner.batch_range
    sizes = list(options.batches) or [smallest]
    for size in sizes:
        if size < smallest or (largest is not None and size > largest):
            takes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
            raise UsageError(f"{runner.path}: takes batches of {takes}, not of {size}", "choose another --batch")
    check_shape(runner, np.empty((sizes[0], *spec.input_shape), spec.dtype))
    _check_memory(max(sizes), max(options.streams), spec, root)
    return sizes


def round_length(sampler: AnySampler, options: BenchmarkOptions, notes: List[str]) -> Length:
    """How long a round lasts: as asked, or longer where the power meter needs it, and then `notes` says so."""
    if isinstance(sampler, NoSampler):
        return Length(options.seconds, options.min_runs)
    needed = window_for(sampler.meter, options.seconds)
    if needed > options.seconds:
        notes.append(
            f"rounds last {needed:g} s instead of {options.seconds:g} s: {sampler.meter.name} gives a reading every "
            f"{sampler.meter.period:g} s, and may lag by {sampler.meter.lag:g} s"
        )
    return Length(needed, options.min_runs)


def _check_memory(batch: int, streams: int, spec: Preprocessing, root: Path) -> None:
    words = try_text(root / "proc/meminfo").partition("MemAvailable:")[2].split()
    if not words or not words[0].isdigit():
        return
    available = int(words[0]) * 1024
    needed = BATCHES_HELD * batch * int(np.prod(spec.input_shape)) * np.dtype(spec.dtype).itemsize * streams
    if needed > available:
        raise UsageError(
            f"batches of {batch} in {streams} streams need about {needed / 2**30:.1f} GiB, "
            f"{available / 2**30:.1f} GiB are free",
            "choose a smaller --batch or fewer --streams",
        )
