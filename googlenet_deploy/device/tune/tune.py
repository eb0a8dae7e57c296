"""The choice of precision, batch, streams, threads and power mode by measurement, in one call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Iterable, List, Optional, Sequence, Tuple

from googlenet_deploy.device.images.sources import find_images
from googlenet_deploy.device.preprocessing_options import OPENCV_DIFFERS, StatedPreprocessing, runner_preprocessing
from googlenet_deploy.device.runner.select import GpuOptions, open_runner
from googlenet_deploy.device.text import Report, log_note
from googlenet_deploy.device.tune.models import golden_images
from googlenet_deploy.device.tune.options import TuneOptions
from googlenet_deploy.device.tune.run import Tuner
from googlenet_deploy.device.tune.runnable import TuneRequest
from googlenet_deploy.device.tune.tuned_file import save_tuned

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from googlenet_deploy.device.files import PathLike
    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.tune.tuned_file import Tuned, TuneSetting


def tune(
    places: Sequence[PathLike],
    output: Optional[PathLike] = None,
    *,
    images: Optional[Iterable[PathLike]] = None,
    reference: Optional[PathLike] = None,
    options: Optional[TuneOptions] = None,
    gpu: Optional[GpuOptions] = None,
    preprocessing: StatedPreprocessing = None,
    image_backend: str = "pillow",
    seed: int = 0,
    power: str = "auto",
    power_rails: Tuple[str, ...] = (),
    stop: Optional[threading.Event] = None,
    report: Report = log_note,
) -> Tuned:
    """Finds the setting that meets the limits and uses the least energy, or is the fastest or the smallest.

    Args:
        places: Models, engines, and folders that contain them.
        output: Path of the result (``tuned.json``, for `infer --tuned`); None writes no file.
        images: Photographs for timing and agreement; None uses those of a bundle, else synthetic images.
        reference: The model whose classes count as FP32's; None uses the FP32 model among the places.
        options: Objective, limits, and what is tried.
        gpu: How engines run; streams and CUDA graphs are tried.
        preprocessing: How images are prepared; None uses each model's own preprocessing.
        image_backend: Library that resizes images: "pillow" or "opencv".
        seed: Seed of synthetic images.
        power: The power meter, as for `benchmark`.
        power_rails: Rails that make up the total; empty for the module's default.
        stop: Set from another thread to end at the next round.
        report: Called with a line about each step.

    Returns:
        All measurements; `choice` is None if nothing meets the limits.

    Raises:
        UsageError: The options are invalid here.
        DeviceError: Nothing runs here, the energy cannot be measured, or a power mode cannot be restored.
        InputError: A model or an image cannot be read.
        OutputError: The file cannot be written.
        KeyboardInterrupt: `stop` was set; the power mode is restored.
    """
    request = tune_request(
        places,
        images=images,
        reference=reference,
        options=options,
        gpu=gpu,
        preprocessing=preprocessing,
        image_backend=image_backend,
        seed=seed,
        power=power,
        power_rails=power_rails,
        report=report,
    )
    tuner = Tuner(request, stop=stop, report=report)
    try:
        return tuner.run()
    finally:
        if tuner.tuned is not None and output is not None:  # also if the power mode could not be restored
            save_tuned(output, tuner.tuned)


def tune_request(
    places: Sequence[PathLike],
    *,
    images: Optional[Iterable[PathLike]] = None,
    reference: Optional[PathLike] = None,
    options: Optional[TuneOptions] = None,
    gpu: Optional[GpuOptions] = None,
    preprocessing: StatedPreprocessing = None,
    image_backend: str = "pillow",
    seed: int = 0,
    power: str = "auto",
    power_rails: Tuple[str, ...] = (),
    report: Report = log_note,
) -> TuneRequest:
    """The request for `Tuner`; see `tune` for the arguments.

    Raises:
        InputError: An image or a bundle cannot be read.
    """
    engines = gpu or GpuOptions()
    if image_backend == "opencv":
        report(OPENCV_DIFFERS)

    def open_file(file: Path, setting: TuneSetting, slots: int) -> Runner:
        return open_runner(
            file,
            setting.backend,
            threads=setting.threads,
            batch=setting.batch,
            gpu=replace(engines, streams=slots, cuda_graph=setting.cuda_graph),
        )

    return TuneRequest(
        places=places,
        options=options or TuneOptions(),
        open_file=open_file,
        resolve=lambda runner: runner_preprocessing(preprocessing, runner, report),
        sources=_sources(places, images),
        reference=reference,
        image_backend=image_backend,
        seed=seed,
        power=power,
        power_rails=power_rails,
        checked=engines.checked,
    )


def _sources(places: Sequence[PathLike], images: Optional[Iterable[PathLike]]) -> Optional[List[ImageSource]]:
    if images is not None:
        return find_images(images).images
    return golden_images(places) or None
