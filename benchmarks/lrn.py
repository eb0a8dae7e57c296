"""ONNX Runtime's latency with native LRN against the decomposed form that PyTorch's exporter writes by itself.

Both graphs hold the same BVLC weights and are simplified by onnxsim. The third candidate is the native graph in the
toolkit's own runner, which replaces LRN by a faster equivalent on a CPU.

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

from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner
from googlenet_deploy.export.quiet import silenced
from googlenet_deploy.model.weights import load_weights

REPEATS = 10


def export_decomposed(path: Path) -> Path:
    """The same network with torch.nn.LocalResponseNorm, exported with PyTorch's defaults."""
    model = load_weights(str(WEIGHTS)).model
    for name in ("norm1", "norm2"):
        setattr(model, name, torch.nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0))
    with silenced():
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
    runner = OnnxRuntimeRunner(paths["native LRN"])
    candidates = {name: repeated(session(path), x) for name, path in paths.items()}
    candidates["native LRN in our runner"] = lambda: [runner.run(x) for _ in range(REPEATS)]
    timings = interleaved(candidates, arguments.rounds)
    nodes = {name: str(len(onnx.load(path).graph.node)) for name, path in paths.items()}
    milliseconds = {name: [seconds * 1e3 / REPEATS for seconds in timing.seconds] for name, timing in timings.items()}
    ratios = {name: timing.ratio_to(timings["decomposed"]) for name, timing in timings.items()}
    rows = [
        (name, nodes.get(name, ""), f"{timing.median * 1e3 / REPEATS:.1f}", f"{ratios[name]:.2f}")
        for name, timing in timings.items()
    ]
    table(("form", "nodes", "ms/image", "times as fast as decomposed"), rows)
    if arguments.record:
        record("lrn", {"batch": 1, "milliseconds": milliseconds, "speed_ratio_to_decomposed": ratios})
    return 0


if __name__ == "__main__":
    sys.exit(main())
