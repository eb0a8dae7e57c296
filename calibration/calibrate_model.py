"""From an ONNX file and images to a calibration table in one call."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from googlenet_deploy.calibration import calibrate as one_pass
from googlenet_deploy.calibration.calibrate import CalibrationResult, CalibrationSource, discard_state, open_source
from googlenet_deploy.calibration.images import choose_images
from googlenet_deploy.calibration.options import CacheOptions, CalibrationOptions, ImageOptions
from googlenet_deploy.calibration.tensorrt_cache import cache_from_table, header_number
from googlenet_deploy.device.files import check_writable
from googlenet_deploy.device.preprocessing_options import StatedPreprocessing, file_preprocessing
from googlenet_deploy.device.text import Report, log_note
from googlenet_deploy.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from googlenet_deploy.calibration.table import CalibrationTable
    from googlenet_deploy.calibration.tensorrt_cache import CalibrationCache
    from googlenet_deploy.device.files import PathLike


def calibrate(
    model: PathLike,
    images: PathLike | None = None,
    output: PathLike | None = None,
    *,
    count: int | None = None,
    seed: int = 0,
    options: CalibrationOptions | None = None,
    preprocessing: StatedPreprocessing = None,
    cache: CacheOptions | None = None,
    report: Report = log_note,
) -> CalibrationResult:
    """Measures the range of each activation of an FP32 model; memory does not grow with the number of images.

    Args:
        model: An FP32 ONNX classifier.
        images: A folder, a pattern, or a .txt file that lists images.
        output: Where the table goes (JSON); None writes no file.
        count: Number of images drawn at random; None uses 256 of a folder and all of a list.
        seed: Seed of the random draw.
        options: Threshold method, batch size, checkpoint to resume from.
        preprocessing: How images are prepared; None uses the model's metadata.
        cache: TensorRT's own cache, written as well.
        report: Receives notes.

    Returns:
        The table, with skipped images and warnings.

    Raises:
        BadModelError: The model is damaged, quantised already, or does not state how its images are prepared.
        InputError: There are no usable images.
        UsageError: The options contradict each other.
        OutputError: A file cannot be written; the checkpoint is kept.
    """
    chosen, cache = options or CalibrationOptions(), cache or CacheOptions()
    if cache.tensorrt_version is not None:
        header_number(cache.tensorrt_version)
    check_writable(output, cache.cache, chosen.state)
    source = stated_source(model, preprocessing, report)
    place = None if images is None else str(images)
    selection = choose_images(ImageOptions(place, count, seed))
    with resumable(chosen, report):
        result = one_pass.calibrate(source, selection, chosen)
        if output is not None:
            result.table.save(output)
    write_cache(cache, source, result.table, report)
    return result


def stated_source(model: PathLike, preprocessing: StatedPreprocessing, report: Report = log_note) -> CalibrationSource:
    """The model with its own preprocessing, or the stated one.

    Raises:
        BadModelError: See `open_source`.
        UsageError: See `choose_preprocessing`.
    """
    return open_source(model, file_preprocessing(preprocessing, str(model), report))


@contextmanager
def resumable(options: CalibrationOptions, report: Report = log_note) -> Iterator[None]:
    """Removes a calibration's state once the block that writes its result has ended; else reports where it is."""
    try:
        yield
    except (KeyboardInterrupt, OutputError):
        if options.state and Path(options.state).exists():
            report(f"what was counted is in {options.state}; the same command resumes from it")
        raise
    discard_state(options)


def write_cache(
    options: CacheOptions, source: CalibrationSource, table: CalibrationTable, report: Report = log_note
) -> CalibrationCache | None:
    """Writes TensorRT's cache if one is requested, and returns it.

    Raises:
        OutputError: It cannot be written.
    """
    if options.cache is None or options.tensorrt_version is None:
        return None
    cache, notes = cache_from_table(table, source.model, options.tensorrt_version, options.algorithm)
    cache.save(options.cache)
    for note in notes:
        report(note)
    report(f"cache: {options.cache} ({len(cache.scales)} tensors, TensorRT {options.tensorrt_version})")
    return cache
