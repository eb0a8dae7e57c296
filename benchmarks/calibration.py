"""Time and peak memory of calibration, and of learned rounding, by the number of images.

Every run is a process of its own. Ours gathers the ranges of all methods in one pass and keeps no activations, so its
memory is that of one batch; ONNX Runtime's MinMax keeps two numbers per tensor, its entropy method all activations of
32 images here. Ratios are to ONNX Runtime's MinMax on the same images.

    python benchmarks/calibration.py [--rounds 1] [--record]
"""

from __future__ import annotations

import random
import statistics
import sys

from harness import IMAGES, ROOT, bvlc_onnx, options, record, table
from quantization import quantised

COUNTS = (64, 256, 500)
MINMAX = "onnxruntime MinMax, inputs of Conv/Gemm"
METHODS = {
    "ours: plain rounding": COUNTS,
    "ours: bias (the default)": COUNTS,
    "ours: rounding": COUNTS,
    MINMAX: COUNTS,
    "onnxruntime Entropy, strides of 32, inputs": (256,),
}


def main() -> int:
    arguments = options(__doc__ or "", rounds=1).parse_args()
    folder = ROOT / "build" / "quantization"
    folder.mkdir(parents=True, exist_ok=True)
    model, paths = bvlc_onnx(), sorted(IMAGES.glob("*.jpg"))
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(arguments.rounds):
        for count in COUNTS:
            listing = folder / f"{count}.txt"
            chosen = random.Random(0).sample(paths, count)
            listing.write_text("".join(f"{path}\n" for path in sorted(chosen)), encoding="utf-8")
            for method in (name for name, counts in METHODS.items() if count in counts):
                cost = quantised(method, model, folder / "calibration.onnx", listing)
                if cost is not None:
                    found.setdefault((method, count), []).append(cost)
    report(found)
    if arguments.record:
        record("calibration", {f"{method}, {count} images": costs for (method, count), costs in found.items()})
    return 0


def report(found: dict[tuple[str, int], list[dict[str, float]]]) -> None:
    """Prints medians over the rounds, and ratios within them."""
    rows = []
    for (method, count), costs in found.items():
        peers = found.get((MINMAX, count), [])
        ratio = statistics.median(own["seconds"] / peer["seconds"] for own, peer in zip(costs, peers, strict=False))
        seconds = statistics.median(cost["seconds"] for cost in costs)
        megabytes = statistics.median(cost["peak_megabytes"] for cost in costs)
        rows.append((method, str(count), f"{seconds:.1f}", f"{ratio:.2f}", f"{megabytes:.0f}"))
    table(("method", "images", "s", "x time of MinMax", "MB"), rows)


if __name__ == "__main__":
    sys.exit(main())
