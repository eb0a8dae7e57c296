"""From a model and images to a calibration table: one pass, every method."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from googlenet_deploy.calibration.batches import ImageSelection
from googlenet_deploy.calibration.collect import Collection, Collector, load_state, save_state
from googlenet_deploy.calibration.observation import Observation, plan_observations, watched_tensors
from googlenet_deploy.calibration.table import AUTO, METHODS, CalibrationTable
from googlenet_deploy.calibration.tabulate import check_images, find_doubts, outlines, tabulate
from googlenet_deploy.calibration.thresholds.percentile import DEFAULT_PERCENTILE
from googlenet_deploy.device.files import sha256_file
from googlenet_deploy.device.images.pipeline import ImageBatches
from googlenet_deploy.device.progress import progress
from googlenet_deploy.errors import BadModelError, UsageError
from googlenet_deploy.graph.files import input_specification, load_classifier, read_metadata
from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.graph.session import TensorSession
from googlenet_deploy.quantization.placement import PlacementOptions, place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from googlenet_deploy.calibration.batches import Batches
    from googlenet_deploy.calibration.outline import Outline
    from googlenet_deploy.device.files import PathLike
    from googlenet_deploy.device.images.pipeline import Skipped
    from googlenet_deploy.device.progress import Advance
    from googlenet_deploy.device.specification import Preprocessing

# Small batches keep the watched tensors small; larger ones are no faster on a CPU.
BATCH_SIZE = 2
BATCHES_BETWEEN_SAVES = 64


@dataclass(frozen=True)
class CalibrationOptions:
    """How calibration works.

    Attributes:
        method: The table's own method: one of `METHODS` or "auto".
        percentile: Share of absolute values that the percentile method keeps, in percent.
        every_tensor: Record all activations, for TensorRT's own cache and its accelerator, and not only those
            that a Q/DQ model needs.
        batch_size: Images per batch, where the model leaves it open.
        threads: Threads of ONNX Runtime; one per core where None.
        state: A file to go on from if it exists, and to keep the counts in.
        quiet: Show no progress.
    """

    method: str = AUTO
    percentile: float = DEFAULT_PERCENTILE
    every_tensor: bool = True
    batch_size: int = BATCH_SIZE
    threads: int | None = None
    state: str | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.method not in (*METHODS, AUTO):
            raise UsageError(f"unknown method {self.method!r}: choose one of {', '.join((*METHODS, AUTO))}")
        if not 0 < self.percentile <= 100:
            raise UsageError(f"a percentile lies above 0 and up to 100, not at {self.percentile}")
        if self.batch_size < 1:
            raise UsageError("the batch size must be at least 1")


@dataclass(frozen=True)
class CalibrationSource:
    """The model that is calibrated, and what its table says about it.

    Attributes:
        model: The FP32 model.
        path: Its file, for error messages.
        sha256: Hash of that file.
        preprocessing: How images are prepared for it.
        properties: Its own metadata that the table repeats: architecture, hash of its weights.
    """

    model: onnx.ModelProto
    path: str
    sha256: str
    preprocessing: Preprocessing
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CalibrationResult:
    """A calibration's table, and what the user should hear about it.

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
        preprocessing: How its images are prepared; what its metadata says where None.

    Raises:
        BadModelError: The file is missing, damaged, or does not say how its images are prepared.
    """
    model = load_classifier(path)
    metadata = read_metadata(path, model)
    if preprocessing is None and metadata.preprocessing is None:
        raise BadModelError(
            path,
            "does not say how its images are prepared",
            "give --preprocessing, or write it with `googlenet-deploy export`, which stores that in the model",
        )
    properties = {"architecture": metadata.architecture, "source_sha256": metadata.source_sha256}
    return CalibrationSource(
        model=model,
        path=str(path),
        sha256=sha256_file(path),
        preprocessing=preprocessing or input_specification(path, model),
        properties={key: value for key, value in properties.items() if value},
    )


def calibrate(
    source: CalibrationSource, selection: ImageSelection, options: CalibrationOptions | None = None
) -> CalibrationResult:
    """Calibrates a model on images from files.

    With `options.state` the counts are saved every 64 batches, on Ctrl-C and at the end, and an existing file is gone
    on from; `discard_state` removes it once the result is written.

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
    """Counts the images that are not yet in the collection; on Ctrl-C its state is saved, where one is wanted."""
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
    """Tells runs apart that must not share a state."""
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
    doubts = [*(selection.notes if selection else ()), *find_doubts(table, collection)]
    shapes = outlines(observations, collection)
    return CalibrationResult(table, tuple(collection.skipped), doubts, shapes)
