"""From a model and images to a calibration table: one pass, every method."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy import __version__
from googlenet_deploy.calibration.collect import FOLDS, Collection, Collector, load_state, save_state
from googlenet_deploy.calibration.histogram import Histogram, Outline, outline
from googlenet_deploy.calibration.images import ImageSelection, hash_contents, hash_images
from googlenet_deploy.calibration.options import CalibrationOptions, PlacementOptions
from googlenet_deploy.calibration.placement import place
from googlenet_deploy.calibration.table import (
    CONTENT_DIGITS,
    FALLBACK_AMAX,
    SMALLEST_AMAX,
    CalibrationTable,
    ImageRecord,
    TensorRecord,
)
from googlenet_deploy.calibration.thresholds.error import share_above
from googlenet_deploy.calibration.thresholds.select import choose_threshold
from googlenet_deploy.calibration.watched_tensors import Observation, plan_observations, watched_tensors
from googlenet_deploy.device.images.pipeline import ImageBatches
from googlenet_deploy.device.onnx_model.header import model_sha256
from googlenet_deploy.device.onnx_model.metadata import FRAMES_LAST
from googlenet_deploy.device.progress import progress
from googlenet_deploy.errors import BadModelError, InputError
from googlenet_deploy.graph.files import input_specification, load_classifier, read_metadata
from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.graph.session import TensorSession

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx

    from googlenet_deploy.calibration.images import Batches
    from googlenet_deploy.device.files import PathLike
    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.progress import Advance
    from googlenet_deploy.device.specification import Preprocessing


FEW_IMAGES = 32


def tabulate(
    source: CalibrationSource,
    observations: Iterable[Observation],
    collection: Collection,
    options: CalibrationOptions,
    selection: ImageSelection | None,
) -> CalibrationTable:
    """Applies every method to every record.

    Args:
        source: The model.
        observations: The records to make.
        collection: What was counted.
        options: The table's own method, and the percentile.
        selection: The images; None for arrays, whose hash stays empty.

    Raises:
        InputError: An image has disappeared since it was counted.
    """
    used = set(collection.names)
    images = [image for image in selection.chosen if image.name in used] if selection else []
    return CalibrationTable(
        records=tuple(_record(observation, collection, options) for observation in observations),
        method=options.method,
        options={"percentile": options.percentile},
        images=_image_record(collection, images),
        preprocessing=source.preprocessing,
        model_sha256=source.sha256,
        model=source.properties,
        tool_version=__version__,
    )


def outlines(observations: Iterable[Observation], collection: Collection) -> dict[str, Outline]:
    """A small histogram of every record's values, by its first member."""
    return {observation.members[0]: outline(_merged(collection, observation.sources)) for observation in observations}


def check_images(collection: Collection) -> None:
    """Refuses a calibration without images, or on images without content.

    Raises:
        InputError: No image could be used, or every one is of one colour.
    """
    skipped = collection.skipped
    if not collection.images:
        first = f" (the first: {skipped[0].name} {skipped[0].reason})" if skipped else ""
        raise InputError("images", f"none of {len(skipped)} can be used{first}", "pass photographs")
    if collection.uniform == collection.images:
        raise InputError(
            "images",
            f"each of the {collection.images} is of one colour throughout (the first: {collection.names[0]})",
            "pass photographs like those the model will see",
        )


def find_doubts(table: CalibrationTable, collection: Collection) -> list[str]:
    """Warnings for the user: few images, images of one colour, copies, tensors that are always zero."""
    found = []
    if table.images.count < FEW_IMAGES:
        found.append(f"only {table.images.count} calibration images: the ranges may not hold for others; 256 is usual")
    if collection.uniform:
        found.append(f"{collection.uniform} images are of one colour throughout: they do not represent photographs")
    repeated = len(table.images.contents) - len(set(table.images.contents))
    if repeated:
        found.append(f"{repeated} images are copies of others: they count twice")
    zero = [record.members[0] for record in table.records if record.zero]
    if zero:
        found.append(
            f"{len(zero)} tensors are always zero, such as {zero[0]}: nothing can be learned about their range, "
            f"they get the scale of -{FALLBACK_AMAX:g} to {FALLBACK_AMAX:g}"
        )
    return found


