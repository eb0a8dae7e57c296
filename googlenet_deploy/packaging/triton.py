"""The bundle for Triton Inference Server: a model repository.

``model_repository/NAME/config.pbtxt`` is a ``ModelConfig`` in protobuf's text format (triton-inference-server/common,
``protobuf/model_config.proto``); the layout is that of "Model Repository" in Triton's user guide. ``label_filename``
maps the position in an output to a name ("Classification Extension"), so it is written only if the position is the
class: with TopK in the graph the first value would always get the first name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy import __version__
from googlenet_deploy.device.engine.manifest import EngineManifest, load_manifest
from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.onnx_model.header import OnnxHeader
from googlenet_deploy.device.onnx_model.messages import Value
from googlenet_deploy.device.predictions import TOP_K_INDICES, TOP_K_VALUES
from googlenet_deploy.device.preprocess import preprocess
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadImageError, BadModelError, UsageError
from googlenet_deploy.packaging.content import BundleContent, BundleResult, write_bundle
from googlenet_deploy.packaging.models import BundleModels, read_models
from googlenet_deploy.packaging.protobuf_text import Enum, Message, to_text
from googlenet_deploy.packaging.triton_client import CLIENT, NAMES, client_script

if TYPE_CHECKING:
    from googlenet_deploy.device.images.sources import ImageSource

REPOSITORY = "model_repository"
LABELS = "labels.txt"
WARMUP = "image"
REQUEST = "request/image.bin"
# How long dynamic batching waits for more requests; about the time of one batch on a GPU.
QUEUE_DELAY_US = 2000
_TYPES = {
    "float32": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8", "int8": "TYPE_INT8", "int64": "TYPE_INT64",
    "int32": "TYPE_INT32", "bool": "TYPE_BOOL", "float64": "TYPE_FP64",
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class TritonRequest:
    """The inputs of a model repository.

    Attributes:
        name: Name of the model on the server.
        models: ONNX files by precision.
        precision: Which of them is served.
        images: Candidates for warming up the server; the first usable one is used.
        engine: A TensorRT engine for the server's GPU, served as NAME_tensorrt, or None.
        max_batch: Largest batch that the server forms.
    """

    name: str
    models: dict[str, Path]
    precision: str
    images: Sequence[ImageSource]
    engine: Path | None = None
    max_batch: int = 16


def write_triton(output: PathLike, request: TritonRequest) -> BundleResult:
    """Writes the repository; an archive if `output` ends in ``.zip``.

    Raises:
        UsageError: The name is not a valid model name, or the largest batch is below 1.
        BadModelError: The model or the engine does not fit.
        OutputError: The bundle cannot be written.
    """
    if not _NAME.fullmatch(request.name):
        raise UsageError(f"{request.name!r} is not a name for a model", "use letters, digits, _, . and -")
    if request.max_batch < 1:
        raise UsageError("the largest batch must be at least 1")
    models = read_models(request.models, request.precision)
    header = models.main.header
    content, notes = BundleContent(), list[str]()
    warmup = _prepared_image(request.images, models.main.preprocessing, notes)
    content.add_bytes(REQUEST, warmup, "example request")
    fixed = header.inputs[0].shape[0]
    warmup *= fixed if isinstance(fixed, int) else 1
    folder = f"{REPOSITORY}/{request.name}"
    config = onnx_config(request.name, header, request.max_batch, len(models.class_names))
    _add_model(content, folder, config, models, warmup)
    content.add_model(f"{folder}/1/model.onnx", models.main.path)
    if not header.dynamic_batch:
        notes.append("the model's batch is fixed, so Triton cannot batch requests: export it without --batch")
    names = [request.name]
    if request.engine is not None:
        names.append(_add_engine(content, request, models, warmup))
    content.add_text("preprocessing.json", models.main.preprocessing.to_json() + "\n", "preprocessing")
    _add_client(content, request.name, models, config)
    ranked = ranked_outputs([value.name for value in header.outputs])
    if ranked:
        notes.append(
            f"the model ranks the classes itself: {ranked[1]} says which; its outputs have no labels on Triton"
        )
    content.add_text("README.txt", _readme(names, models, ranked), "instructions")
    manifest = content.manifest("triton", "", request.precision, models.made_from())
    write_bundle(output, content, manifest)
    return BundleResult(manifest, tuple(notes))


def ranked_outputs(names: Sequence[str]) -> tuple[str, str] | None:
    """The values and the indices of the model's own TopK; None if it returns a score for each class."""
    return (TOP_K_VALUES, TOP_K_INDICES) if {TOP_K_VALUES, TOP_K_INDICES} <= set(names) else None


