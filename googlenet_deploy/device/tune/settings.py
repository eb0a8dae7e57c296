"""Every setting that is tried: models times backends, batches, streams, threads, CUDA graphs and power modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, NamedTuple, Optional, Sequence, Tuple

from googlenet_deploy.device.tune.options import LATENCY, TuneOptions
from googlenet_deploy.device.tune.tuned_file import LeftOut, TuneSetting

if TYPE_CHECKING:
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.device.tune.models import FoundModel

GPU_BATCHES = (1, 2, 4, 8, 16, 32)
GPU_STREAMS = (1, 2, 4)


class RunnableModel(NamedTuple):
    """A model that was opened here and has run.

    Attributes:
        found: Its file.
        backend: The backend, as for ``--backend``.
        name: Human-readable name of the backend, with its version.
        device: "CPU", "GPU" or "DLA".
        batch_range: Smallest and largest batch; None for no limit.
        spec: Its preprocessing.
        notes: Its notes.
        agreement: Percent of the images with FP32's class; None if it was not measured.
    """

    found: FoundModel
    backend: str
    name: str
    device: str
    batch_range: Tuple[int, Optional[int]]
    spec: Preprocessing
    notes: Tuple[str, ...]
    agreement: Optional[float] = None


def settings_of(
    models: Sequence[RunnableModel], options: TuneOptions, objective: str, cores: int, power_modes: Sequence[str]
) -> Tuple[List[TuneSetting], List[LeftOut]]:
    """All settings, grouped by power mode, and requested settings that do not exist.

    Args:
        models: The models that run here.
        options: What is to be tried.
        objective: Batches of one image in one stream always have the shortest latency, so with that objective no others
            are tried unless they, or a rate, are requested.
        cores: Number of CPU cores.
        power_modes: Names of power modes; empty leaves the mode as it is.
    """
    shortest = objective == LATENCY and options.min_rate is None
    settings: List[TuneSetting] = []
    left_out: List[LeftOut] = []
    for model in models:
        for batch in _batches(model, options, cores, left_out, shortest=shortest):
            settings += _of_batch(model, batch, options, cores, shortest=shortest)
    modes = list(power_modes) or [""]
    return [each if not mode else each_in(each, mode) for mode in modes for each in settings], left_out


def each_in(setting: TuneSetting, mode: str) -> TuneSetting:
    """The settings in a power mode."""
    return TuneSetting(**{**vars(setting), "power_mode": mode})


def _batches(
    model: RunnableModel, options: TuneOptions, cores: int, left_out: List[LeftOut], *, shortest: bool
) -> List[int]:
    smallest, largest = model.batch_range
    wanted: Sequence[int] = options.batch_sizes
    if not wanted:
        usual = GPU_BATCHES if model.device != "CPU" else sorted({1, cores, 4 * cores})
        wanted = [smallest] if shortest else usual
    fits = [size for size in wanted if size >= smallest and (largest is None or size <= largest)]
    if not fits and not options.batch_sizes:
        fits = [smallest]  # a fixed batch other than the usual ones
    missing = [size for size in options.batch_sizes if size not in fits]
    if missing:
        takes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        batches = ", ".join(map(str, missing))
        left_out.append(LeftOut(f"{model.found.model.path}, batch {batches}", f"it accepts batches of {takes}"))
    return fits


def _of_batch(
    model: RunnableModel, batch: int, options: TuneOptions, cores: int, *, shortest: bool
) -> List[TuneSetting]:
    on_cpu = model.device == "CPU"
    streams = options.stream_counts or ((1,) if on_cpu or shortest else GPU_STREAMS)
    threads: Sequence[Optional[int]] = (None,)
    if on_cpu:
        threads = options.thread_counts or ((None, 1) if cores > 1 else (None,))
    graphs: Sequence[bool] = (False,)
    if model.found.engine:
        graphs = (False, True) if options.cuda_graph is None else (options.cuda_graph,)
    return [
        TuneSetting(model.found.model.path, model.backend, model.device, batch, count, number, graph)
        for count in streams
        for number in threads
        for graph in graphs
    ]
