"""ONNX Runtime's latency with ``--merge-1x1`` on and off, by batch size.

python benchmarks/merge_1x1.py [--rounds 15] [--record]
"""

from __future__ import annotations

import sys

import numpy as np
from harness import ROOT, WEIGHTS, bvlc_onnx, interleaved, options, record, table
from lrn import REPEATS, repeated, session

from googlenet_deploy.cli.main import main as googlenet_deploy

BATCHES = (1, 8)


def main() -> int:
    arguments = options(__doc__ or "").parse_args()
    merged_path = ROOT / "build" / "bvlc-merged.onnx"
    command = ["export", "--weights", str(WEIGHTS), "--merge-1x1", "--output", str(merged_path), "--quiet"]
    if googlenet_deploy(command) != 0:
        return 1
    sessions = {"separate": session(bvlc_onnx()), "merged": session(merged_path)}
    rows, figures = [], {}
    for batch in BATCHES:
        x = np.random.default_rng(0).uniform(-120, 150, (batch, 3, 224, 224)).astype(np.float32)
        timings = interleaved({name: repeated(each, x) for name, each in sessions.items()}, arguments.rounds)
        ratio = timings["merged"].ratio_to(timings["separate"])
        milliseconds = {name: timing.median * 1e3 / REPEATS / batch for name, timing in timings.items()}
        rows.append((str(batch), f"{milliseconds['separate']:.1f}", f"{milliseconds['merged']:.1f}", f"{ratio:.2f}"))
        figures[f"batch {batch}"] = {"milliseconds_per_image": milliseconds, "speed_ratio_merged_to_separate": ratio}
    table(("batch", "separate ms/image", "merged ms/image", "times as fast merged"), rows)
    if arguments.record:
        record("merge-1x1", {"figures": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
