"""The whole way from weights, or from somebody's ONNX, to the model that is written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from googlenet_deploy.device.files import PathLike, sha256_file
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadModelError, UsageError, VerificationError, requires
from googlenet_deploy.export.assemble import ExportResult, assemble
from googlenet_deploy.export.capture import LOGITS_NAME, capture
from googlenet_deploy.export.half.convert import is_quantized
from googlenet_deploy.export.half.stand_in import stand_in
from googlenet_deploy.export.options import ExportOptions
from googlenet_deploy.export.passes.classifier_head import ClassifierHead, WindowedAveragePool
from googlenet_deploy.export.passes.convolutional_classifier import ConvolutionalClassifier
from googlenet_deploy.export.passes.merge_1x1 import Merge1x1
from googlenet_deploy.export.passes.name_layers import NameLayers
from googlenet_deploy.export.passes.simplify import Simplify
from googlenet_deploy.export.passes.uint8_input import Uint8Input
from googlenet_deploy.export.targets import choose_opset, ir_version_for
from googlenet_deploy.export.verify import Reference, reference_of
from googlenet_deploy.graph.files import read_metadata
from googlenet_deploy.graph.graph import copy_model
from googlenet_deploy.graph.opset import ConvertOpset
from googlenet_deploy.graph.pass_manager import Pass, restate_shapes
from googlenet_deploy.graph.tidy import Tidy

with requires("export"):
    import numpy as np
    import numpy.typing as npt
    import torch
    from onnx import ModelProto

if TYPE_CHECKING:
    from googlenet_deploy.export.samples import Samples
    from googlenet_deploy.model.checkpoint import Checkpoint
    from googlenet_deploy.model.googlenet import GoogLeNet

__all__ = ["ExportOptions", "ExportResult", "export_checkpoint", "export_onnx", "torch_logits"]


def export_checkpoint(checkpoint: Checkpoint, options: ExportOptions, samples: Samples) -> ExportResult:
    """Exports a classifier and verifies the result against PyTorch and against the unsimplified graph.

    Args:
        checkpoint: Weights and what is known of them.
        options: What the model is to be like.
        samples: Images for the verification, prepared by the checkpoint's specification.

    Raises:
        UsageError: The options do not fit the classifier.
        VerificationError: The model computes something else than PyTorch.
    """
    if options.top_k is not None and options.top_k > checkpoint.model.num_classes:
        raise UsageError(f"--top-k {options.top_k}: the model has {checkpoint.model.num_classes} classes")
    original = capture(checkpoint.model, checkpoint.preprocessing.crop)
    original.graph.name = f"googlenet_{checkpoint.model.architecture.name}"
    opset = choose_opset(options.target, options.opset)
    passes: list[Pass] = [
        ClassifierHead(),
        NameLayers(),
        Tidy(),
        ConvertOpset(opset, ir_version_for(opset)),
        *_chosen_passes(options, checkpoint.preprocessing, original),
    ]
    pytorch = Reference(samples, {LOGITS_NAME: torch_logits(checkpoint.model, samples)}, LOGITS_NAME)
    metadata = ModelMetadata(
        architecture=checkpoint.model.architecture.name,
        preprocessing=checkpoint.preprocessing,
        class_names=tuple(checkpoint.class_names),
        class_ids=tuple(checkpoint.class_ids),
        source_sha256=checkpoint.source_sha256,
        extra=_training_entries(checkpoint.training_record),
    )
    references = {"the unsimplified graph": reference_of(original, samples), "PyTorch": pytorch}
    return assemble(original, passes, references, metadata, options)


def export_onnx(path: PathLike, original: ModelProto, options: ExportOptions, samples: Samples) -> ExportResult:
    """Simplifies an existing ONNX classifier, applies the chosen passes, and verifies against the file's own graph.

    Args:
        path: The file, for messages and its hash.
        original: Its content, as `load_classifier` gives it.
        options: What the model is to be like.
        samples: Images for the verification, prepared as `input_specification` says.

    Raises:
        BadModelError: Its metadata is damaged, ONNX Runtime does not run it, a pass that was asked for does not fit
            it or gives a model that computes something else.
        UsageError: The options do not fit the classifier.
    """
    metadata = read_metadata(path, original)
    metadata = replace(metadata, source_sha256=metadata.source_sha256 or sha256_file(path))
    passes: list[Pass] = [Tidy()]
    if options.opset is not None or options.target is not None:
        opset = choose_opset(options.target, options.opset)
        passes.append(ConvertOpset(opset, ir_version_for(opset)))
    passes += _chosen_passes(options, metadata.preprocessing, original)
    try:
        references = {"the original file": reference_of(_rounding_form(original), samples)}
        result = assemble(original, passes, references, metadata, options)
    except VerificationError as error:
        raise BadModelError(path, error.message, error.remedy) from error
    if metadata.preprocessing is None:
        note = "the file does not say how images are prepared; it was verified on values from -1 to 1"
        result = replace(result, notes=(*result.notes, note))
    return result


def torch_logits(model: GoogLeNet, samples: Samples) -> npt.NDArray[np.float32]:
    """What PyTorch computes on the prepared images, in eval mode on the CPU; float32 (N, classes)."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval().cpu()
    try:
        with torch.inference_mode():
            logits = model(torch.from_numpy(samples.prepared))
    finally:
        model.train(was_training).to(device)
    values: npt.NDArray[np.float32] = logits.numpy()
    return values


def _chosen_passes(options: ExportOptions, preprocessing: Preprocessing | None, original: ModelProto) -> list[Pass]:
    passes: list[Pass] = []
    if options.simplify and not is_quantized(original):  # it would compute what stands ahead of DequantizeLinear
        passes += [Simplify(), Tidy()]
    if options.average_pool:
        passes.append(WindowedAveragePool())
    if options.convolutional_classifier:
        passes.append(ConvolutionalClassifier())
    if options.merge_1x1:
        passes.append(Merge1x1())
    if options.uint8_input:
        if preprocessing is None:
            raise UsageError("--uint8-input needs a model that carries its preprocessing, which this one does not")
        passes.append(Uint8Input(preprocessing))
    return passes


def _rounding_form(original: ModelProto) -> ModelProto:
    """The model as it is verified: where it is in 16 bits already, with every tensor rounded."""
    stated = copy_model(original)
    restate_shapes(stated)
    return stand_in(stated)


def _training_entries(record: object) -> dict[str, str]:
    return (
        {"training_record": json.dumps(record, ensure_ascii=False, separators=(",", ":"), sort_keys=True)}
        if record
        else {}
    )
