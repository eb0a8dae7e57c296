"""A benchmark of a model in one call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Dict, Iterable, Optional

from googlenet_deploy.device.benchmark.options import BenchmarkOptions
from googlenet_deploy.device.benchmark.run import Benchmark
from googlenet_deploy.device.images.sources import find_images
from googlenet_deploy.device.preprocessing_options import OPENCV_DIFFERS, StatedPreprocessing, runner_preprocessing
from googlenet_deploy.device.runner.select import GpuOptions, RunnerOptions, open_runner
from googlenet_deploy.device.text import Report, log_note

if TYPE_CHECKING:
    from googlenet_deploy.device.files import PathLike
    from googlenet_deploy.device.runner.protocol import Runner


def benchmark(
    model: PathLike,
    *,
    images: Optional[Iterable[PathLike]] = None,
    options: Optional[BenchmarkOptions] = None,
    running: Optional[RunnerOptions] = None,
    gpu: Optional[GpuOptions] = None,
    preprocessing: StatedPreprocessing = None,
    image_backend: str = "pillow",
    quiet: bool = True,
    report: Report = log_note,
) -> Dict[str, Any]:
    """Measures latency by scope, throughput, memory and energy, each with its 95 % interval over the rounds.

    Args:
        model: An ``.onnx`` file or an engine.
        images: Files, folders and patterns of real images; None uses synthetic images.
        options: Batches, streams, rounds, power meter, ...
        running: Backend and CPU threads.
        gpu: How an engine runs.
        preprocessing: How images are prepared; None uses the model's own preprocessing.
        image_backend: Library that resizes images: "pillow" or "opencv".
        quiet: Show no progress.
        report: Called with a line if the preprocessing differs from the model's own.

    Returns:
        What ``benchmark --json`` writes, see docs/benchmark-schema.md: times in milliseconds, energy in millijoules;
        a figure that was not measured has the reason instead.

    Raises:
        UsageError: The options do not fit the model, or the machine's memory.
        BadModelError: The model cannot be loaded.
        BadImageError: An image cannot be read.
        DeviceError: TensorRT, CUDA, a GPU or the requested meter is missing.
    """
    running, gpu = running or RunnerOptions(), gpu or GpuOptions()
    if image_backend == "opencv":
        report(OPENCV_DIFFERS)

    def open_model(slots: int, threads: Optional[int], batch: int) -> Runner:
        return open_runner(
            model,
            running.backend,
            threads=threads,
            batch=batch,
            as_is=running.as_is,
            gpu=replace(gpu, streams=slots),
        )

    return Benchmark(
        open_model,
        lambda runner: runner_preprocessing(preprocessing, runner, report),
        replace(options or BenchmarkOptions(), threads=running.threads),
        None if images is None else find_images(images).images,
        image_backend=image_backend,
        runner_options=_record(running, gpu),
        quiet=quiet,
    ).run()


def _record(running: RunnerOptions, gpu: GpuOptions) -> Dict[str, Any]:
    return {
        "backend": running.backend,
        "as_is": running.as_is,
        "cuda_backend": gpu.cuda_backend,
        "cuda_graph": gpu.cuda_graph,
        "zero_copy": "auto" if gpu.zero_copy is None else "on" if gpu.zero_copy else "off",
    }
