"""Handwritten digits through the real commands: accuracy and time, quantisation-aware training, 2:4 sparsity.

scikit-learn's 1797 digits, of which 360 are held out and decide nothing. One seed per round: the network is trained
from scratch, exported, and then quantised twice with thresholds of plain MinMax, with and without quantisation-aware
training; and pruned to two of every four weights, as it is and with five epochs to recover.

One image is 0.28 points, and a few images are so ambiguous that any rounding may change their class, in either
direction. So INT8 is compared with FP32 over the images of all rounds together.

    python benchmarks/digits.py [--rounds 3] [--record]
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from commands import command, evaluate
from harness import ROOT, options, record, say, table

sys.path.insert(0, str(ROOT / "examples"))
from digits_demo import Paths, write_digits

SHAPE = ("--width", "0.25", "--input-size", "64")
LIGHT = ("--augmentation", "light", "--quiet")
REQUIRED_PERCENT, REQUIRED_SECONDS, QAT_POINTS = 98.0, 120.0, 0.1


def one_round(paths: Paths, seed: int) -> dict[str, float]:
    """Trains with one seed and runs all variants from there; accuracy in percent on the held-out digits."""
    folder = paths.folder / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    dense, images = folder / "dense", paths.held_out
    learn = ("train", "--data", paths.train, "--seed", str(seed), *LIGHT)
    cost = command(*learn, "--output", f"{dense}.safetensors", *SHAPE, "--epochs", "15")
    figures = {**cost._asdict(), "fp32": exported(dense, images)}
    return {**figures, **quantised(dense, learn, images), **pruned(dense, learn, images)}


def exported(weights: Path, images: Path) -> float:
    model = weights.with_suffix(".onnx")
    command("export", "--weights", weights.with_suffix(".safetensors"), "--output", model, "--quiet")
    return evaluate(model, images)["top1"]


def quantised(dense: Path, learn: tuple[str | Path, ...], images: Path) -> dict[str, float]:
    """INT8 with MinMax thresholds: as calibrated, and after quantisation-aware training."""
    model, table_file = dense.with_suffix(".onnx"), dense.with_suffix(".table.json")
    plain, trained = dense.with_suffix(".minmax.onnx"), dense.with_suffix(".qat.onnx")
    minmax = ("--table", table_file, "--method", "max")
    command("calibrate", model, "--images", learn[2], "--output", table_file, "--quiet")
    command("quantize", model, *minmax, "--output", plain, "--quiet")
    command(*learn, "--qat", model, *minmax, "--output", trained, "--epochs", "3")
    found = {}
    for name, path in (("minmax", plain), ("qat", trained)):
        figures = evaluate(path, images, "--reference", model, "--layers", "0")
        found |= {name: figures["top1"], f"{name}_sqnr": figures["sqnr"]}
    return found


def pruned(dense: Path, learn: tuple[str | Path, ...], images: Path) -> dict[str, float]:
    """2:4 sparsity, without training (a negligible learning rate) and with; and the latter in INT8."""
    found = {}
    start = ("--weights", f"{dense}.safetensors", "--sparsity", "2:4")
    for name, how in (("pruned", ("--epochs", "1", "--lr", "1e-12")), ("recovered", ("--epochs", "5"))):
        weights = dense.with_name(name)
        command(*learn, *start, "--output", f"{weights}.safetensors", *how)
        found[name] = exported(weights, images)
    sparse, output = dense.with_name("recovered.onnx"), dense.with_name("recovered.int8.onnx")
    command("quantize", sparse, "--images", learn[2], "--output", output, "--quiet")
    return {**found, "recovered_int8": evaluate(output, images)["top1"]}


def main() -> int:
    arguments = options(__doc__ or "", rounds=3).parse_args()
    paths = Paths(ROOT / "build" / "digits-benchmark")
    write_digits(paths)
    rounds = [one_round(paths, seed) for seed in range(arguments.rounds)]
    names = list(rounds[0])
    table(("seed", *names), [(str(seed), *(f"{row[name]:.2f}" for name in names)) for seed, row in enumerate(rounds)])
    means = {name: statistics.mean(row[name] for row in rounds) for name in names}
    table(("mean", *names), [("", *(f"{means[name]:.2f}" for name in names))])
    holds = {
        f"at least {REQUIRED_PERCENT:g} % in the time of two cores in {REQUIRED_SECONDS:g} s, in every round": all(
            row["fp32"] >= REQUIRED_PERCENT and row["core_seconds"] < 2 * REQUIRED_SECONDS for row in rounds
        ),
        f"QAT within {QAT_POINTS:g} points of FP32 and of MinMax, or above": all(
            means["qat"] >= means[other] - QAT_POINTS for other in ("fp32", "minmax")
        ),
        "QAT nearer to FP32's scores than MinMax, in every round": all(
            row["qat_sqnr"] > row["minmax_sqnr"] for row in rounds
        ),
    }
    for what, kept in holds.items():
        say(f"{what}: {'yes' if kept else 'NO'}")
    if arguments.record:
        record("digits", {"rounds": rounds, "means": means, "holds": holds})
    return 0


if __name__ == "__main__":
    sys.exit(main())
