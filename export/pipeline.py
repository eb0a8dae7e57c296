"""The export end to end: from weights or an existing ONNX model to the model that is written."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from googlenet_deploy import __version__
from googlenet_deploy.analysis.sparsity import require_pattern
from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.onnx_model.header import model_sha256
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadModelError, UsageError, VerificationError, requires
from googlenet_deploy.export.capture import LOGITS_NAME, capture, depends_on_input
from googlenet_deploy.export.frames import FrameResult, frame_specification, seeded_frames, take_frames
from googlenet_deploy.export.half_precision.convert import (
    HalfResult,
    is_quantized,
    run_by_onnxruntime,
    to_half,
    tolerance_of,
)
from googlenet_deploy.export.half_precision.emulate import stand_in
from googlenet_deploy.export.options import ExportOptions
from googlenet_deploy.export.passes.classifier_head import ClassifierHead, WindowedAveragePool
from googlenet_deploy.export.passes.convolutional_classifier import ConvolutionalClassifier
from googlenet_deploy.export.passes.name_layers import NameLayers, NameWeights
from googlenet_deploy.export.passes.outputs import AppendSoftmax, AppendTopK, SetBatch
from googlenet_deploy.export.passes.simplify import Simplify
from googlenet_deploy.export.passes.uint8_input import Uint8Input
from googlenet_deploy.export.targets import choose_opset, ir_version_for
from googlenet_deploy.export.verify import Comparison, Reference, reference_of
from googlenet_deploy.graph.edit import copy_model
from googlenet_deploy.graph.files import read_metadata, store_metadata
from googlenet_deploy.graph.graph import GraphView, opset_of, refuse_foreign_operators
from googlenet_deploy.graph.inference_mode import to_inference_mode
from googlenet_deploy.graph.opset import ConvertOpset
from googlenet_deploy.graph.pass_manager import Pass, PassManager, PassRecord
from googlenet_deploy.graph.shapes import restate_shapes
from googlenet_deploy.graph.single_precision import to_single_precision
from googlenet_deploy.graph.tidy import Tidy
from googlenet_deploy.model.architecture import ARCHITECTURES

with requires("export"):
    import numpy as np
    import numpy.typing as npt
    import torch
    from onnx import ModelProto

if TYPE_CHECKING:
    from torch import nn

    from googlenet_deploy.export.samples import Samples
    from googlenet_deploy.model.checkpoint import TorchClassifier


PRODUCER = "googlenet-deploy"
NOT_RECORDED = (
    "its forward must compute with tensors, from its input alone: no .numpy(), .data or .item(), no branch on the "
    "number of images, no value kept by a hook or from an earlier call; a difference that is small beside the scores "
    "is rounding that the network amplifies, such as a BatchNorm with hardly any variance"
)
_TOOLS = ("torch", "onnxscript", "onnx", "onnxsim", "onnxruntime")


@dataclass(frozen=True)
class ExportResult:
    """A finished model and how it was made.

    Attributes:
        model: The model to write, including metadata.
        metadata: The toolkit's part of its metadata.
        passes: What each pass did, in order.
        comparisons: The finished model compared with the unsimplified original, and with PyTorch if that is the source.
        notes: What the user should know: what was kept, left out or fell back.
        half: The conversion to 16-bit types; None if the types were left as they are.
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
    frames: Samples | None = None,
) -> ExportResult:
    """Runs the passes, the change of types, and the passes after the logits; compares, and stores the metadata.

    Args:
        original: The graph to start from.
        passes: The passes that do not change what is computed.
        references: What the result must compute; the first one is checked after every pass.
        metadata: The metadata known so far.
        options: The requested options.
        frames: Frames to verify with, if the model is to take them; None makes them from a seed.

    Raises:
        UsageError: The target does not support the requested types.
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
    framed = _take_frames(model, metadata.preprocessing, options, frames)
    if framed is not None:
        model, records, comparisons = framed.model, [*records, *framed.records], (*comparisons, framed.comparison)
        metadata = replace(metadata, preprocessing=framed.specification)
    require_pattern(model, metadata.extra)
    if options.uint8_input and metadata.preprocessing is not None:
        metadata = replace(metadata, preprocessing=metadata.preprocessing.with_uint8_input())
    entries = {**_entries(model, records, comparisons, options), **_half_entries(half)}
    entries.update(framed.entries() if framed is not None else {})
    metadata = replace(metadata, extra={**metadata.extra, **entries})
    store_metadata(model, metadata)
    model.producer_name, model.producer_version = PRODUCER, __version__
    model.doc_string = _description(metadata)
    notes = (
        *_notes(records, options, quantized=is_quantized(original)),
        *(framed.notes if framed is not None else ()),
    )
    return ExportResult(model, metadata, tuple(records), comparisons, notes, half)


def _take_frames(
    model: ModelProto, spec: Preprocessing | None, options: ExportOptions, frames: Samples | None
) -> FrameResult | None:
    """The model with the resize of frames in front of it, if that was requested."""
    if options.frame_input is None:
        return None
    specification = frame_specification(spec, options.frame_input, options.frame_format)
    assert spec is not None  # `frame_specification` refuses others
    return take_frames(model, spec, seeded_frames(specification) if frames is None else frames, specification)


def _run(model: ModelProto, passes: list[Pass], reference: Reference) -> tuple[ModelProto, list[PassRecord]]:
    manager = PassManager(lambda _, edited: _require(reference.compare(stand_in(edited), "the graph before it")))
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
    """Compares the finished model with all references; a 16-bit model with its rounding."""
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


def _require_input(model: ModelProto) -> None:
    if not depends_on_input(model):
        raise VerificationError("it returns constants, whatever the image")


def _entries(
    model: ModelProto, records: list[PassRecord], comparisons: tuple[Comparison, ...], options: ExportOptions
) -> dict[str, str]:
    """The toolkit's further metadata; rounded figures and no times, so that a repeat yields the same bytes."""
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
    """Versions of the packages used for an export; those that are not installed are left out."""
    versions = {"googlenet_deploy": __version__}
    for name in _TOOLS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _notes(records: list[PassRecord], options: ExportOptions, *, quantized: bool) -> list[str]:
    notes = [
        f"pass {record.name} was left out, the graph before it is kept: {record.rejected}"
        for record in records
        if record.rejected
    ]
    if not options.simplify:
        notes.append("onnxsim was not run, as asked")
    elif quantized:
        notes.append("onnxsim was not run: it would compute the quantisation of the weights away")
    asked_for = ("average-pool", "convolutional-classifier", "uint8-input")
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
    name = f"Image classifier ({metadata.architecture})" if metadata.architecture else "Image classifier"
    if metadata.architecture in ARCHITECTURES:
        name = f"GoogLeNet ({metadata.architecture})"
    return f"{name}; its preprocessing and classes are in the metadata under 'googlenet_deploy.'."


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


