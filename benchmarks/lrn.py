"""ONNX Runtime's latency with native LRN against the decomposed form that PyTorch's exporter writes by itself.

Both graphs hold the same BVLC weights and are simplified by onnxsim.

    python benchmarks/lrn.py [--rounds 15] [--record]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxsim
import torch
from harness import ROOT, WEIGHTS, bvlc_onnx, interleaved, options, record, table

from googlenet_deploy.model.weights import load_weights

REPEATS = 10


def export_decomposed(path: Path) -> Path:
    """The same net with torch.nn.LocalResponseNorm, exported as PyTorch does by default."""
    model = load_weights(str(WEIGHTS)).model
    for name in ("norm1", "norm2"):
        setattr(model, name, torch.nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0))
    program = torch.onnx.export(model, (torch.zeros(1, 3, 224, 224),), dynamo=True, verbose=False)
    assert program is not None
    simplified, _ = onnxsim.simplify(program.model_proto)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(simplified, path)
    return path


def session(path: Path) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def repeated(session: onnxruntime.InferenceSession, x: np.ndarray) -> Callable[[], None]:
    """A call that runs the session `REPEATS` times."""

    def run() -> None:
        for _ in range(REPEATS):
            session.run(None, {session.get_inputs()[0].name: x})

    return run


def main() -> int:
    arguments = options(__doc__ or "").parse_args()
    paths = {"native LRN": bvlc_onnx(), "decomposed": export_decomposed(ROOT / "build" / "bvlc-decomposed.onnx")}
    x = np.random.default_rng(0).uniform(-120, 150, (1, 3, 224, 224)).astype(np.float32)
    timings = interleaved({name: repeated(session(path), x) for name, path in paths.items()}, arguments.rounds)
    rows, milliseconds = [], {}
    for name, timing in timings.items():
        nodes = len(onnx.load(paths[name]).graph.node)
        milliseconds[name] = [seconds * 1e3 / REPEATS for seconds in timing.seconds]
        ratio = timing.ratio_to(timings["decomposed"])
        rows.append((name, str(nodes), f"{timing.median * 1e3 / REPEATS:.1f}", f"{ratio:.2f}"))
    table(("form", "nodes", "ms/image", "times as fast as decomposed"), rows)
    if arguments.record:
        ratio = timings["native LRN"].ratio_to(timings["decomposed"])
        record("lrn", {"batch": 1, "milliseconds": milliseconds, "speed_ratio_native_to_decomposed": ratio})
    return 0


if __name__ == "__main__":
    sys.exit(main())