def _add_client(content: BundleContent, name: str, models: BundleModels, config: Message) -> None:
    header, spec = models.main.header, models.main.preprocessing
    ranked = ranked_outputs([value.name for value in header.outputs])
    count = models.class_count if ranked is None else None
    names = models.class_names or tuple(map(str, range(count or 0)))
    content.add_text(NAMES, "".join(f"{' '.join(text.split())}\n" for text in names), "class names")
    kind = str(config["input"][0]["data_type"]).partition("_")[2]
    fixed = 0 if config["max_batch_size"] else int(config["input"][0]["dims"][0])
    labelled = [str(tensor["name"]) for tensor in config["output"] if "label_filename" in tensor]
    outputs = ranked or labelled[:1] or [header.outputs[0].name]
    image = (header.inputs[0].name, kind, spec.input_shape)
    content.add_text(CLIENT, client_script(name, image, fixed, outputs), "example client", executable=True)


def onnx_config(name: str, header: OnnxHeader, max_batch: int, names: int) -> Message:
    """``ModelConfig`` of an ONNX model; a fixed batch is part of its dimensions.

    Args:
        name: The model's name on the server.
        header: The model's header.
        max_batch: Largest batch that the server forms.
        names: Number of class names; 0 without a label file.
    """
    batch = max_batch if header.dynamic_batch else 0
    return _config(name, "onnxruntime_onnx", "model.onnx", batch, header.inputs, header.outputs, names=names)


def engine_config(name: str, manifest: EngineManifest, max_batch: int, names: int) -> Message:
    """``ModelConfig`` of a TensorRT engine; see `onnx_config`."""
    largest = manifest.batch[2] if manifest.batch is not None else 0
    inputs, outputs = (
        tuple(Value(str(item["name"]), str(item["dtype"]), tuple(item["shape"])) for item in values)
        for values in (manifest.inputs, manifest.outputs)
    )
    return _config(name, "tensorrt_plan", "model.plan", min(largest, max_batch), inputs, outputs, names=names)


