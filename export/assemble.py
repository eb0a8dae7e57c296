"""Runs the passes, holds the result against its references, and writes down how it came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from googlenet_deploy import __version__
from googlenet_deploy.analysis.sparsity import require_pattern
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.errors import VerificationError, requires
from googlenet_deploy.export.half.convert import HalfResult, is_quantized, run_by_onnxruntime, to_half, tolerance_of
from googlenet_deploy.export.half.stand_in import stand_in
from googlenet_deploy.export.options import ExportOptions
from googlenet_deploy.export.passes.outputs import AppendSoftmax, AppendTopK
from googlenet_deploy.export.passes.set_batch import SetBatch
from googlenet_deploy.export.verify import Comparison, Reference
from googlenet_deploy.graph.files import store_metadata
from googlenet_deploy.graph.graph import opset_of
from googlenet_deploy.graph.pass_manager import Pass, PassManager, PassRecord
from googlenet_deploy.graph.tidy import Tidy

with requires("export"):
    from onnx import ModelProto

PRODUCER = "googlenet-deploy"
_TOOLS = ("torch", "onnxscript", "onnx", "onnxsim", "onnxruntime")


@dataclass(frozen=True)
class ExportResult:
    """A finished model and how it came about.

    Attributes:
        model: What is to be written, metadata included.
        metadata: The toolkit's part of its metadata.
        passes: What each pass did, in order.
        comparisons: The finished model against the unsimplified original, and against PyTorch if that is the source.
        notes: What the user should know: what was kept, left out or fell back.
        half: What became of the types; None where they were left as they are.
    """

    model: ModelProto
    metadata: ModelMetadata
    passes: tuple[PassRecord, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]
    half: HalfResult | None = None


def assemble(
    original: ModelProto,
    passes: list[Pass],
    references: Mapping[str, Reference],
    metadata: ModelMetadata,
    options: ExportOptions,
) -> ExportResult:
    """Runs the passes, then the change of types, then what stands behind the logits; compares and stores the metadata.

    Args:
        original: The graph to start from.
        passes: Those that leave what is computed exactly as it is.
        references: What the result must compute; the first one holds for every pass.
        metadata: What is known so far.
        options: What was asked for.

    Raises:
        UsageError: The target does not read the types that were asked for.
        VerificationError: The result computes something else.
    """
    first = next(iter(references.values()))
    model, records = _run(original, passes, first)
    half = None
    if options.half is not None:
        tolerance = tolerance_of(options.half, quantized=is_quantized(model))
        references = {name: reference.with_tolerance(tolerance) for name, reference in references.items()}
        first = next(iter(references.values()))
        half = to_half(model, options.half, first, options.target, options.opset)
        model, records = half.model, [*records, *half.records]
    model, more = _run(model, [*_last_passes(options), Tidy()], first)
    records += more
    comparisons = _compare(model, references, half)
    require_pattern(model, metadata.extra)
    if options.uint8_input and metadata.preprocessing is not None:
        metadata = replace(metadata, preprocessing=metadata.preprocessing.with_uint8_input())
    entries = {**_entries(model, records, comparisons, options), **_half_entries(half)}
    metadata = replace(metadata, extra={**metadata.extra, **entries})
    store_metadata(model, metadata)
    model.producer_name, model.producer_version = PRODUCER, __version__
    model.doc_string = _description(metadata)
    notes = tuple(_notes(records, options, quantized=is_quantized(original)))
    return ExportResult(model, metadata, tuple(records), comparisons, notes, half)


def _run(model: ModelProto, passes: list[Pass], reference: Reference) -> tuple[ModelProto, list[PassRecord]]:
    manager = PassManager(lambda _, edited: _require(reference.compare(stand_in(edited), "the graph ahead of it")))
    return manager.run(model, passes), manager.records


def _last_passes(options: ExportOptions) -> list[Pass]:
    passes: list[Pass] = []
    if options.softmax:
        passes.append(AppendSoftmax())
    if options.top_k is not None:
        passes.append(AppendTopK(options.top_k))
    if options.batch is not None:
        passes.append(SetBatch(options.batch))
    return passes


def _compare(model: ModelProto, references: Mapping[str, Reference], half: HalfResult | None) -> tuple[Comparison, ...]:
    """The finished model against everything; in 16 bits, as they round."""
    rounded = stand_in(model)
    comparisons = [reference.compare(rounded, name) for name, reference in references.items()]
    if half is not None:
        own = run_by_onnxruntime(model, half.kind, next(iter(references.values())))
        comparisons += [own] if own is not None else []
    for comparison in comparisons:
        _require(comparison)
    return tuple(comparisons)


def _half_entries(half: HalfResult | None) -> dict[str, str]:
    return {} if half is None else {"float_type": half.kind.name, "fp32_layers": _compact(half.fp32)}


def _require(comparison: Comparison) -> None:
    if not comparison.holds:
        raise VerificationError(f"differs from {comparison.against}: {comparison.sentence()}")


def _entries(
    model: ModelProto, records: list[PassRecord], comparisons: tuple[Comparison, ...], options: ExportOptions
) -> dict[str, str]:
    """The toolkit's further metadata; rounded figures and no times, so that a repeat gives the same bytes."""
    verification = [
        {
            "against": comparison.against,
            "largest_difference_at_most": comparison.bound,
            "same_class": comparison.agreeing,
            "ties": comparison.ties,
            "images": comparison.count,
            "origin": comparison.origin,
        }
        for comparison in comparisons
    ]
    rejected = {record.name: record.rejected for record in records if record.rejected}
    return {
        "opset": str(opset_of(model)),
        "target": options.target.name if options.target else "",
        "passes": _compact(list(dict.fromkeys(record.name for record in records if record.changed))),
        "rejected_passes": _compact(rejected) if rejected else "",
        "verification": _compact(verification),
        "tools": _compact(tool_versions()),
    }


def tool_versions() -> dict[str, str]:
    """Versions of the packages that take part in an export; those that are not installed are left out."""
    versions = {"googlenet_deploy": __version__}
    for name in _TOOLS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _notes(records: list[PassRecord], options: ExportOptions, *, quantized: bool) -> list[str]:
    notes = [
        f"pass {record.name} was left out, the graph ahead of it is kept: {record.rejected}"
        for record in records
        if record.rejected
    ]
    if not options.simplify:
        notes.append("onnxsim was not run, as asked")
    elif quantized:
        notes.append("onnxsim was not run: it would compute the quantisation of the weights away")
    asked_for = ("merge-1x1", "average-pool", "convolutional-classifier", "uint8-input")
    idle = [
        record.name for record in records if record.name in asked_for and not record.changed and not record.rejected
    ]
    return notes + _dla_notes(options) + [f"pass {name} found nothing to change" for name in idle]


def _dla_notes(options: ExportOptions) -> list[str]:
    module = options.target.module if options.target else None
    if module is None or not module.dla_cores:
        return []
    wanted = {
        "--average-pool": options.average_pool,
        "--conv-classifier": options.convolutional_classifier,
        "--batch N": options.batch is not None,
    }
    lacking = [name for name, given in wanted.items() if not given]
    return [f"for this module's DLA add {' '.join(lacking)}; its GPU does not need it"] if lacking else []


def _description(metadata: ModelMetadata) -> str:
    name = f"GoogLeNet ({metadata.architecture})" if metadata.architecture else "Image classifier"
    return f"{name}; its preprocessing and classes are in the metadata under 'googlenet_deploy.'."


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
