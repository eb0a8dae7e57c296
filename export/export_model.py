"""From weights, a PyTorch module or an ONNX file to a verified ONNX model in one call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from googlenet_deploy.device.files import check_writable
from googlenet_deploy.device.hosts import find_host
from googlenet_deploy.device.preprocessing_options import (
    PreprocessingOptions,
    StatedPreprocessing,
    module_preprocessing,
)
from googlenet_deploy.device.targets.target import Target, load_target
from googlenet_deploy.device.text import Report, log_note
from googlenet_deploy.errors import UsageError
from googlenet_deploy.export.frames import frame_count, frame_specification
from googlenet_deploy.export.half_precision.types import HALF_TYPES
from googlenet_deploy.export.host import model_for_host
from googlenet_deploy.export.options import ExportOptions, HalfOptions
from googlenet_deploy.export.pipeline import ExportResult, export_checkpoint, export_onnx
from googlenet_deploy.export.samples import folder_samples, seeded_samples
from googlenet_deploy.graph.files import input_specification, load_classifier, load_model, read_metadata, write_model
from googlenet_deploy.graph.stated_metadata import state_metadata
from googlenet_deploy.model.module import ModuleRequest, load_module
from googlenet_deploy.model.weights import load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from googlenet_deploy.device.files import PathLike
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.export.samples import Samples
    from googlenet_deploy.model.checkpoint import TorchClassifier

DEFAULT_IMAGE_COUNT = 16


def export(
    weights: PathLike | None = None,
    output: PathLike | None = None,
    *,
    module: str | None = None,
    module_args: str = "",
    onnx: PathLike | None = None,
    weights_key: str | None = None,
    num_classes: int | None = None,
    class_names: str | None = None,
    preprocessing: StatedPreprocessing = None,
    options: ExportOptions | None = None,
    target: Target | str | None = None,
    half: str | None = None,
    keep_fp32: Sequence[str] = (),
    host: str | None = None,
    images: PathLike | None = None,
    image_count: int = DEFAULT_IMAGE_COUNT,
    report: Report = log_note,
    say: Report | None = None,
) -> ExportResult:
    """Writes an ONNX model that was compared with its source in ONNX Runtime.

    Exactly one of `weights`, `module` and `onnx` is the source, but `module` may be given with `weights`.

    Args:
        weights: A checkpoint, or "bvlc" or "torchvision" for the published weights.
        output: Where the ONNX model goes; None writes no file.
        module: ``FILE.py:CALLABLE`` or ``package.module:CALLABLE`` for any PyTorch classifier; its code is run.
        module_args: What the callable is called with, such as ``num_classes=10``.
        onnx: An ONNX image classifier to simplify and convert.
        weights_key: Which weights to use from a checkpoint that holds several.
        num_classes: The number of classes that the weights must have; None for any.
        class_names: Class names for `module` or `onnx`: a file, or "imagenet".
        preprocessing: How images are prepared for `module` or `onnx`, if the model does not state it.
        options: Opset, batch, outputs, passes.
        target: A module, JetPack or TensorRT that decides opset and IR version; overrides that of the options.
        half: "fp16" or "bf16": the types of a strongly typed build; overrides those of the options.
        keep_fp32: Layers or operators that stay in FP32, with `half`.
        host: A program whose fixed preprocessing is undone in the graph: "jetson-inference".
        images: A folder of images to verify with; None uses seeded pictures.
        image_count: How many of them to use.
        report: Receives notes.
        say: Receives a line about each step; None reports nothing.

    Returns:
        The model, what each pass changed, the comparisons, and notes.

    Raises:
        UsageError: There is not exactly one source, or options contradict each other.
        BadWeightsError: The checkpoint is damaged or does not fit.
        BadModelError: The ONNX file is damaged, or is not a classifier of images.
        InputError: The module or the images cannot be used.
        VerificationError: The model does not compute the same as its source; nothing is written.
        OutputError: The file cannot be written.
    """
    if (onnx is None) == (weights is None and module is None):
        raise UsageError("pass one source: weights, module (with or without weights), or onnx")
    if onnx is None and module is None and not (preprocessing in (None, PreprocessingOptions()) and not class_names):
        raise UsageError("preprocessing and class names belong to module or onnx: checkpoints carry them")
    if image_count < 1:
        raise UsageError("--image-count must be at least 1")
    chosen = _options(options, target, half, keep_fp32)
    if host is not None:
        find_host(host)
        if chosen.frame_input is not None:
            raise UsageError(f"--frame-input: {host} resizes the frame itself", "leave one of them out")
    check_writable(output)
    verify = _Verification(images, image_count, chosen)
    tell = say or _ignore
    if onnx is not None:
        result = _from_onnx(str(onnx), chosen, verify, preprocessing, class_names, report, tell)
    elif module is not None:
        checkpoint = None if weights is None else str(weights)
        request = ModuleRequest(module, module_args, checkpoint, weights_key, class_names)
        result = _from_module(request, chosen, verify, preprocessing, num_classes, tell)
    else:
        result = _from_weights(str(weights), chosen, verify, num_classes, weights_key, tell)
    if host is not None:
        result = _for_host(result, host, str(output))
    if output is not None:
        write_model(output, result.model)
    return result


class _Verification:
    """The images to verify with: the user's, or else seeded pictures."""

    def __init__(self, images: PathLike | None, count: int, options: ExportOptions) -> None:
        self._images, self._count, self._options = images, count, options

    def samples(self, preprocessing: Preprocessing) -> Samples:
        if self._images is None:
            return seeded_samples(preprocessing)
        return folder_samples(self._images, preprocessing, self._count)

    def frames(self, preprocessing: Preprocessing) -> Samples | None:
        """The user's images as frames, if there are any and the model is to take frames."""
        if self._options.frame_input is None or self._images is None:
            return None
        spec = frame_specification(preprocessing, self._options.frame_input, self._options.frame_format)
        return folder_samples(self._images, spec, min(self._count, frame_count(spec)))