__all__ = ["ExportResult", "export_checkpoint", "export_onnx", "torch_logits"]


def export_checkpoint(
    checkpoint: TorchClassifier, options: ExportOptions, samples: Samples, frames: Samples | None = None
) -> ExportResult:
    """Exports a classifier and verifies the result against PyTorch and against the unsimplified graph.

    Args:
        checkpoint: The weights, and what is known about them.
        options: Options for the model.
        samples: Images for the verification, prepared by the checkpoint's specification.
        frames: Frames for the verification of a model that takes them; see `assemble`.

    Raises:
        UsageError: The options do not fit the classifier.
        VerificationError: The model does not compute the same as PyTorch.
    """
    if options.top_k is not None and options.top_k > checkpoint.num_classes:
        raise UsageError(f"--top-k {options.top_k}: the model has {checkpoint.num_classes} classes")
    preprocessing = checkpoint.preprocessing
    if options.frame_input is not None:
        frame_specification(preprocessing, options.frame_input, options.frame_format)
    notes: list[str] = [*checkpoint.notes]
    original, unsimplified, pytorch = _recorded(checkpoint, samples, notes)
    opset = choose_opset(options.target, options.opset)
    passes: list[Pass] = [
        ClassifierHead(),
        NameLayers(),
        Tidy(),
        ConvertOpset(opset, ir_version_for(opset)),
        *_chosen_passes(options, checkpoint.preprocessing, original),
        NameWeights(),
    ]
    metadata = ModelMetadata(
        architecture=checkpoint.name,
        preprocessing=checkpoint.preprocessing,
        class_names=tuple(checkpoint.class_names),
        class_ids=tuple(checkpoint.class_ids),
        source_sha256=checkpoint.source_sha256,
        extra=_training_entries(checkpoint.training_record),
    )
    references = {"the unsimplified graph": unsimplified, "PyTorch": pytorch}
    result = assemble(original, passes, references, metadata, options, frames)
    return replace(result, notes=(*notes, *result.notes))