def _image_record(collection: Collection, images: Sequence[ImageSource]) -> ImageRecord:
    contents = hash_contents(images)
    return ImageRecord(
        count=collection.images,
        folds=FOLDS,
        skipped=len(collection.skipped),
        sha256=hash_images(images, contents) if images else "",
        contents=tuple(content[:CONTENT_DIGITS] for content in contents),
    )


def _record(observation: Observation, collection: Collection, options: CalibrationOptions) -> TensorRecord:
    folds = [_merged(collection, observation.sources, fold) for fold in range(FOLDS)]
    choice = choose_threshold(folds, options.percentile)
    whole = _merged(collection, observation.sources)
    is_zero = whole.amax < SMALLEST_AMAX
    amax = {name: (FALLBACK_AMAX if is_zero else float(np.float32(value))) for name, value in choice.amax.items()}
    return TensorRecord(
        members=observation.members,
        minimum=whole.minimum,
        maximum=whole.maximum,
        amax=amax,
        chosen=choice.rule,
        errors={name: round(value, 3) for name, value in choice.decibels.items()},
        saturated={name: share_above(whole, value) for name, value in amax.items()},
        zero=is_zero,
    )


def _merged(collection: Collection, sources: Iterable[str], fold: int | None = None) -> Histogram:
    whole = Histogram()
    for name in sources:
        for number, histogram in enumerate(collection.histograms[name]):
            if fold is None or number == fold:
                whole.merge(histogram)
    return whole


BATCHES_BETWEEN_SAVES = 64


@dataclass(frozen=True)
class CalibrationSource:
    """The model that is calibrated, and what its table records about it.

    Attributes:
        model: The FP32 model.
        path: Its file, for error messages.
        sha256: Hash of that file.
        preprocessing: How images are prepared for it.
        properties: Its own metadata that is copied to the table: architecture, hash of its weights.
        notes: What was changed when it was read.
    """

    model: onnx.ModelProto
    path: str
    sha256: str
    preprocessing: Preprocessing
    properties: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CalibrationResult:
    """A calibration's table, and warnings about it.

    Attributes:
        table: The table.
        skipped: Images that could not be used.
        warnings: Anything doubtful: few images, tensors that are always zero.
        outlines: A small histogram per record of the table, by the record's first member.
    """

    table: CalibrationTable
    skipped: Sequence[Skipped]
    warnings: Sequence[str]
    outlines: Mapping[str, Outline] = field(default_factory=dict)


def open_source(path: PathLike, preprocessing: Preprocessing | None = None) -> CalibrationSource:
    """Reads an FP32 classifier.

    Args:
        path: The ONNX file.
        preprocessing: How its images are prepared; None uses its metadata.

    Raises:
        BadModelError: The file is missing, damaged, does not state how its images are prepared, or takes frames.
    """
    notes: list[str] = []
    model = load_classifier(path, notes)
    metadata = read_metadata(path, model)
    if preprocessing is None and metadata.preprocessing is None:
        raise BadModelError(
            path,
            "does not state how its images are prepared",
            "pass --preprocessing, or write it with `googlenet-deploy export`, which stores that in the model",
        )
    if metadata.preprocessing is not None and metadata.preprocessing.frame is not None:
        raise BadModelError(path, "resizes frames inside, which must stay out of INT8", FRAMES_LAST)
    properties = {"architecture": metadata.architecture, "source_sha256": metadata.source_sha256}
    return CalibrationSource(
        model=model,
        path=str(path),
        sha256=model_sha256(path),
        preprocessing=preprocessing or input_specification(path, model),
        properties={key: value for key, value in properties.items() if value},
        notes=tuple(notes),
    )