def _options(
    options: ExportOptions | None, target: Target | str | None, half: str | None, keep_fp32: Sequence[str]
) -> ExportOptions:
    chosen = options or ExportOptions()
    if target is not None:
        chosen = replace(chosen, target=load_target(target) if isinstance(target, str) else target)
    if half is not None:
        if half not in HALF_TYPES:
            raise UsageError(f"unknown type {half!r}: choose {' or '.join(HALF_TYPES)}")
        return replace(chosen, half=HalfOptions(HALF_TYPES[half], tuple(keep_fp32)))
    if keep_fp32:
        raise UsageError("--keep-fp32 belongs to --fp16 or --bf16")
    return chosen


def _from_weights(
    weights: str, options: ExportOptions, verify: _Verification, num_classes: int | None, key: str | None, say: Report
) -> ExportResult:
    say(f"reading {weights}")
    checkpoint = load_weights(weights, num_classes=num_classes, key=key)
    return _recorded(checkpoint, options, verify, say)


def _from_module(
    request: ModuleRequest,
    options: ExportOptions,
    verify: _Verification,
    stated: StatedPreprocessing,
    num_classes: int | None,
    say: Report,
) -> ExportResult:
    say(f"importing {request.module}, whose code runs as you named it")
    classifier = load_module(request, lambda declared: module_preprocessing(stated, declared, request.module))
    if num_classes not in (None, classifier.num_classes):
        raise UsageError(f"{request.module} has {classifier.num_classes} classes, not {num_classes}")
    return _recorded(classifier, options, verify, say)


def _recorded(classifier: TorchClassifier, options: ExportOptions, verify: _Verification, say: Report) -> ExportResult:
    samples, frames = verify.samples(classifier.preprocessing), verify.frames(classifier.preprocessing)
    say("recording the graph and verifying it; this takes some seconds")
    return export_checkpoint(classifier, options, samples, frames)


def _from_onnx(
    path: str,
    options: ExportOptions,
    verify: _Verification,
    stated: StatedPreprocessing,
    class_names: str | None,
    report: Report,
    say: Report,
) -> ExportResult:
    say(f"reading {path}")
    model = load_classifier(path)
    state_metadata(path, model, stated, class_names, report)
    preprocessing = input_specification(path, model)
    samples, frames = verify.samples(preprocessing), verify.frames(preprocessing)
    return export_onnx(path, model, options, samples, load_model(path), frames)


def _for_host(result: ExportResult, host: str, path: str) -> ExportResult:
    model, comparison = model_for_host(path, result.model, find_host(host))
    metadata = read_metadata(path, model)
    return replace(result, model=model, metadata=metadata, comparisons=(*result.comparisons, comparison))


def _ignore(_line: str) -> None:
    pass