def _recorded(
    checkpoint: TorchClassifier, samples: Samples, notes: list[str]
) -> tuple[ModelProto, Reference, Reference]:
    """Records the graph, with its own outputs before any pass and those of PyTorch; notes on it go to `notes`.

    Raises:
        VerificationError: It does not compute the same as PyTorch.
    """
    preprocessing = checkpoint.preprocessing
    how: list[str] = []
    original = capture(checkpoint.model, preprocessing.crop, len(preprocessing.channels), how.append)
    original.graph.name = f"googlenet_{checkpoint.name}" if checkpoint.name in ARCHITECTURES else checkpoint.name
    notes += how
    pytorch = Reference(samples, {LOGITS_NAME: torch_logits(checkpoint.model, samples)}, LOGITS_NAME)
    try:
        _require_input(original)
        unsimplified = reference_of(original, samples)
        _require(pytorch.compare_outputs(unsimplified.outputs, "PyTorch"))
    except VerificationError as error:
        problem = f"the graph that torch's exporter recorded is not the network: {error.message}"
        raise VerificationError("; ".join((problem, *how)), NOT_RECORDED) from error
    return original, unsimplified, pytorch


def export_onnx(
    path: PathLike,
    original: ModelProto,
    options: ExportOptions,
    samples: Samples,
    stored: ModelProto | None = None,
    frames: Samples | None = None,
) -> ExportResult:
    """Simplifies an existing ONNX classifier, applies the chosen passes, and verifies against the file's own graph.

    Args:
        path: The file, for messages and its hash.
        original: Its content, as `load_classifier` returns it.
        options: Options for the model.
        samples: Images for the verification, prepared as `input_specification` states.
        stored: Its content as `load_model` returns it, unfolded, which the result is verified against; None uses
            `original`.
        frames: Frames for the verification of a model that takes them; see `assemble`.

    Raises:
        BadModelError: Its metadata is damaged, ONNX Runtime does not run it, or a requested pass does not fit it or
            yields a model that computes something else.
        UsageError: The options do not fit the classifier.
    """
    refuse_foreign_operators(GraphView(original, str(path)))
    metadata = read_metadata(path, original)
    metadata = replace(metadata, source_sha256=metadata.source_sha256 or model_sha256(path))
    if options.frame_input is not None:
        frame_specification(metadata.preprocessing, options.frame_input, options.frame_format)
    notes: list[str] = []
    passes: list[Pass] = [Tidy()]
    if options.opset is not None or options.target is not None:
        opset = choose_opset(options.target, options.opset)
        passes.append(ConvertOpset(opset, ir_version_for(opset)))
    passes += _chosen_passes(options, metadata.preprocessing, original)
    try:
        references = {
            "the original file": _reference_of_file(original if stored is None else stored, original, samples, notes)
        }
        result = assemble(original, passes, references, metadata, options, frames)
    except VerificationError as error:
        raise BadModelError(path, error.message, error.remedy) from error
    if metadata.preprocessing is None:
        notes.append("the file does not state how images are prepared; it was verified on values from -1 to 1")
    return replace(result, notes=(*result.notes, *notes))


def _reference_of_file(stored: ModelProto, original: ModelProto, samples: Samples, notes: list[str]) -> Reference:
    """The outputs of the file as it is, or of its float32 form if it is in float64 or float16."""
    converted = to_single_precision(copy_model(stored))
    if converted:
        notes.append(f"{converted}; it was verified against its float32 form")
        stored = original
    changes = to_inference_mode(copy_model(stored))
    if changes:
        notes += [*changes, "it was verified against its inference form"]
        stored = original
    return reference_of(_rounding_form(stored), samples)


def torch_logits(model: nn.Module, samples: Samples) -> npt.NDArray[np.float32]:
    """What PyTorch computes on the prepared images, in eval mode on the CPU; float32 (N, classes)."""
    was_training = model.training
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # moving a scripted module warns of gradients, which it does not have
        try:
            model.eval().cpu()  # not in inference mode, in which moved weights could not be trained again
            with torch.inference_mode():
                logits = model(torch.from_numpy(samples.prepared))
        finally:
            model.train(was_training).to(device)
    return np.asarray(logits.numpy(), np.float32)


def _chosen_passes(options: ExportOptions, preprocessing: Preprocessing | None, original: ModelProto) -> list[Pass]:
    passes: list[Pass] = []
    if options.simplify and not is_quantized(original):  # it would fold what comes before DequantizeLinear
        passes += [Simplify(), Tidy()]
    if options.average_pool:
        passes.append(WindowedAveragePool())
    if options.convolutional_classifier:
        passes.append(ConvolutionalClassifier())
    if options.uint8_input:
        if preprocessing is None:
            raise UsageError("--uint8-input needs a model that carries its preprocessing, which this one does not")
        passes.append(Uint8Input(preprocessing))
    return passes


def _rounding_form(original: ModelProto) -> ModelProto:
    """The model in the form in which it is verified: with every tensor rounded if it is in 16 bits already."""
    stated = copy_model(original)
    restate_shapes(stated)
    return stand_in(stated)


def _training_entries(record: object) -> dict[str, str]:
    return (
        {"training_record": json.dumps(record, ensure_ascii=False, separators=(",", ":"), sort_keys=True)}
        if record
        else {}
    )
