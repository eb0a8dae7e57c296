"""Images per second of ``infer`` and of preprocessing alone, against a plain loop over Pillow and onnxruntime.

The plain loop is what most people write: open, resize, crop, to float, subtract, run, one image after the other, in
a session with ONNX Runtime's defaults. Both sides classify the same files; their top-1 answers are compared. ``infer``
is measured with ONNX Runtime and with the backend that it chooses itself, which may be OpenVINO.

    python benchmarks/inference.py [--rounds 3] [--images 100] [--record]
"""

from __future__ import annotations

import contextlib
import csv
import io
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
from harness import (
    IMAGES,
    ROOT,
    Timing,
    bvlc_int8_onnx,
    bvlc_onnx,
    interleaved,
    options,
    peak_megabytes,
    record,
    say,
    table,
)
from PIL import Image

from googlenet_deploy.cli.main import main as googlenet_deploy
from googlenet_deploy.device.images.pipeline import ImageBatches
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.specification import BVLC

MEAN = np.array([104.0, 117.0, 123.0], np.float32)
ANSWERS = ROOT / "build" / "answers.csv"
PLAIN = "plain loop"
FASTER, START_SECONDS, PEAK_MB = 4.0, 1.0, 500.0
POLL = 0.01  # seconds between two readings of a process's memory


def plain_preprocess(path: Path) -> np.ndarray:
    """The same preparation, written out step by step."""
    image = Image.open(path).convert("RGB")
    width, height = image.size
    short = min(width, height)
    image = image.resize((round(256 * width / short), round(256 * height / short)), Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    image = image.crop((left, top, left + 224, top + 224))
    pixels = np.asarray(image, np.float32)[:, :, ::-1] - MEAN
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))[np.newaxis]


def plain_loop(model: Path, paths: list[Path]) -> list[int]:
    """Best class of each image."""
    session = onnxruntime.InferenceSession(str(model))
    return [int(session.run(None, {"input": plain_preprocess(path)})[0].argmax()) for path in paths]


def our_infer(model: Path, paths: list[Path], *flags: str) -> None:
    arguments = ["infer", str(model), *map(str, paths), "--top-k", "1", "--csv", str(ANSWERS), "--quiet", *flags]
    with contextlib.redirect_stderr(io.StringIO()):
        if googlenet_deploy(arguments) != 0:
            raise SystemExit("infer failed")


def our_answers() -> list[int]:
    with ANSWERS.open(encoding="utf-8") as stream:
        return [int(row["class"]) for row in csv.DictReader(stream)]


def our_preprocessing(paths: list[Path], workers: int | None) -> None:
    for _ in ImageBatches([ImageSource(str(path)) for path in paths], BVLC, 8, workers=workers):
        pass


def report(title: str, timings: dict[str, Timing], peer: str, count: int) -> dict[str, float]:
    """Prints images/s and the ratio to the peer; returns the ratios."""
    say(f"{title}, {count} images")
    rows, ratios = [], {}
    for name, timing in timings.items():
        ratios[name] = timing.ratio_to(timings[peer])
        rows.append((name, f"{count / timing.median:.1f}", f"{ratios[name]:.2f}"))
    table(("", "images/s", f"x {peer}"), rows)
    return ratios


def process(*arguments: str) -> tuple[float, float]:
    """Seconds and peak memory in MB of a command in a process of its own."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "googlenet_deploy",
            "infer",
            *arguments,
            "--json",
            str(ROOT / "build" / "answers.jsonl"),
        ],
        stderr=subprocess.DEVNULL,
    )
    peak = 0.0
    while child.poll() is None:
        peak = max(peak, peak_megabytes(child.pid))
        time.sleep(POLL)
    seconds = time.perf_counter() - start
    if child.returncode:
        raise SystemExit("infer failed")
    return seconds, peak


def variants() -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Model and options of each way of running."""
    float_model, int8_model = bvlc_onnx(), bvlc_int8_onnx()
    found: dict[str, tuple[Path, tuple[str, ...]]] = {}
    for title, model in (("FP32", float_model), ("INT8", int8_model)):
        if find_spec("openvino") is not None:
            found[f"{title}, OpenVINO"] = (model, ("--backend", "openvino"))
        found[f"{title}, ONNX Runtime"] = (model, ("--backend", "onnxruntime"))
        found[f"{title}, ONNX Runtime, graph as it stands"] = (model, ("--backend", "onnxruntime", "--as-is"))
    return found


