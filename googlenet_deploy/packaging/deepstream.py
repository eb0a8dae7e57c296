"""The bundle for DeepStream: a configuration of Gst-nvinfer, with the model and all that it names.

nvinfer computes ``net-scale-factor * (pixel - offset)`` and scales the whole frame to the network's input (NVIDIA,
"Gst-nvinfer", DeepStream SDK guide). Two of the toolkit's things do not fit into that, and both are dealt with and
said: a standard deviation per channel becomes a multiplication in the graph, and the centre crop a region of interest
for Gst-nvdspreprocess. Its classifier wants probabilities, so a softmax is appended. It builds INT8 only with a
calibration cache (without one it falls back to FP16), so INT8 is the FP32 model and a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from googlenet_deploy.calibration.table import check_matches, load_table
from googlenet_deploy.calibration.tensorrt_cache import cache_from_table
from googlenet_deploy.device.files import PathLike, sha256_file
from googlenet_deploy.device.predictions import PROBABILITIES
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.device.targets.jetpack import full_tensorrt_version
from googlenet_deploy.device.targets.target import last_with_caches
from googlenet_deploy.errors import BadModelError, UsageError, VerificationError, requires
from googlenet_deploy.export.passes.outputs import AppendSoftmax
from googlenet_deploy.export.passes.uint8_input import ScaleInput
from googlenet_deploy.export.samples import prepare, seeded_samples
from googlenet_deploy.export.verify import reference_of, run
from googlenet_deploy.graph.files import load_classifier, read_metadata, store_metadata
from googlenet_deploy.graph.graph import serialize
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
from googlenet_deploy.packaging.models import read_models

with requires("export"):
    from onnx import ModelProto

LABEL_SEPARATOR = ";"


def write_deepstream(output: PathLike, request: DeepStreamRequest) -> BundleResult:
    """Writes the bundle, an archive where `output` ends in ``.zip``.

    Raises:
        UsageError: INT8 without a table, or for a target that has no INT8 or no calibration caches.
        BadModelError: The model is none that nvinfer can feed.
        BadTableError: The table belongs to another model.
        OutputError: The bundle cannot be written.
    """
    _check(request)
    models = read_models({"fp32": request.fp32}, "fp32")
    spec = models.main.preprocessing
    if spec.resize_mode == "letterbox" and spec.target != spec.crop:
        raise BadModelError(
            request.fp32,
            "crops a letterboxed image, which nvinfer cannot do",
            "export it with --resize 0, which fits the image into the crop",
        )
    factor, offsets, factors = split_normalisation(spec, request.fp32)
    model = adapted_model(request.fp32, factors)
    count = models.class_count or len(models.class_names)
    values = InferValues(factor, offsets, factors, spec, model.graph.input[0].name, request, count)
    content, notes = BundleContent(), list[str]()
    content.add_bytes(MODEL, serialize(model), "model")
    content.add_text(LABELS, label_line(models.class_names or tuple(map(str, range(count))), notes), "class names")
    if request.precision == "int8":
        _add_cache(content, request, notes)
    content.add_text("config_infer_primary.txt", infer_config(values), "configuration")
    content.add_text("config_preprocess.txt", preprocess_config(values), "configuration")
    content.add_text("README.txt", readme(values), "instructions")
    made_from = {**models.made_from(), **({"table_sha256": sha256_file(request.table)} if request.table else {})}
    manifest = content.manifest("deepstream", request.target.name, request.precision, made_from)
    write_bundle(output, content, manifest)
    return BundleResult(manifest, tuple(notes))


def _check(request: DeepStreamRequest) -> None:
    if request.target.rtx:
        raise UsageError("DeepStream runs on TensorRT, not on TensorRT-RTX", "name a module or a JetPack")
    if request.precision != "int8":
        return
    if request.target.has_int8 is False:
        raise UsageError(f"{request.target.title} has no INT8 instructions", "give --precision fp16")
    if request.table is None:
        raise UsageError(
            "nvinfer builds INT8 from a calibration cache only; without one it would fall back to FP16",
            "give --table with the table of `calibrate`",
        )
    if last_with_caches(request.target) is None:
        raise UsageError(f"{request.target.title}: its TensorRT has no calibration caches", "give --precision fp16")


def split_normalisation(spec: Preprocessing, path: PathLike) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Splits ``(pixel * scale - mean) / std`` into nvinfer's part and what is left per channel.

    Returns:
        (net-scale-factor, offsets, factors): ``factor * (pixel - offset)``, times the channel's factor.

    Raises:
        BadModelError: The input is uint8 or NHWC, which nvinfer does not give.
    """
    if spec.dtype != "float32" or spec.layout != "NCHW":
        raise BadModelError(
            path, f"takes {spec.layout} {spec.dtype}; nvinfer gives NCHW float32", "export it without --uint8-input"
        )
    factor = spec.scale / spec.std[0]
    offsets = tuple(mean / spec.scale for mean in spec.mean)
    return factor, offsets, tuple(spec.std[0] / std for std in spec.std)


def adapted_model(path: PathLike, factors: Sequence[float]) -> ModelProto:
    """The model with a factor per channel in front and probabilities as output, verified against the file.

    Raises:
        VerificationError: It computes something else.
    """
    original = load_classifier(path)
    metadata = read_metadata(path, original)
    spec = metadata.preprocessing
    assert spec is not None  # `read_models` refuses others
    passes: list[Pass] = [ScaleInput(factors)]
    if original.graph.output[0].name != PROBABILITIES:
        passes.append(AppendSoftmax())
    model = PassManager().run(original, passes)
    uniform = replace(spec, std=(spec.std[0],) * len(spec.std))
    samples = seeded_samples(spec)
    fed = replace(samples, prepared=prepare(samples.pixels, uniform))
    comparison = reference_of(original, samples).compare_outputs(run(model, fed), "the FP32 model")
    if not comparison.holds:
        raise VerificationError(f"the model for nvinfer differs from {path}: {comparison.sentence()}")
    store_metadata(model, replace(metadata, preprocessing=uniform))
    return model


def label_line(names: Sequence[str], notes: list[str]) -> str:
    """Nvinfer's label file: all classes of the one output on one line, separated by semicolons."""
    odd = [name for name in names if LABEL_SEPARATOR in name or "\n" in name]
    if odd:
        notes.append(f"{len(odd)} class names hold a semicolon, which separates labels; it became a comma: {odd[0]}")
    return LABEL_SEPARATOR.join(name.replace(LABEL_SEPARATOR, ",").replace("\n", " ") for name in names) + "\n"


def _add_cache(content: BundleContent, request: DeepStreamRequest, notes: list[str]) -> None:
    assert request.table is not None
    version = last_with_caches(request.target)
    assert version is not None
    table, fp32 = load_table(request.table), load_classifier(request.fp32)
    check_matches(table, request.table, sha256_file(request.fp32), table.preprocessing)
    cache, remarks = cache_from_table(table, fp32, full_tensorrt_version(version))
    notes += remarks
    content.add_text(CACHE, cache.to_text(), "calibration cache")
