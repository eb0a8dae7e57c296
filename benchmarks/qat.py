"""Quantisation-aware training of BVLC GoogLeNet: how much nearer to FP32 it comes than calibration does.

256 seeded images calibrate. Of the same images 224 are learned from, by imitating the FP32 network without their
labels, and 32 choose the epoch. Everything is measured on the other images, by the real commands.

    python benchmarks/qat.py [--epochs 4] [--record]
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from commands import command, evaluate
from harness import IMAGES, LABELS, ROOT, bvlc_onnx, options, record, say, table
from quantization import split

CALIBRATION, CHOOSING = 256, 32
METHODS = ("auto", "mse", "max")
COLUMNS = ("sqnr", "agreement", "kl_divergence", "top1")


def listing(path: Path, images: list[Path], labels: dict[str, str], mark: str = "") -> str:
    """Rows of filename,label, or with their split, added to a file."""
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{image.name},{labels[image.name]}{mark}\n" for image in images)
    return str(path)


def listings(folder: Path) -> tuple[str, str, str]:
    """What calibrates, what trains and chooses, and what measures."""
    with LABELS.open(encoding="utf-8") as stream:
        labels = {row["filename"]: row["label"] for row in csv.DictReader(stream)}
    chosen, held_out = split(CALIBRATION, 0)
    calibrate, learn, measure = (folder / name for name in ("calibrate.txt", "learn.csv", "measure.csv"))
    calibrate.write_text("".join(f"{path}\n" for path in chosen), encoding="utf-8")
    learn.unlink(missing_ok=True)
    measure.write_text("filename,label\n", encoding="utf-8")
    choosing = chosen[:: CALIBRATION // CHOOSING]
    listing(learn, [path for path in chosen if path not in choosing], labels, ",train")
    return str(calibrate), listing(learn, choosing, labels, ",val"), listing(measure, held_out, labels)


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--epochs", type=int, default=4, help="default %(default)s")
    arguments = parser.parse_args()
    folder = ROOT / "build" / "qat"
    folder.mkdir(parents=True, exist_ok=True)
    model, (calibrate, learn, measure) = bvlc_onnx(), listings(folder)
    table_file, results = folder / "table.json", {}
    command("calibrate", model, "--images", calibrate, "--output", table_file, "--quiet")
    against = ("--labels", measure, "--reference", model, "--layers", "0")
    for method in METHODS:
        output = folder / f"{method}.onnx"
        command("quantize", model, "--table", table_file, "--method", method, "--output", output, "--quiet")
        results[f"calibrated, {method}"] = evaluate(output, IMAGES, *against)
    trained = folder / "trained.onnx"
    cost = command(
        *("train", "--data", learn, "--images", IMAGES, "--qat", model, "--table", table_file, "--output", trained),
        *("--distillation", "1", "--epochs", str(arguments.epochs), "--batch-size", "8", "--min-area", "0.6"),
        "--quiet",
    )
    results["trained, chosen epoch"] = evaluate(trained, IMAGES, *against)
    results["trained, last epoch"] = evaluate(trained.with_name("trained.last.onnx"), IMAGES, *against)
    took = f"{cost.seconds:.0f} s, {cost.core_seconds:.0f} of all cores"
    say(f"training: {arguments.epochs} epochs of {CALIBRATION - CHOOSING} images, {took}")
    lines = [(name, *(f"{figures[column]:.4g}" for column in COLUMNS)) for name, figures in results.items()]
    table(("", "SQNR dB", "agree %", "KL", "top-1 %"), lines)
    if arguments.record:
        record("qat", {"epochs": arguments.epochs, **cost._asdict(), "results": results})
    best = max(figures["sqnr"] for name, figures in results.items() if name.startswith("calibrated"))
    return 0 if results["trained, chosen epoch"]["sqnr"] > best else 3


if __name__ == "__main__":
    sys.exit(main())
