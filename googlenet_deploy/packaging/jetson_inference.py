"""The bundle for jetson-inference's ``imagenet``: a model that undoes the program's fixed preprocessing, and labels.

According to the program's sources (dusty-nv/jetson-inference), imageNet.cpp prepares images for every ONNX model in one
way (see `device.hosts`) and rejects a label file whose number of lines differs from the number of classes;
tensorNet.cpp reads labels by `fgets` with 512 bytes, treats a line whose tenth character is a space and whose first is
``n`` as a WordNet id and a name (even "newspaper stand"), and builds in FP16 if the GPU supports it, otherwise in FP32;
INT8 only with a calibrator of its own, which is never passed, so it cannot use a Q/DQ model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from googlenet_deploy import __version__
from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.hosts import find_host
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadModelError
from googlenet_deploy.export.host import model_for_host
from googlenet_deploy.graph.files import load_classifier
from googlenet_deploy.graph.graph import runtime_inputs, serialize
from googlenet_deploy.packaging.content import BundleContent, BundleResult, write_bundle
from googlenet_deploy.packaging.host_accuracy import HostAccuracy, host_accuracy
from googlenet_deploy.packaging.models import read_models

if TYPE_CHECKING:
    from googlenet_deploy.device.images.sources import ImageSource

HOST = "jetson-inference"
MODEL, LABELS = "model.onnx", "labels.txt"
LONGEST_LINE = 500  # bytes; the program reads 511 at a time
_WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class JetsonInferenceRequest:
    """The inputs of the bundle.

    Attributes:
        fp32: The FP32 model.
        images: Images for measuring the cost of the program's preprocessing; may be empty.
        labels: The true class of each image; empty if unknown.
    """

    fp32: Path
    images: Sequence[ImageSource] = ()
    labels: Sequence[int] = ()


def write_jetson_inference(output: PathLike, request: JetsonInferenceRequest) -> BundleResult:
    """Writes the bundle; an archive if `output` ends in ``.zip``.

    Raises:
        UsageError: The model's input is not supported by the program.
        BadModelError: The model does not declare its preprocessing, is quantised, or is not a classifier.
        VerificationError: The changed model's outputs differ.
        OutputError: The bundle cannot be written.
    """
    host = find_host(HOST)
    models = read_models({"fp32": request.fp32}, "fp32")
    spec, metadata = models.main.preprocessing, models.main.header.metadata
    model, _ = model_for_host(request.fp32, load_classifier(request.fp32), host)
    content, notes = BundleContent(), list[str]()
    data = serialize(model)
    content.add_bytes(MODEL, data, "model")
    count = models.class_count
    if count is None:
        raise BadModelError(request.fp32, "does not state its number of classes, which the program needs")
    names = models.class_names or tuple(map(str, range(count)))
    content.add_text(LABELS, label_lines(names, metadata.class_ids, notes), "class names")
    measured = host_accuracy(data, models.main, host, request.images, request.labels)
    if measured is None:
        notes.append("without --images it is unknown what the program's stretching costs: pass photographs")
    else:
        notes += measured.lines()
    readme = _readme(runtime_inputs(model.graph)[0].name, model.graph.output[0].name, spec, len(names), measured)
    content.add_text("README.txt", readme, "instructions")
    manifest = content.manifest(HOST, "", "fp32", models.made_from())
    write_bundle(output, content, manifest)
    return BundleResult(manifest, tuple(notes))


def label_lines(names: Sequence[str], ids: Sequence[str], notes: list[str]) -> str:
    """The label file: a WordNet id and the name of each class, so that no name is mistaken for an id.

    Args:
        names: In the order of the classes.
        ids: Their WordNet ids, if they have any.
        notes: Receives notes on names that had to be shortened.
    """
    known = len(ids) == len(names) and all(_WORDNET_ID.fullmatch(item) for item in ids)
    lines = []
    for index, name in enumerate(names):
        prefix = f"{ids[index] if known else f'n{index:08d}'} "
        text = " ".join(name.split()) or str(index)
        room = LONGEST_LINE - len(prefix)
        if len(text.encode()) > room:
            notes.append(f"class {index}: the name is longer than the program reads and was cut to {room} bytes")
            text = text.encode()[:room].decode("utf-8", "ignore")
        lines.append(f"{prefix}{text}\n")
    return "".join(lines)


def _readme(source: str, output: str, spec: Preprocessing, count: int, measured: HostAccuracy | None) -> str:
    options = f"--model={MODEL} --labels={LABELS} --input_blob={source} --output_blob={output}"
    lines = [
        f"An image classifier for jetson-inference, {count} classes",
        f"Made by googlenet-deploy {__version__}.",
        "",
        "Run it in this folder (the first start builds the engine, which takes minutes)",
        "",
        f"    imagenet {options} \\",
        "        photo.jpg classified.jpg",
        f"    imagenet {options} \\",
        "        csi://0",
        "",
        "In Python",
        "",
        "    from jetson_inference import imageNet",
        f'    net = imageNet(model="{MODEL}", labels="{LABELS}", input_blob="{source}", output_blob="{output}")',
        "",
        "What the program does to an image, and what the model does about it",
        "",
        "- Values: every ONNX model gets RGB, 0..1, ImageNet's mean and standard deviation. This model was trained on",
        f"  {_trained(spec)}.",
        "  model.onnx undoes the one and computes the other, verified against the model it was made from. It is for",
        "  this program only: with its own preprocessing the original model is the right one.",
        f"- Shape: the program stretches the frame to {spec.crop[0]} x {spec.crop[1]} and takes the nearest pixels;",
        f"  training: {spec.describe_geometry()}.",
        "  No model can undo that. A program of your own can cut and resize the frame before it classifies",
        '  (jetson_utils.cudaCrop, and cudaResize with filter="linear").',
        *([f"  {line}" for line in measured.lines()] if measured else []),
        "- Precision: the program builds FP16 where the GPU has it. It cannot build INT8 Q/DQ models; the bundle of",
        "  kind jetson can.",
        "- Output: probabilities with one dimension, because the program counts the classes by the first one.",
        f"- Threshold: classes below 1 % are left out; --threshold=0 shows all. {LABELS} begins each line with an id,",
        "  because the program takes nine characters that begin with n for one.",
        "",
        "Files",
        "",
        f"    {MODEL:27} ONNX in FP32 with a batch of 1",
        f"    {LABELS:27} an id and the name of each class, in the order of the scores",
        "    manifest.json, SHA256SUMS   hashes: sha256sum --check SHA256SUMS finds a file that was damaged;",
        "                                they prove no origin: whoever changes the bundle can rewrite them",
    ]
    return "\n".join(lines) + "\n"


def _trained(spec: Preprocessing) -> str:
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.std))
    return f"{spec.channels}, pixel * {spec.scale:.6g}, mean {mean}, standard deviation {std}"