def calibrate(
    source: CalibrationSource, selection: ImageSelection, options: CalibrationOptions | None = None
) -> CalibrationResult:
    """Calibrates a model on images from files.

    With `options.state` the counts are saved every 64 batches, on Ctrl-C and at the end, and the run resumes from an
    existing file; `discard_state` removes it once the result is written.

    Raises:
        BadModelError: The model is quantised already, cannot be run, or yields NaN or infinite values.
        InputError: No image can be used, all are of one colour, or the state belongs to another run.
    """
    chosen = options or CalibrationOptions()
    observations, session = _prepare(source, chosen)
    fingerprint = _fingerprint(source, selection, chosen)
    if chosen.state and Path(chosen.state).exists():
        collection = load_state(chosen.state, fingerprint)
    else:
        collection = Collection.empty(session.outputs)
    with progress("calibrate", len(selection.chosen), quiet=chosen.quiet) as advance:
        advance(collection.consumed)
        collector = Collector(session, collection, source.preprocessing.layout)
        _collect(source, selection, collector, advance, chosen, fingerprint)
    return _finish(source, observations, collection, chosen, selection)


def discard_state(options: CalibrationOptions) -> None:
    """Removes the state of a calibration whose result has been written."""
    if options.state:
        with suppress(OSError):
            Path(options.state).unlink()


def calibrate_arrays(
    source: CalibrationSource, batches: Batches, options: CalibrationOptions | None = None
) -> CalibrationResult:
    """Calibrates a model on prepared arrays, whose hash stays empty in the table; see `calibrate`."""
    chosen = options or CalibrationOptions()
    observations, session = _prepare(source, chosen)
    collection = Collection.empty(session.outputs)
    with Collector(session, collection, source.preprocessing.layout).running() as collector:
        for batch in batches:
            collector.add(batch.array, batch.names)
    return _finish(source, observations, collection, chosen, None)


def _prepare(source: CalibrationSource, options: CalibrationOptions) -> tuple[list[Observation], TensorSession]:
    graph = GraphView(source.model, source.path)
    plan = place(graph, PlacementOptions())
    observations = plan_observations(graph, plan, every_tensor=options.every_tensor)
    watched = watched_tensors(observations)
    return observations, TensorSession(source.model, watched, options.threads, source.path)


def _collect(
    source: CalibrationSource,
    selection: ImageSelection,
    collector: Collector,
    advance: Advance,
    options: CalibrationOptions,
    fingerprint: str,
) -> None:
    """Counts the images that are not yet in the collection; on Ctrl-C its state is saved, if requested."""
    collection, start = collector.collection, collector.collection.consumed
    counted, skipped = collection.images, list(collection.skipped)
    size = collector.session.fixed_batch or options.batch_size
    batches = ImageBatches(selection.chosen[start:], source.preprocessing, size)

    def note() -> None:
        read = _read(batches, collection.images - counted)
        collection.consumed, before = start + read, {image.name for image in batches.sources[:read]}
        collection.skipped = skipped + [image for image in batches.skipped if image.name in before]

    try:
        with collector.running():
            for number, batch in enumerate(batches, start=1):
                collector.add(batch.array, batch.names)
                advance(len(batch.names))
                if options.state and number % BATCHES_BETWEEN_SAVES == 0:
                    collector.wait()
                    note()
                    save_state(options.state, collection, fingerprint)
    except KeyboardInterrupt:
        if options.state:
            note()
            save_state(options.state, collection, fingerprint)
        raise
    collection.consumed = len(selection.chosen)
    collection.skipped = skipped + batches.skipped
    if options.state:
        save_state(options.state, collection, fingerprint)


def _read(batches: ImageBatches, counted: int) -> int:
    """How many images were read to get `counted` usable ones."""
    unusable = {image.name for image in batches.skipped}
    usable = 0
    for index, image in enumerate(batches.sources):
        if usable == counted:
            return index
        usable += image.name not in unusable
    return len(batches.sources)


def _fingerprint(source: CalibrationSource, selection: ImageSelection, options: CalibrationOptions) -> str:
    """A hash that differs between runs that must not share a state."""
    values = [
        source.sha256,
        source.preprocessing.to_json(),
        [image.name for image in selection.chosen],
        options.every_tensor,
        options.batch_size,
    ]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _finish(
    source: CalibrationSource,
    observations: Sequence[Observation],
    collection: Collection,
    options: CalibrationOptions,
    selection: ImageSelection | None,
) -> CalibrationResult:
    check_images(collection)
    table = tabulate(source, observations, collection, options, selection)
    doubts = [*source.notes, *(selection.notes if selection else ()), *find_doubts(table, collection)]
    shapes = outlines(observations, collection)
    return CalibrationResult(table, tuple(collection.skipped), doubts, shapes)
