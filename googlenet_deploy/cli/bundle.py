"""Pack what a device or server needs, with hashes; verify and unpack such bundles.

A Jetson bundle holds the ONNX models, calibration, golden images with the workstation's answers, the device's commands
as one file, and scripts that build the engine there and test it. A Triton bundle is a model repository, a DeepStream
bundle an nvinfer configuration, a jetson-inference bundle a model that undoes the fixed preprocessing of its imagenet
program. --device-only writes only the commands, as googlenet-device.pyz, which needs Python 3.8 or later, NumPy and
Pillow.

Examples:
  googlenet-deploy bundle --kind jetson --target orin-nano --fp32 m.onnx --images photos/ --output bundle.zip
  googlenet-deploy bundle --kind jetson --target orin-nano --int8 m.int8.onnx --images photos/ --output bundle.zip
  googlenet-deploy bundle --kind triton --int8 m.int8.onnx --images photos/ --output triton/
  googlenet-deploy bundle --kind deepstream --target jetpack-6.2 --fp32 m.onnx --table table.json --output ds/
  googlenet-deploy bundle --kind deepstream --target jetpack-6.2 --fp32 m.onnx --operate-on-gie-id 1 --output ds/
  googlenet-deploy bundle --kind jetson-inference --fp32 m.onnx --images photos/ --output ji/
  googlenet-deploy bundle --verify bundle.zip
  googlenet-deploy bundle --unpack bundle.zip --output googlenet/
  googlenet-deploy bundle --device-only --output /media/stick/googlenet-device.pyz
"""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Dict, Iterator, Tuple

from googlenet_deploy.cli.arguments import positive
from googlenet_deploy.cli.stated_metadata import add_metadata_options, metadata_options, state_metadata
from googlenet_deploy.device.builder.options import MODEL_PRECISIONS
from googlenet_deploy.device.bundle.manifest import KINDS
from googlenet_deploy.device.options import add_options, option_group, read_options
from googlenet_deploy.device.text import LONGEST_LINE, counted, printable
from googlenet_deploy.errors import UsageError
from googlenet_deploy.packaging.deepstream_text import DEEPSTREAM, DeepStreamRequest

if TYPE_CHECKING:
    from pathlib import Path

    from googlenet_deploy.device.bundle.manifest import BundleManifest
    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.packaging.content import BundleResult
    from googlenet_deploy.packaging.deepstream_text import Detector