def _config(
    name: str,
    platform: str,
    file: str,
    batch: int,
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    *,
    names: int,
) -> Message:
    ranked = ranked_outputs([value.name for value in outputs]) is not None
    tensors = [_tensor(value, batch, "" if ranked else _labels_of(value, names)) for value in outputs]
    first = _tensor(inputs[0], batch, "")
    config: Message = {
        "name": name,
        "platform": platform,
        "default_model_filename": file,
        "max_batch_size": batch,
        "input": [first],
        "output": tensors,
        "version_policy": {"latest": {"num_versions": 1}},
        "model_warmup": [
            {
                "name": "one image",
                "batch_size": 1,
                "inputs": [
                    {
                        "key": str(first["name"]),
                        "value": {"data_type": first["data_type"], "dims": first["dims"], "input_data_file": WARMUP},
                    }
                ],
            }
        ],
    }
    if batch > 1:
        preferred = sorted({size for size in (batch // 4, batch // 2, batch) if size > 1})
        config["dynamic_batching"] = {
            "preferred_batch_size": preferred,
            "max_queue_delay_microseconds": QUEUE_DELAY_US,
        }
    return config


def _labels_of(value: Value, names: int) -> str:
    """The label file of an output whose positions are the classes: one floating-point score for each name."""
    sizes = [size for size in value.shape[1:] if size != 1]
    scores = value.dtype in ("float32", "float16", "float64") and len(sizes) == 1
    return LABELS if names and scores and (sizes[0] == names or not isinstance(sizes[0], int)) else ""


def _tensor(value: Value, batch: int, labels: str) -> Message:
    if value.dtype not in _TYPES:
        raise UsageError(f"Triton has no type for {value.name}, which is {value.dtype}")
    shape = value.shape[1:] if batch else value.shape
    message: Message = {
        "name": value.name,
        "data_type": Enum(_TYPES[value.dtype]),
        "dims": [size if isinstance(size, int) else -1 for size in shape],
    }
    if labels:
        message["label_filename"] = labels
    return message


def _add_model(content: BundleContent, folder: str, config: Message, models: BundleModels, warmup: bytes) -> None:
    head = f"# Made by googlenet-deploy {__version__}.\n"
    content.add_text(f"{folder}/config.pbtxt", head + to_text(config), "configuration")
    content.add_bytes(f"{folder}/warmup/{WARMUP}", warmup, "warm-up input")
    if any("label_filename" in tensor for tensor in config["output"]):
        names = "".join(f"{' '.join(name.split())}\n" for name in models.class_names)
        content.add_text(f"{folder}/{LABELS}", names, "class names")


def _add_engine(content: BundleContent, request: TritonRequest, models: BundleModels, warmup: bytes) -> str:
    assert request.engine is not None
    manifest = load_manifest(request.engine)
    if manifest.backend != "tensorrt":
        raise BadModelError(request.engine, f"is an engine of {manifest.backend}, which Triton does not run")
    theirs = manifest.metadata.get("googlenet_deploy.preprocessing", "")
    if theirs and Preprocessing.from_json(theirs) != models.main.preprocessing:
        raise BadModelError(request.engine, "was built from another model: its preprocessing differs")
    name = f"{request.name}_tensorrt"
    folder = f"{REPOSITORY}/{name}"
    config = engine_config(name, manifest, request.max_batch, len(models.class_names))
    _add_model(content, folder, config, models, warmup)
    content.add_file(f"{folder}/1/model.plan", request.engine, "engine")
    return name


def _prepared_image(images: Sequence[ImageSource], spec: Preprocessing, notes: list[str]) -> bytes:
    """The first usable image as the network's input; without one a grey image, which is reported."""
    mode = "L" if spec.channels == "L" else "RGB"
    for source in images:
        try:
            image = load_image(source.data if source.data is not None else source.name, name=source.name, mode=mode)
            return np.ascontiguousarray(preprocess(image, spec)).tobytes()
        except (BadImageError, UsageError):
            continue
    notes.append("no image could be used, so the warm-up input is zeros: pass photographs with --images")
    return bytes(int(np.prod(spec.input_shape)) * np.dtype(spec.dtype).itemsize)


def _readme(names: Sequence[str], models: BundleModels, ranked: tuple[str, str] | None) -> str:
    spec = models.main.preprocessing
    shape = "x".join(map(str, spec.input_shape))
    main = names[0]
    lines = [
        f"Triton model repository: {', '.join(names)} ({models.main.precision.upper()})",
        f"Made by googlenet-deploy {__version__}.",
        "",
        "Start the server (an x86 machine, or a Jetson with a tritonserver build for it)",
        "",
        '    docker run --rm --gpus all -p 8000:8000 -p 8001:8001 -v "$PWD/model_repository:/models" \\',
        "        nvcr.io/nvidia/tritonserver:RELEASE-py3 tritonserver --model-repository=/models",
        "",
        "RELEASE is a Triton release such as 24.08; an engine (model.plan) needs the release with its own TensorRT.",
        "",
        "Ask it",
        "",
        f"    curl --fail localhost:8000/v2/models/{main}/ready",
        f"    curl --fail localhost:8000/v2/models/{main}/config",
        "    curl -H 'Content-Type: application/octet-stream' -H 'Inference-Header-Content-Length: 0' \\",
        f"        --data-binary @{REQUEST} localhost:8000/v2/models/{main}/infer --output answer.bin",
        "",
        f"{REQUEST} is one photograph as the network takes it: {spec.dtype}, {shape} ({spec.layout}), prepared as",
        "preprocessing.json says. It is one image: the server takes as many as config.pbtxt allows in one request.",
        *_input_advice(spec),
        "",
        "Classes with their names, by HTTP and by gRPC (pip install 'tritonclient[http,grpc]')",
        "",
        f"    python3 {CLIENT}",
        f"    python3 {CLIENT} --grpc --top 3 {REQUEST} {REQUEST}",
        "",
        *_reading(ranked),
        "",
        "Requests of single images are batched by the server (dynamic_batching in config.pbtxt).",
        "",
        "sha256sum --check SHA256SUMS finds a file that was damaged. Hashes prove no origin: whoever changes a file",
        "can rewrite them.",
    ]
    return "\n".join(lines) + "\n"


def _input_advice(spec: Preprocessing) -> list[str]:
    """What clients send."""
    if spec.frame is None:
        return [
            "Clients that would rather send raw pixels: export the model with --uint8-input; whole frames of one size,",
            "which the model then resizes: with --frame-input.",
        ]
    return [
        f"Clients send {spec.describe_frame()} as a camera delivers them; the model resizes, crops and normalises.",
        f"One frame has {int(np.prod(spec.input_shape)):,} bytes: send it in binary, on the same machine through",
        "shared memory.",
    ]


def _reading(ranked: tuple[str, str] | None) -> list[str]:
    """How clients read the response."""
    if ranked is None:
        return [
            "A position in the output is a class. With class_count in the request the server answers",
            f"score:index:label; the labels are {LABELS} beside config.pbtxt.",
        ]
    return [
        f"The model ranks the classes itself: {ranked[0]} are the best scores, {ranked[1]} their classes.",
        f"A position is a rank, not a class, so the outputs have no label file; look the indices up in {NAMES}",
        f"(line 1 is index 0), as {CLIENT} does.",
    ]