def starts(ways: dict[str, tuple[Path, tuple[str, ...]]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds of a process that classifies one image, and peak MB of one that classifies all."""
    image = str(next(iter(sorted(IMAGES.glob("*.jpg")))))
    found = {}
    for name, (model, flags) in ways.items():
        seconds = [process(str(model), image, *flags)[0] for _ in range(rounds + 1)][1:]
        found[name] = (statistics.median(seconds), process(str(model), str(IMAGES), *flags)[1])
    return found


def verdict(ratios: dict[str, float], started: dict[str, tuple[float, float]]) -> list[str]:
    """Describes what does not hold."""
    ours = {name: ratio for name, ratio in ratios.items() if "as it stands" not in name}
    wrong = [f"{name} is slower than the plain loop" for name, ratio in ours.items() if ratio < 1]
    if ratios.get("INT8, OpenVINO", FASTER) < FASTER:
        wrong.append(f"INT8 in OpenVINO is {ratios['INT8, OpenVINO']:.2f} times the plain loop, not {FASTER:g}")
    for name, (seconds, megabytes) in started.items():
        wrong += [f"{name} starts in {seconds:.2f} s"] if seconds > START_SECONDS else []
        wrong += [f"{name} takes {megabytes:.0f} MB"] if megabytes > PEAK_MB else []
    return wrong


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--images", type=int, default=200, help="how many images (default 200)")
    arguments = parser.parse_args()
    ways, paths = variants(), sorted(IMAGES.glob("*.jpg"))[: arguments.images]
    float_model = bvlc_onnx()
    plain = plain_loop(float_model, paths)
    equal = {}
    for name, (model, flags) in ways.items():
        our_infer(model, paths, *flags)
        equal[name] = sum(ours == theirs for ours, theirs in zip(our_answers(), plain, strict=True))
        print(f"{name}: the plain loop's best class for {equal[name]} of {len(paths)} images")
    runs = {
        name: (lambda model=model, flags=flags: our_infer(model, paths, *flags))
        for name, (model, flags) in ways.items()
    }
    end_to_end = interleaved({PLAIN: lambda: plain_loop(float_model, paths), **runs}, arguments.rounds)
    preprocessing = interleaved(
        {
            PLAIN: lambda: [plain_preprocess(path) for path in paths],
            "ours, one thread": lambda: our_preprocessing(paths, 1),
            "ours, a thread per core": lambda: our_preprocessing(paths, None),
        },
        arguments.rounds,
    )
    ratios = report("end to end", end_to_end, PLAIN, len(paths))
    alone = report("preprocessing alone", preprocessing, PLAIN, len(paths))
    started = starts(ways, arguments.rounds)
    table(
        ("one image in a process of its own", "s", "peak MB of all images"),
        [(name, f"{seconds:.2f}", f"{megabytes:.0f}") for name, (seconds, megabytes) in started.items()],
    )
    if arguments.record:
        record(
            "inference",
            {
                "images": len(paths),
                "same_best_class_as_plain_fp32": equal,
                "end_to_end_images_per_second": rates(end_to_end, len(paths)),
                "end_to_end_ratio_to_plain_loop": ratios,
                "preprocessing_images_per_second": rates(preprocessing, len(paths)),
                "preprocessing_ratio_to_plain_loop": alone,
                "start_seconds": {name: seconds for name, (seconds, _) in started.items()},
                "peak_megabytes": {name: megabytes for name, (_, megabytes) in started.items()},
            },
        )
    wrong = verdict({name: ratio for name, ratio in ratios.items() if name != PLAIN}, started)
    print(f"does not hold: {'; '.join(wrong) or 'nothing'}")
    return 1 if wrong else 0


def rates(timings: dict[str, Timing], count: int) -> dict[str, float]:
    """Images per second."""
    return {name: count / timing.median for name, timing in timings.items()}


if __name__ == "__main__":
    sys.exit(main())
