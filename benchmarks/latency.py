"""What the benchmark itself costs: its median latency against a plain loop around the same runner, in the same rounds.

The plain loop is compared with the benchmark's loop, with the same loop beside a power sampler that reads six rails of
an AGX Xavier 50 times a second from files, and with the same loop while the clocks are read twice a second.

    python benchmarks/latency.py [--rounds 5] [--runs 40] [--record]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import ROOT, bvlc_onnx, interleaved_figures, median_ratios, options, record, table

from googlenet_deploy.device.benchmark.loops import Length, run_round
from googlenet_deploy.device.power.meter import NotMeasured
from googlenet_deploy.device.power.sampler import Sampler
from googlenet_deploy.device.power.select import open_meter
from googlenet_deploy.device.runner.protocol import Runner
from googlenet_deploy.device.runner.select import open_runner
from googlenet_deploy.device.system.machine import LoadMonitor

TREE = ROOT / "tests" / "data" / "power" / "agx-xavier-jetpack5.tree"
PLAIN = "plain loop"


def write_tree(root: Path) -> None:
    """Recreates a recorded part of /sys."""
    folder = root
    for line in TREE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            folder = root / line.strip("[]")
            folder.mkdir(parents=True)
        elif line and not line.startswith("#"):
            name, _, value = line.partition(" ")
            (folder / name).write_text(f"{value}\n", encoding="utf-8")


def plain_median(runner: Runner, batch: np.ndarray, runs: int) -> float:
    """Seconds per run, as most people measure it."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        runner.run(batch)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def our_median(runner: Runner, batch: np.ndarray, runs: int) -> float:
    """Seconds per run, as the benchmark measures it."""
    measured = run_round(runner, (((), batch),), Length(0.0, runs), time.perf_counter)
    return statistics.median(measured.seconds["run"])


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--runs", type=int, default=40, help="runs per round and candidate (default 40)")
    arguments = parser.parse_args()
    batch = np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)
    with tempfile.TemporaryDirectory() as folder, open_runner(bvlc_onnx()) as runner:
        root = Path(folder)
        write_tree(root)

        def with_sampler() -> float:
            meter = open_meter("ina", root=root)
            assert not isinstance(meter, NotMeasured), meter
            with Sampler(meter):
                return our_median(runner, batch, arguments.runs)

        def with_clocks() -> float:
            with LoadMonitor():
                return our_median(runner, batch, arguments.runs)

        candidates = {
            PLAIN: lambda: plain_median(runner, batch, arguments.runs),
            "benchmark": lambda: our_median(runner, batch, arguments.runs),
            "with power sampler": with_sampler,
            "with clocks": with_clocks,
        }
        medians = interleaved_figures(candidates, arguments.rounds)
        backend = runner.backend
    ratios = median_ratios(medians, PLAIN)
    print(f"median latency of one image, {backend}")
    rows = [(name, f"{1000 * statistics.median(medians[name]):.2f}", f"{ratios[name]:.3f}") for name in candidates]
    table(("", "ms", f"x {PLAIN}"), rows)
    if arguments.record:
        milliseconds = {name: 1000 * statistics.median(values) for name, values in medians.items()}
        record("latency", {"backend": backend, "milliseconds": milliseconds, "ratio_to_plain_loop": ratios})
    return 0


if __name__ == "__main__":
    sys.exit(main())
