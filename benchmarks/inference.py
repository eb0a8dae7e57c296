"""Images per second of ``infer`` and of preprocessing alone, against a plain loop over Pillow and onnxruntime.

The plain loop is what most people write: open, resize, crop, to float, subtract, run, one image after the other, in
a session with ONNX Runtime's defaults. Both sides classify the same files; their top-1 answers are compared. ``infer``
runs in ONNX Runtime too, and in what it chooses by itself, which may be OpenVINO.

    python benchmarks/inference.py [--rounds 3] [--images 100] [--record]
"""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from harness import IMAGES, ROOT, Timing, bvlc_onnx, interleaved, options, record, say, table
from PIL import Image

from googlenet_deploy.cli.main import main as googlenet_deploy
from googlenet_deploy.device.pipeline import ImageBatches
from googlenet_deploy.device.sources import ImageSource
from googlenet_deploy.device.specification import BVLC

MEAN = np.array([104.0, 117.0, 123.0], np.float32)
ANSWERS = ROOT / "build" / "answers.csv"


def plain_preprocess(path: Path) -> np.ndarray:
    """The same preparation, written down step by step."""
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


def main() -> int:
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--images", type=int, default=100, help="how many images (default %(default)s)")
    arguments = parser.parse_args()
    model, paths = bvlc_onnx(), sorted(IMAGES.glob("*.jpg"))[: arguments.images]
    plain = plain_loop(model, paths)
    our_infer(model, paths)
    equal = sum(ours == theirs for ours, theirs in zip(our_answers(), plain, strict=True))
    say(f"same best class for {equal} of {len(paths)} images")

    end_to_end = interleaved(
        {
            "plain loop": lambda: plain_loop(model, paths),
            "infer --backend onnxruntime": lambda: our_infer(model, paths, "--backend", "onnxruntime"),
            "infer": lambda: our_infer(model, paths),
            "infer --batch 1": lambda: our_infer(model, paths, "--batch", "1"),
        },
        arguments.rounds,
    )
    preprocessing = interleaved(
        {
            "plain loop": lambda: [plain_preprocess(path) for path in paths],
            "ours, one thread": lambda: our_preprocessing(paths, 1),
            "ours, a thread per core": lambda: our_preprocessing(paths, None),
        },
        arguments.rounds,
    )
    ratios = report("end to end", end_to_end, "plain loop", len(paths))
    alone = report("preprocessing alone", preprocessing, "plain loop", len(paths))
    if arguments.record:
        rate = {name: len(paths) / timing.median for name, timing in end_to_end.items()}
        rate_alone = {name: len(paths) / timing.median for name, timing in preprocessing.items()}
        record(
            "inference",
            {
                "images": len(paths),
                "same_best_class": equal,
                "end_to_end_images_per_second": rate,
                "end_to_end_ratio_to_plain_loop": ratios,
                "preprocessing_images_per_second": rate_alone,
                "preprocessing_ratio_to_plain_loop": alone,
            },
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