DEVICE_FILE = "googlenet-device.pyz"
SMALLEST_FIRST = MODEL_PRECISIONS[::-1]  # what is deployed where nothing is said: the first that there is
_DEEPSTREAM = "deepstream_"  # ahead of its options in the namespace: a Jetson bundle has a batch too
PACKED = ("fp32", "fp16", "int8", "precision", "table", "images", "labels", "target", "batch", "engine")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--kind", choices=KINDS, help="pack a bundle of this kind")
    task.add_argument("--verify", metavar="PATH", help="find any altered, missing or additional file of a bundle")
    task.add_argument("--unpack", metavar="FILE", help="verify a packed bundle and unpack it into --output")
    task.add_argument("--device-only", action="store_true", help="the commands for a device alone, as one file")
    parser.add_argument(
        "--output", metavar="PATH", help=f"a folder, or a file that ends in .zip (--device-only: {DEVICE_FILE})"
    )
    models = parser.add_argument_group("content")
    for precision in MODEL_PRECISIONS:
        models.add_argument(f"--{precision}", metavar="FILE", help=f"the {precision.upper()} ONNX model")
    models.add_argument("--precision", choices=MODEL_PRECISIONS, help="deployed (default: the smallest given)")
    models.add_argument("--table", metavar="FILE", help="calibration table of the FP32 model")
    models.add_argument("--images", metavar="PATH", help="photographs to take golden images or the warm-up from")
    models.add_argument("--labels", metavar="CSV", help="jetson-inference: classes of --images, to print the accuracy")
    models.add_argument("--target", metavar="T", help="jetson, deepstream: a module such as orin-nano, or a JetPack")
    models.add_argument("--batch", metavar="N|MIN,OPT,MAX", help="jetson: batches of the engine (default: 1,4,16)")
    add_metadata_options(parser)
    server = parser.add_argument_group("for Triton")
    server.add_argument("--name", default="googlenet", metavar="NAME", help="of the model (default: %(default)s)")
    server.add_argument("--engine", metavar="FILE", help="an engine for the server's GPU, served as NAME_tensorrt")
    server.add_argument("--max-batch", type=positive, default=16, metavar="N", help="default: %(default)s")
    add_options(parser, DeepStreamRequest, prefix=_DEEPSTREAM)
    stream = option_group(parser, DEEPSTREAM)
    stream.add_argument(
        "--operate-on-gie-id",
        type=int,
        metavar="ID",
        help="classify objects instead of frames: the gie-unique-id of the detector",
    )
    stream.add_argument(
        "--operate-on-class-ids",
        type=_class_ids,
        default=(),
        metavar="A,B",
        help="classes of the detector whose objects are classified (default: all)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Packs, verifies or unpacks."""
    _check_alone(arguments)
    if arguments.verify:
        from googlenet_deploy.packaging.content import verify_bundle

        _tell(arguments.verify, verify_bundle(arguments.verify), "contains what was packed")
        return 0
    if arguments.device_only:
        return _device(arguments.output or DEVICE_FILE)
    if not arguments.output:
        raise UsageError("no output is given", "pass --output")
    if arguments.unpack:
        from googlenet_deploy.packaging.content import unpack_bundle

        _tell(arguments.output, unpack_bundle(arguments.unpack, arguments.output), "was verified and unpacked")
        return 0
    with _described_models(arguments):
        result = PACKERS[arguments.kind](arguments)
    for note in result.notes:
        print(f"note: {printable(note, LONGEST_LINE)}", file=sys.stderr)
    _tell(arguments.output, result.manifest, "was packed")
    return 0


@contextmanager
def _described_models(arguments: argparse.Namespace) -> Iterator[None]:
    """Replaces the models by copies that carry what the options say about them; nothing where they say nothing."""
    if not metadata_options(arguments):
        yield
        return
    if arguments.table:
        raise UsageError(
            f"{metadata_options(arguments)[0]} changes the model that --table was made for",
            "store it first, with `export --onnx MODEL --preprocessing ...`, and calibrate that",
        )
    import tempfile
    from pathlib import Path

    from googlenet_deploy.graph.files import load_classifier, write_model

    with tempfile.TemporaryDirectory() as folder:
        for precision in SMALLEST_FIRST:
            path = getattr(arguments, precision)
            if path:
                model = load_classifier(path)
                state_metadata(arguments, path, model)
                copy = Path(folder) / precision / Path(path).name
                copy.parent.mkdir()
                write_model(copy, model)
                setattr(arguments, precision, str(copy))
        yield


def _check_alone(arguments: argparse.Namespace) -> None:
    """What packs no model takes nothing to pack, which would be ignored silently."""
    if arguments.kind:
        return
    task = "--device-only" if arguments.device_only else "--verify" if arguments.verify else "--unpack"
    given = [name for name in PACKED if getattr(arguments, name)]
    given += [option[2:] for option in metadata_options(arguments)]
    if arguments.verify and arguments.output:
        given.append("output")
    if given:
        raise UsageError(f"{task} does not accept --{given[0]}", "--kind packs a bundle")


def _tell(path: str, manifest: BundleManifest, what: str) -> None:
    size = sum(item.bytes for item in manifest.files)
    target = f" for {manifest.target}" if manifest.target else ""
    print(f"{path}: {manifest.kind} bundle{target}, {manifest.precision.upper()}, made by {manifest.tool_version}")
    print(f"  {what}: {counted(len(manifest.files), 'file')}, {size / 1e6:.1f} MB")


def _device(output: str) -> int:
    from googlenet_deploy.packaging.device_zipapp import write_device_zipapp

    size = write_device_zipapp(output)
    print(f"{output}: {size / 1e3:.0f} kB, for Python 3.8 or later with NumPy and Pillow")
    return 0


def _jetson(arguments: argparse.Namespace) -> BundleResult:
    from googlenet_deploy.device.builder.options import parse_batch
    from googlenet_deploy.device.targets.target import load_target
    from googlenet_deploy.packaging.device_zipapp import device_zipapp
    from googlenet_deploy.packaging.jetson import DEFAULT_BATCH, JetsonRequest, check_target, write_jetson

    target = load_target(_needed(arguments, "target"))
    models, precision = _models(arguments)
    check_target(target, precision)
    request = JetsonRequest(
        target=target,
        precision=precision,
        models=models,
        images=_images(arguments),
        pyz=device_zipapp(),
        table=_path(arguments.table),
        batch=parse_batch(arguments.batch) if arguments.batch else DEFAULT_BATCH,
    )
    return write_jetson(arguments.output, request)


def _triton(arguments: argparse.Namespace) -> BundleResult:
    from googlenet_deploy.packaging.triton import TritonRequest, write_triton

    models, precision = _models(arguments)
    images, engine = _images(arguments), _path(arguments.engine)
    request = TritonRequest(arguments.name, models, precision, images, engine, arguments.max_batch)
    return write_triton(arguments.output, request)


def _deepstream(arguments: argparse.Namespace) -> BundleResult:
    from dataclasses import replace

    from googlenet_deploy.device.targets.target import load_target
    from googlenet_deploy.packaging.deepstream import write_deepstream

    if arguments.operate_on_class_ids and arguments.operate_on_gie_id is None:
        raise UsageError("--operate-on-class-ids needs --operate-on-gie-id, whose classes they are")
    if not (arguments.int8 or arguments.fp16):
        _needed(arguments, "fp32")
    target = load_target(_needed(arguments, "target"))
    request = read_options(
        arguments,
        DeepStreamRequest,
        prefix=_DEEPSTREAM,
        target=target,
        precision="int8",
        models=_models(arguments)[0],
        table=_path(arguments.table),
        detector=_detector(arguments),
    )
    has_int8 = request.table is not None or request.strongly_typed
    precision = arguments.precision or ("int8" if has_int8 else "fp16")
    return write_deepstream(arguments.output, replace(request, precision=precision))


def _detector(arguments: argparse.Namespace) -> Detector | None:
    from googlenet_deploy.packaging.deepstream_text import Detector

    gie_id = arguments.operate_on_gie_id
    return None if gie_id is None else Detector(gie_id, arguments.operate_on_class_ids)


def _jetson_inference(arguments: argparse.Namespace) -> BundleResult:
    from googlenet_deploy.packaging.jetson_inference import JetsonInferenceRequest, write_jetson_inference

    fp32 = _path(_needed(arguments, "fp32"))
    assert fp32 is not None
    images, labels = _labelled_images(arguments, fp32)
    return write_jetson_inference(arguments.output, JetsonInferenceRequest(fp32, images, labels))


# The one registry of what packs: a function for each of `KINDS`.
PACKERS: Dict[str, Callable[[argparse.Namespace], BundleResult]] = {
    "jetson": _jetson,
    "triton": _triton,
    "deepstream": _deepstream,
    "jetson-inference": _jetson_inference,
}


def _labelled_images(arguments: argparse.Namespace, model: Path) -> Tuple[Tuple[ImageSource, ...], Tuple[int, ...]]:
    """The images, and with --labels the class of each."""
    if not arguments.labels:
        return (_images(arguments) if arguments.images else ()), ()
    from googlenet_deploy.device.onnx_model.header import read_onnx
    from googlenet_deploy.evaluation.dataset import ClassIndex, read_labelled_images

    metadata = read_onnx(model).metadata
    classes = ClassIndex(metadata.class_names, metadata.class_ids)
    found = read_labelled_images(_needed(arguments, "images"), arguments.labels, classes)
    for note in found.remarks:
        print(f"note: {printable(note, LONGEST_LINE)}", file=sys.stderr)
    return found.sources, found.labels


def _models(arguments: argparse.Namespace) -> Tuple[Dict[str, Path], str]:
    from pathlib import Path

    models = {name: Path(getattr(arguments, name)) for name in SMALLEST_FIRST if getattr(arguments, name)}
    if not models:
        raise UsageError("there is no model to pack", "pass --fp32, --fp16 or --int8")
    return models, arguments.precision or next(iter(models))


def _images(arguments: argparse.Namespace) -> Tuple[ImageSource, ...]:
    from googlenet_deploy.device.images.sources import find_images

    return tuple(find_images([_needed(arguments, "images")]).images)


def _needed(arguments: argparse.Namespace, name: str) -> str:
    value = getattr(arguments, name)
    if not value:
        raise UsageError(f"a {arguments.kind} bundle needs --{name}")
    return str(value)


def _path(text: str) -> Path | None:
    from pathlib import Path

    return Path(text) if text else None


def _class_ids(text: str) -> Tuple[int, ...]:
    """``0,2``, for argparse."""
    words = text.replace(";", ",").split(",")
    if not all(word.strip().isdecimal() and len(word) < 10 for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of class numbers such as 0,2")
    return tuple(int(word) for word in words)
