"""INT8 quantisers side by side on BVLC GoogLeNet: accuracy, error, time, memory and CPU latency of the result.

A seeded sample of the images calibrates; every figure comes from the images that no calibration saw, in ONNX Runtime.
Peers that are not installed are left out and named. Model-Optimizer needs no GPU for this when installed with
the packages of benchmarks/peers.txt:

    pip install --target build/peers --no-deps --requirement benchmarks/peers.txt
    python benchmarks/quantization.py [--calibration 256] [--seed 0] [--only ours] [--record]
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from harness import IMAGES, LABELS, ROOT, Timing, bvlc_onnx, interleaved, options, record, table
from lrn import REPEATS, repeated, session
from quantization_worker import METHODS, prepared

PEERS = ROOT / "build" / "peers"


@dataclass(frozen=True)
class Figures:
    """Metrics of one method's model on the hold-out images."""

    seconds: float
    peak_megabytes: float
    top1_percent: float
    agreement_percent: float
    kl_divergence: float
    logit_sqnr_db: float
    int8_convolutions: str
    milliseconds: float = 0.0


def quantised(method: str, model: Path, output: Path, listing: Path) -> dict[str, float] | None:
    """Runs one method in a process of its own; returns its seconds and peak memory, or None if it failed."""
    output.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PEERS), os.environ.get("PYTHONPATH", "")])}
    worker = Path(__file__).with_name("quantization_worker.py")
    command = [sys.executable, str(worker), method, str(model), str(output), str(listing)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode != 0 or not output.exists():
        words = result.stderr.strip().splitlines() or ["no message"]
        print(f"left out: {method}: {words[-1]}")
        return None
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures


def logits(model: Path, paths: list[Path]) -> np.ndarray:
    """Logits (N, classes) of a model, image by image, since some peers fix the batch at 1."""
    runner = session(model)
    name = runner.get_inputs()[0].name
    return np.concatenate([runner.run(None, {name: prepared(path)})[0] for path in paths])


def log_softmax(values: np.ndarray) -> np.ndarray:
    shifted = values - values.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def compare(reference: np.ndarray, other: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Top-1, argmax agreement, mean KL divergence and logit SQNR of `other` against FP32 logits."""
    reference, other = reference.astype(np.float64), other.astype(np.float64)
    log_p, log_q = log_softmax(reference), log_softmax(other)
    noise = ((reference - other) ** 2).sum()
    return {
        "top1_percent": float((other.argmax(1) == labels).mean() * 100),
        "agreement_percent": float((other.argmax(1) == reference.argmax(1)).mean() * 100),
        "kl_divergence": float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean()),
        "logit_sqnr_db": float(10 * np.log10((reference**2).sum() / noise)),
    }


def count_int8(path: Path) -> str:
    """The number of convolutions and Gemms with both inputs from DequantizeLinear."""
    import onnx

    graph = onnx.load(path).graph
    producers = {output: node.op_type for node in graph.node for output in node.output}
    layers = [node for node in graph.node if node.op_type in {"Conv", "Gemm"}]
    quantised_layers = [
        node for node in layers if all(producers.get(name) == "DequantizeLinear" for name in node.input[:2])
    ]
    return f"{len(quantised_layers)}/{len(layers)}"


def split(count: int, seed: int) -> tuple[list[Path], list[Path]]:
    """A seeded sample of `count` images for calibration, and the rest."""
    paths = sorted(IMAGES.glob("*.jpg"))
    chosen = set(random.Random(seed).sample(paths, count))
    return sorted(chosen), [path for path in paths if path not in chosen]


def selected(only: str | None) -> Iterator[str]:
    return (name for name in METHODS if only is None or name.startswith(only))


def latencies(models: dict[str, Path], rounds: int) -> dict[str, Timing]:
    """ONNX Runtime at batch 1 on the CPU, interleaved."""
    x = prepared(min(IMAGES.glob("*.jpg")))
    return interleaved({name: repeated(session(path), x) for name, path in models.items()}, rounds)


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--calibration", type=int, default=256, help="calibration images (default 256)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample of calibration images (default 0)")
    parser.add_argument("--only", help="only the methods whose names begin so, such as 'ours'")
    arguments = parser.parse_args()

    model = bvlc_onnx()
    calibration, held_out = split(arguments.calibration, arguments.seed)
    folder = ROOT / "build" / "quantization"
    folder.mkdir(parents=True, exist_ok=True)
    listing = folder / "calibration.txt"
    listing.write_text("".join(f"{path}\n" for path in calibration), encoding="utf-8")
    with LABELS.open(encoding="utf-8") as stream:
        by_name = {row["filename"]: int(row["label"]) for row in csv.DictReader(stream)}
    labels = np.array([by_name[path.name] for path in held_out])

    reference = logits(model, held_out)
    results: dict[str, Figures] = {}
    models = {"FP32": model}
    for number, method in enumerate(selected(arguments.only)):
        output = folder / f"method-{number}.onnx"
        cost = quantised(method, model, output, listing)
        if cost is not None:
            models[method] = output
            figures = compare(reference, logits(output, held_out), labels)
            results[method] = Figures(**cost, **figures, int8_convolutions=count_int8(output))
    timings = latencies(models, arguments.rounds)
    report(results, timings, float((reference.argmax(1) == labels).mean() * 100))
    if arguments.record:
        rows = {
            name: {**asdict(figures), "milliseconds": timings[name].median * 1e3 / REPEATS}
            for name, figures in results.items()
        }
        record(
            "quantization" + (f"-seed-{arguments.seed}" if arguments.seed else ""),
            {
                "calibration_images": len(calibration),
                "evaluation_images": len(held_out),
                "seed": arguments.seed,
                "fp32_milliseconds": timings["FP32"].median * 1e3 / REPEATS,
                "methods": rows,
            },
        )
    return 0


def report(results: dict[str, Figures], timings: dict[str, Timing], fp32_top1: float) -> None:
    """Prints the table; latency as the median ratio to FP32 in the same rounds."""
    print(f"FP32: top-1 {fp32_top1:.1f} %, {timings['FP32'].median * 1e3 / REPEATS:.1f} ms/image")
    headings = ("method", "SQNR dB", "agree %", "KL", "top-1 %", "INT8", "s", "MB", "x FP32 speed")
    rows = [
        (
            name,
            f"{f.logit_sqnr_db:.2f}",
            f"{f.agreement_percent:.1f}",
            f"{f.kl_divergence:.4f}",
            f"{f.top1_percent:.1f}",
            f.int8_convolutions,
            f"{f.seconds:.1f}",
            f"{f.peak_megabytes:.0f}",
            f"{timings[name].ratio_to(timings['FP32']):.2f}",
        )
        for name, f in results.items()
    ]
    table(headings, rows)


if __name__ == "__main__":
    sys.exit(main())
