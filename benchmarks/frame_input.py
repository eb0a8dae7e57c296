"""The resize inside the graph (``export --frame-input``) against the CPU's path, on photographs as camera frames.

Photographs are brought to 720p, 1080p and 4K and classified twice: by the model that takes frames, and by the model it
was made from, on what Pillow's resize makes of the same frame. Pixels are compared in steps of 1/255 of their range,
FP16 forms as FP16 rounds (ONNX Runtime's CPU does not). Engines are built by TensorRT-RTX where it is installed.

    python benchmarks/frame_input.py [--photographs 100] [--fp16 FILE] [--int8 FILE] [--record]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from harness import IMAGES, bvlc_int8_onnx, bvlc_onnx, interleaved, options, record, say, table
from onnx import ModelProto, TensorProto, helper
from PIL import Image

import googlenet_deploy as gd
from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.images.nv12 import from_nv12
from googlenet_deploy.device.preprocess import normalize, preprocess
from googlenet_deploy.device.specification import BVLC, Preprocessing
from googlenet_deploy.errors import GoogLeNetDeployError
from googlenet_deploy.export.half_precision.emulate import stand_in
from googlenet_deploy.export.passes.frame_input import FrameInput
from googlenet_deploy.graph.edit import copy_model
from googlenet_deploy.graph.files import load_model, read_metadata, store_metadata, write_model
from googlenet_deploy.graph.pass_manager import PassManager

SIZES = {"720p": (720, 1280), "1080p": (1080, 1920), "4K": (2160, 3840)}
PIXELS = "input/frame/pixels"
Session = Callable[[np.ndarray], list[np.ndarray]]


class Form(NamedTuple):
    """One model and its frame size."""

    name: str
    base: str
    size: str
    frame_format: str = "rgb"


FORMS = (
    Form("FP32, 720p", "fp32", "720p"),
    Form("FP32, 1080p", "fp32", "1080p"),
    Form("FP32, 4K", "fp32", "4K"),
    Form("FP32, 1080p in NV12", "fp32", "1080p", "nv12"),
    Form("FP16, 1080p", "fp16", "1080p"),
    Form("INT8, 1080p", "int8", "1080p"),
)


def with_frames(base: Path, form: Form, path: Path) -> Path:
    """The base model preceded by the resize, as written by ``export --frame-input``."""
    model = load_model(base)
    frames = BVLC.with_frame_input(SIZES[form.size], form.frame_format)
    changed = PassManager().run(model, [FrameInput(BVLC, frames, half=form.base == "fp16")])
    store_metadata(changed, replace(read_metadata(base, model), preprocessing=frames))
    write_model(path, changed)
    return path


def session(model: ModelProto, *watched: str) -> Session:
    """A model in ONNX Runtime, with FP16 rounding emulated; its last outputs are the watched tensors."""
    rounded = stand_in(copy_model(model))
    rounded.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in watched)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level, settings.intra_op_num_threads = 3, 1
    opened = onnxruntime.InferenceSession(rounded.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    name = opened.get_inputs()[0].name
    return lambda batch: [np.asarray(value) for value in opened.run(None, {name: batch})]


def seen_by_cpu(frame: np.ndarray, spec: Preprocessing) -> Image.Image:
    """The image in a frame, as the CPU's path sees it."""
    return Image.fromarray(frame if spec.frame_yuv is None else from_nv12(frame, spec.frame_yuv))


def compare(form: Form, base: Path, framed: Path, photographs: list[Path]) -> dict[str, Any]:
    """One form on all photographs."""
    spec = BVLC.with_frame_input(SIZES[form.size], form.frame_format)
    ours, theirs = session(load_model(framed), PIXELS), session(load_model(base))
    mean = np.asarray(BVLC.mean, np.float32)[:, np.newaxis, np.newaxis]
    steps, differences, largest, same, margins = [], [], [], 0, []
    for path in photographs:
        frame = preprocess(load_image(path), spec)
        prepared = preprocess(seen_by_cpu(frame, spec), BVLC)
        (wanted, *_), (got, pixels) = theirs(prepared[np.newaxis]), ours(frame[np.newaxis])
        steps.append(np.abs(pixels[0] - (prepared + mean)).ravel())
        differences.append(np.abs(got - wanted))
        largest.append(np.abs(wanted).max())
        agree = bool(got.argmax() == wanted.argmax())
        same += agree
        margins += [] if agree else [float(np.diff(np.sort(wanted.ravel())[-2:])[0])]
    pixels = np.concatenate(steps)
    return {
        "form": form.name,
        "photographs": len(photographs),
        "pixel_steps": {
            "mean": float(pixels.mean()),
            "largest": float(pixels.max()),
            "share_different": float((pixels > 0.5).mean()),
            "share_beyond_one": float((pixels > 1.001).mean()),
        },
        "logits": {
            "mean_difference": float(np.mean(differences)),
            "largest_difference": float(np.max(differences)),
            "largest_logit": float(np.max(largest)),
        },
        "same_class": same,
        "margins_of_the_others": margins,
    }


