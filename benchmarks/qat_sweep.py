"""Quantisation-aware training of BVLC GoogLeNet on a GPU, at many learning rates and lengths.

The images are split as in `qat.py`. Each run imitates the FP32 network and is measured at its last epoch: by `train` in
PyTorch on the 32 images that choose, and by `evaluate` on the 244 others.

    python benchmarks/qat_sweep.py [--device cuda] [--start none,best] [--lr 0.001,0.004] [--epochs 20,100] [--record]
"""

from __future__ import annotations

import csv
import itertools
import sys
from pathlib import Path
from typing import Any

from commands import command, evaluate
from harness import IMAGES, ROOT, bvlc_onnx, options, record, table
from qat import listings, train


def run(folder: Path, start: str, rate: str, epochs: str, device: str) -> dict[str, Any]:
    """One run of `train`, and its results."""
    _, learn, measure = listings(folder)
    output, log = folder / f"{start}-{rate}-{epochs}.onnx", folder / f"{start}-{rate}-{epochs}.csv"
    more = ("--log", str(log), "--lr", rate, "--batch-size", "32", "--device", device)
    cost = train(learn, folder, output, start.replace("+", ","), int(epochs), *more)
    with log.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    last = output.with_name(f"{output.stem}.last.onnx")
    return {
        "start": start,
        "learning_rate": float(rate),
        "epochs": int(epochs),
        "seconds": cost.seconds,
        "choosing_sqnr": float(rows[-1]["logit_sqnr_db"]),
        "measured": evaluate(last, IMAGES, "--labels", measure, "--reference", bvlc_onnx(), "--layers", "0"),
    }


def show(results: list[dict[str, Any]]) -> None:
    """Prints a row per run."""
    headings = ("start", "rate", "epochs", "s", "dB in PyTorch, 32 images", "dB, 244 images", "agree %")
    rows = [
        (
            result["start"],
            f"{result['learning_rate']:g}",
            str(result["epochs"]),
            f"{result['seconds']:.0f}",
            f"{result['choosing_sqnr']:.2f}",
            "-" if result["measured"] is None else f"{result['measured']['sqnr']:.2f}",
            "-" if result["measured"] is None else f"{result['measured']['agreement']:.1f}",
        )
        for result in results
    ]
    table(headings, rows)


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default %(default)s)")
    parser.add_argument("--start", default="none,best,best+offset", help="refinements (default %(default)s)")
    parser.add_argument("--lr", default="0.001,0.004,0.016", help="learning rates (default %(default)s)")
    parser.add_argument("--epochs", default="20,100", help="lengths (default %(default)s)")
    arguments = parser.parse_args()
    folder = ROOT / "build" / "qat"
    folder.mkdir(parents=True, exist_ok=True)
    calibrate = listings(folder)[0]
    command("calibrate", bvlc_onnx(), "--images", calibrate, "--output", folder / "table.json", "--quiet")
    choices = (text.split(",") for text in (arguments.start, arguments.lr, arguments.epochs))
    results = [run(folder, *choice, arguments.device) for choice in itertools.product(*choices)]
    show(results)
    if arguments.record:
        record("qat_sweep", {"runs": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
