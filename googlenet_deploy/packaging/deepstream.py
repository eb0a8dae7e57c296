"""The bundle for DeepStream: a configuration of Gst-nvinfer, with the model and all files it refers to.

nvinfer computes ``net-scale-factor * (pixel - offset)`` and scales the whole frame to the network's input (NVIDIA,
"Gst-nvinfer", DeepStream SDK guide). Two parts of the toolkit's preprocessing do not fit into that; both are handled
and reported: a standard deviation per channel becomes a multiplication in the graph, and the centre crop becomes a
region of interest for Gst-nvdspreprocess. Its classifier expects probabilities, so a softmax is appended.

Precision (NVIDIA/DeepStream, src/utils/nvdsinfer/nvdsinfer_model_builder.cpp, release 9.1): ``network-mode=1`` and
``3`` build INT8 only with a calibration cache and fall back to FP16 without one; 1 sets only TensorRT's INT8 flag, so
that other layers are FP32; 3 (BEST) sets the FP16 flag as well. ``strongly-typed=1``, new in 9.1, creates the network
with kSTRONGLY_TYPED, which uses the types in the model and no flags: a Q/DQ or FP16 model is built unchanged. The
profile covers batches of 1 to ``batch-size``, which conflicts with a model with a fixed batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from googlenet_deploy.calibration.table import check_matches, load_table
from googlenet_deploy.calibration.tensorrt_cache import cache_from_table
from googlenet_deploy.device.files import PathLike, sha256_file
from googlenet_deploy.device.onnx_model.header import model_sha256
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.device.targets.jetpack import full_tensorrt_version
from googlenet_deploy.device.targets.target import last_with_caches
from googlenet_deploy.errors import BadModelError, UsageError, VerificationError, requires
from googlenet_deploy.export.passes.outputs import AppendSoftmax, gives_probabilities
from googlenet_deploy.export.passes.uint8_input import ScaleInput
from googlenet_deploy.export.samples import prepare, seeded_samples
from googlenet_deploy.export.verify import reference_of, run
from googlenet_deploy.graph.files import load_classifier, read_metadata, store_metadata
from googlenet_deploy.graph.graph import runtime_inputs, serialize
from googlenet_deploy.graph.pass_manager import Pass, PassManager
from googlenet_deploy.packaging.content import BundleContent, BundleResult, write_bundle
from googlenet_deploy.packaging.deepstream_text import (
    CACHE,
    LABELS,
    MODEL,
    DeepStreamRequest,
    InferValues,
    infer_config,
    preprocess_config,
    readme,
)
from googlenet_deploy.packaging.models import BundleModels, read_models

with requires("export"):
    from onnx import ModelProto

LABEL_SEPARATOR = ";"
# Tolerance of scores relative to the largest: a scale before the first Q/DQ pair moves values across its steps.
_TOLERANCE = {"fp32": 0.0, "fp16": 0.02, "int8": 0.05}


def write_deepstream(output: PathLike, request: DeepStreamRequest) -> BundleResult:
    """Writes the bundle; an archive if `output` ends in ``.zip``.

    Raises:
        UsageError: INT8 without a table, or for a target without INT8 or without calibration caches.
        BadModelError: The model's input is not supported by nvinfer.
        BadTableError: The table belongs to another model.
        OutputError: The bundle cannot be written.
    """
    _check(request)
    source = request.models[request.source]
    models = read_models({request.source: source}, request.source)
    _check_output(models)
    _check_batch(request, models)
    spec = models.main.preprocessing
    if spec.resize_mode == "letterbox" and spec.target != spec.crop:
        raise BadModelError(
            source,
            "crops a letterboxed image, which nvinfer cannot do",
            "export it with --resize 0, which fits the image into the crop",
        )
    factor, offsets, factors = split_normalisation(spec, source)
    model = adapted_model(source, factors, _TOLERANCE[request.source])
    count = models.class_count or len(models.class_names)
    names = runtime_inputs(model.graph)[0].name, model.graph.output[0].name
    values = InferValues(factor, offsets, factors, spec, *names, request, count)
    content, notes = BundleContent(), list[str]()
    content.add_bytes(MODEL, serialize(model), "model")
    content.add_text(LABELS, label_line(models.class_names or tuple(map(str, range(count))), notes), "class names")
    if request.precision == "int8" and not request.strongly_typed:
        _add_cache(content, request, notes)
    content.add_text(request.config, infer_config(values), "configuration")
    if request.detector is None:
        content.add_text("config_preprocess.txt", preprocess_config(values), "configuration")
    content.add_text("README.txt", readme(values), "instructions")
    made_from = {**models.made_from(), **({"table_sha256": sha256_file(request.table)} if request.table else {})}
    manifest = content.manifest("deepstream", request.target.name, request.precision, made_from)
    write_bundle(output, content, manifest)
    return BundleResult(manifest, tuple(notes))


def _check(request: DeepStreamRequest) -> None:
    if request.target.rtx:
        raise UsageError("DeepStream runs on TensorRT, not on TensorRT-RTX", "name a module or a JetPack")
    if request.source not in request.models:
        given = ", ".join(sorted(request.models)) or "none"
        early = "" if request.reads_types else "DeepStream before 9.1 makes every precision of the FP32 model; "
        raise UsageError(
            f"{early}there is no {request.source} model (there is: {given})",
            f"pass --{request.source} FILE" + ("" if request.reads_types else ", or --deepstream 9.1 where that is it"),
        )
    if request.precision != "int8" or request.strongly_typed:
        return
    if request.target.has_int8 is False:
        raise UsageError(f"{request.target.title} has no INT8 instructions", "pass --precision fp16")
    if request.table is None:
        raise UsageError(
            "nvinfer builds INT8 from a calibration cache only; without one it would fall back to FP16",
            "pass --table with the table of `calibrate`, or for DeepStream 9.1 and later the Q/DQ model with --int8",
        )
    if last_with_caches(request.target) is None:
        raise UsageError(f"{request.target.title}: its TensorRT has no calibration caches", "pass --precision fp16")


def _check_output(models: BundleModels) -> None:
    outputs = models.main.header.outputs
    if len(outputs) != 1 or outputs[0].dtype != "float32":
        found = ", ".join(f"{value.name} ({value.dtype})" for value in outputs)
        raise BadModelError(
            models.main.path,
            f"gives {found}; nvinfer's classifier reads one float32 output with a score for each class",
            "export it without --top-k",
        )


def _check_batch(request: DeepStreamRequest, models: BundleModels) -> None:
    fixed = models.main.header.inputs[0].shape[0]
    if isinstance(fixed, int) and fixed != request.batch:
        raise UsageError(
            f"{models.main.path}: its batch is fixed to {fixed}, and nvinfer would build it for {request.batch}",
            f"export it without --batch, or pass --streams {fixed}: nvinfer runs more streams in turn",
        )


def split_normalisation(spec: Preprocessing, path: PathLike) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Splits ``(pixel * scale - mean) / std`` into nvinfer's part and the remaining factor per channel.

    Returns:
        (net-scale-factor, offsets, factors): ``factor * (pixel - offset)``, multiplied by the channel's factor.

    Raises:
        BadModelError: The input is uint8 or NHWC, which nvinfer does not support, or a frame.
    """
    if spec.frame is not None:
        problem = (
            f"takes {spec.describe_frame()} and resizes them itself; nvinfer does that on the GPU before the model"
        )
        raise BadModelError(path, problem, "pack the model that it was made from, which nvinfer feeds without a copy")
    if spec.dtype != "float32" or spec.layout != "NCHW":
        raise BadModelError(
            path, f"takes {spec.layout} {spec.dtype}; nvinfer gives NCHW float32", "export it without --uint8-input"
        )
    factor = spec.scale / spec.std[0]
    offsets = tuple(mean / spec.scale for mean in spec.mean)
    return factor, offsets, tuple(spec.std[0] / std for std in spec.std)