def build(model: Path, folder: Path) -> dict[str, Any]:
    """A TensorRT-RTX engine for compute capability 8.6."""
    engine = folder / f"{model.stem}.engine"
    start = time.perf_counter()
    options = gd.BuildOptions(compute_capabilities=((8, 6),))
    try:
        gd.build(model, engine, backend="tensorrt-rtx", options=options)
    except GoogLeNetDeployError as error:
        print(error, file=sys.stderr)
    built = engine.exists()
    seconds = time.perf_counter() - start
    return {"built": built, "seconds": seconds, "megabytes": engine.stat().st_size / 1e6 if built else None}


def cpu_times(base: Path, framed: dict[str, Path], rounds: int) -> list[dict[str, Any]]:
    """Milliseconds from a frame in memory to logits on one thread, both ways in turn."""
    found = []
    plain = session(load_model(base))
    for size, frame_size in SIZES.items():
        ours = session(load_model(framed[f"FP32, {size}"]))
        frame = np.random.default_rng(1).integers(0, 256, (*frame_size, 3), np.uint8)
        spec = BVLC.with_frame_input(frame_size)
        timings = interleaved(
            {
                "Pillow and network": lambda frame=frame: plain(preprocess(Image.fromarray(frame), BVLC)[np.newaxis]),
                "Pillow alone": lambda frame=frame: preprocess(Image.fromarray(frame), BVLC),
                "inside the graph": lambda frame=frame, spec=spec, ours=ours: ours(normalize(frame, spec)[np.newaxis]),
            },
            rounds,
        )
        found.append({"frames": size, **{name: timing.median * 1e3 for name, timing in timings.items()}})
    return found


def show(results: list[dict[str, Any]], times: list[dict[str, Any]]) -> None:
    """The tables."""
    rows = []
    for result in results:
        pixels, logits, engine = result["pixel_steps"], result["logits"], result.get("tensorrt_rtx")
        built = "-" if engine is None else f"{engine['seconds']:.1f}" if engine["built"] else "failed"
        cells = (f"{pixels['mean']:.3f}", f"{pixels['largest']:.0f}", f"{pixels['share_beyond_one']:.3%}")
        cells += (f"{logits['mean_difference']:.3f}", f"{logits['largest_difference']:.2f}")
        rows.append((result["form"], *cells, f"{result['same_class']}/{result['photographs']}", built))
    table(("", "mean steps", "most", "beyond 1", "logits mean", "logits most", "same class", "RTX build s"), rows)
    for result in results:
        if result["margins_of_the_others"]:
            texts = ", ".join(f"{margin:.3f}" for margin in sorted(result["margins_of_the_others"]))
            say(f"{result['form']}: where the classes differ, the two best logits were {texts} apart")
    say("")
    names = ("Pillow and network", "Pillow alone", "inside the graph")
    lines = [(entry["frames"], *(f"{entry[name]:.1f}" for name in names)) for entry in times]
    table(("ms on one thread of this CPU", *names), lines)


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--photographs", type=int, default=100, metavar="N", help="of them (default %(default)s)")
    parser.add_argument("--fp16", type=Path, metavar="FILE", help="the FP16 model, if it is made")
    parser.add_argument("--int8", type=Path, metavar="FILE", help="the Q/DQ model of the same weights, if it is made")
    arguments = parser.parse_args()
    images = sorted(path for path in IMAGES.iterdir() if path.is_file())
    photographs = images[:: max(1, len(images) // arguments.photographs)][: arguments.photographs]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bases = {"fp32": bvlc_onnx(), "fp16": arguments.fp16, "int8": arguments.int8 or bvlc_int8_onnx()}
        if arguments.fp16 is None:
            bases["fp16"] = folder / "fp16.onnx"
            gd.export(onnx=bases["fp32"], output=bases["fp16"], half="fp16")
        results, framed = [], {}
        for number, form in enumerate(FORMS):
            path = framed[form.name] = with_frames(bases[form.base], form, folder / f"{number}.onnx")
            results.append(compare(form, bases[form.base], path, photographs))
            if find_spec("tensorrt_rtx") and form.size == "1080p":
                results[-1]["tensorrt_rtx"] = build(path, folder)
        times = cpu_times(bases["fp32"], framed, arguments.rounds)
    show(results, times)
    if arguments.record:
        record("frame_input", {"forms": results, "cpu_milliseconds": times})
    return 0


if __name__ == "__main__":
    sys.exit(main())
