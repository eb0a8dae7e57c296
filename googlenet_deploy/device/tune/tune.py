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
    """Finds what keeps the limits of the options and takes the least energy, or is the fastest or the smallest.

    Args:
        places: Models, engines, and folders with such.
        output: Where the result goes (``tuned.json``, for `infer --tuned`); None writes no file.
        images: Photographs for timing and agreement; None takes those of a bundle, else synthetic ones.
        reference: The model whose classes count as FP32's; None takes the FP32 model among the places.
        options: Objective, limits, and what is tried.
        gpu: How engines run; streams and CUDA graphs are tried.
        preprocessing: How images are prepared; None takes what each model says.
        image_backend: What resizes images: "pillow" or "opencv".
        seed: Of synthetic images.
        power: The power meter, as for `benchmark`.
        power_rails: Rails that make the total; empty for the module's.
        stop: Set from another thread to end at the next round.
        report: Takes a line about each step.

    Returns:
        Everything that was measured; its `choice` is None where nothing keeps the limits.

    Raises:
        UsageError: The options make no sense here.
        DeviceError: Nothing runs here, the energy cannot be measured, or a power mode cannot be put back.
        InputError: A model or an image cannot be read.
        OutputError: The file cannot be written.
        KeyboardInterrupt: `stop` was set; the power mode is put back.
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
        if tuner.tuned is not None and output is not None:  # also where the power mode could not be put back
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
    """What `Tuner` is asked for; see `tune` for the arguments.

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