def adapted_model(path: PathLike, factors: Sequence[float], relative: float = 0.0) -> ModelProto:
    """The model with a factor per channel in front and probabilities as output, verified against the file.

    Args:
        path: The file.
        factors: One per channel.
        relative: Tolerance of scores, relative to the largest.

    Raises:
        VerificationError: Its outputs differ.
    """
    original = load_classifier(path)
    metadata = read_metadata(path, original)
    spec = metadata.preprocessing
    assert spec is not None  # `read_models` rejects others
    passes: list[Pass] = [ScaleInput(factors)]
    if not gives_probabilities(original):
        passes.append(AppendSoftmax())
    model = PassManager().run(original, passes)
    uniform = replace(spec, std=(spec.std[0],) * len(spec.std))
    samples = seeded_samples(spec)
    fed = replace(samples, prepared=prepare(samples.pixels, uniform))
    reference = reference_of(original, samples).with_tolerance(relative)
    comparison = reference.compare_outputs(run(model, fed), "the model it was made from")
    if not comparison.holds:
        raise VerificationError(f"the model for nvinfer differs from {path}: {comparison.sentence()}")
    store_metadata(model, replace(metadata, preprocessing=uniform))
    return model


def label_line(names: Sequence[str], notes: list[str]) -> str:
    """Nvinfer's label file: all classes of the one output on one line, separated by semicolons."""
    odd = [name for name in names if LABEL_SEPARATOR in name or "\n" in name]
    if odd:
        notes.append(f"{len(odd)} class names contain a semicolon, which separates labels; it became a comma: {odd[0]}")
    return LABEL_SEPARATOR.join(name.replace(LABEL_SEPARATOR, ",").replace("\n", " ") for name in names) + "\n"


def _add_cache(content: BundleContent, request: DeepStreamRequest, notes: list[str]) -> None:
    assert request.table is not None
    version = last_with_caches(request.target)
    assert version is not None
    source = request.models["fp32"]
    table, fp32 = load_table(request.table), load_classifier(source)
    check_matches(table, request.table, model_sha256(source), table.preprocessing)
    cache, remarks = cache_from_table(table, fp32, full_tensorrt_version(version))
    notes += remarks
    content.add_text(CACHE, cache.to_text(), "calibration cache")
