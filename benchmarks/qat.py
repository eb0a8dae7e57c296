"""Quantisation-aware training of BVLC GoogLeNet: how much closer to FP32 it is than calibration alone.

256 seeded images calibrate and refine. Of the same images 224 are learned from, by imitating the FP32 network without
their labels, and 32 choose the epoch. Training starts from the table alone, and from each refined calibration.
Everything is measured on the other images, by the real commands.

    python benchmarks/qat.py [--epochs 4] [--refined-epochs 2] [--device auto] [--record]
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from commands import Cost, command, evaluate
from harness import IMAGES, LABELS, ROOT, bvlc_onnx, options, record, say, table
from quantization import split

CALIBRATION, CHOOSING = 256, 32
METHODS = ("auto", "mse", "max")
REFINED = ("fast", "best", "best,offset")
# The baseline that each starting point of training is compared with.
STARTS = {"none": "calibrated, auto", "best": "refined, best", "best,offset": "refined, best,offset"}
COLUMNS = ("sqnr", "agreement", "kl_divergence", "top1")


def listing(path: Path, images: list[Path], labels: dict[str, str], mark: str = "") -> str:
    """Appends rows of filename,label, optionally with the split, to a file."""
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{image.name},{labels[image.name]}{mark}\n" for image in images)
    return str(path)


def listings(folder: Path) -> tuple[str, str, str]:
    """The listings for calibration, for training and choosing the epoch, and for testing."""
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


def calibrated(model: Path, calibrate: str, folder: Path, against: tuple[str | Path, ...]) -> dict[str, Any]:
    """The results of calibration alone, by threshold method and refinements."""
    results = {}
    for method in METHODS:
        output = folder / f"{method}.onnx"
        options = ("--table", folder / "table.json", "--method", method, "--output", output, "--quiet")
        command("quantize", model, *options)
        results[f"calibrated, {method}"] = evaluate(output, IMAGES, *against)
    for start in REFINED:
        output = folder / f"{start.replace(',', '-')}.onnx"
        options = ("--images", calibrate, "--refine", start, "--output", output, "--check-images", "0", "--quiet")
        command("quantize", model, *options)
        results[f"refined, {start}"] = evaluate(output, IMAGES, *against)
    return results


def train(learn: str, folder: Path, output: Path, start: str, epochs: int, *more: str) -> Cost:
    """Trains from a starting point by imitating the FP32 network."""
    return command(
        *("train", "--data", learn, "--images", IMAGES, "--qat", bvlc_onnx(), "--table", folder / "table.json"),
        *("--output", output, "--refine", start, "--epochs", str(epochs)),
        *("--distillation", "1", "--min-area", "0.6", "--quiet", *more),
    )


def trained(
    learn: str, folder: Path, start: str, epochs: int, device: str, against: tuple[str | Path, ...]
) -> tuple[dict[str, Any], Cost]:
    """The results of training from a starting point, at the epoch chosen by 32 images and at the last one."""
    output = folder / f"trained-{start.replace(',', '-')}.onnx"
    cost = train(learn, folder, output, start, epochs, "--batch-size", "8", "--device", device)
    last = output.with_name(f"{output.stem}.last.onnx")
    return {
        f"trained from {start}, chosen epoch": evaluate(output, IMAGES, *against),
        f"trained from {start}, last epoch": evaluate(last, IMAGES, *against),
    }, cost


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--epochs", type=int, default=4, help="from the table alone (default %(default)s)")
    parser.add_argument("--refined-epochs", type=int, default=2, help="from refined calibration (default %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default %(default)s)")
    arguments = parser.parse_args()
    folder = ROOT / "build" / "qat"
    folder.mkdir(parents=True, exist_ok=True)
    model, (calibrate, learn, measure) = bvlc_onnx(), listings(folder)
    command("calibrate", model, "--images", calibrate, "--output", folder / "table.json", "--quiet")
    against = ("--labels", measure, "--reference", model, "--layers", "0")
    results, costs = calibrated(model, calibrate, folder, against), {}
    for start in STARTS:
        epochs = arguments.epochs if start == "none" else arguments.refined_epochs
        found, cost = trained(learn, folder, start, epochs, arguments.device, against)
        results.update(found)
        costs[start] = cost._asdict()
        say(f"{epochs} epochs of {CALIBRATION - CHOOSING} images from {start}: {cost.seconds:.0f} s")
    lines = [(name, *(f"{figures[column]:.4g}" for column in COLUMNS)) for name, figures in results.items()]
    table(("", "SQNR dB", "agree %", "KL", "top-1 %"), lines)
    if arguments.record:
        record("qat", {"costs": costs, "results": results})
    gains = (
        results[f"trained from {start}, chosen epoch"]["sqnr"] - results[before]["sqnr"]
        for start, before in STARTS.items()
    )
    return 0 if min(gains) > 0 else 3


if __name__ == "__main__":
    sys.exit(main())
