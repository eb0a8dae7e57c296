"""Where ONNX Runtime spends its time: milliseconds by operator, for models as written and in their CPU form.

One image, one thread. Shows which nodes of the Q/DQ model are not fused, and how many of them remain in the CPU form
of `device.cpu_graph`.

    python benchmarks/cpu_nodes.py [--rounds 5]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
from harness import bvlc_int8_onnx, bvlc_onnx, options, table

from googlenet_deploy.device.cpu_graph.forms import onnxruntime_form

LARGEST = 6


def profile(model: bytes, rounds: int) -> Counter[str]:
    """Milliseconds per run by operator, with the number of its nodes."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        image = np.random.default_rng(0).normal(0, 60, (1, 3, 224, 224)).astype(np.float32)
        for _ in range(rounds):
            session.run(None, {"input": image})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    counts = Counter(event["args"]["op_name"] for event in nodes)
    spent: Counter[str] = Counter()
    for event in nodes:
        name = event["args"]["op_name"]
        spent[f"{counts[name] // rounds} {name}"] += event["dur"] / 1e3 / rounds
    return spent


def main() -> int:
    arguments = options(__doc__ or "").parse_args()
    for title, path in (("FP32", bvlc_onnx()), ("INT8", bvlc_int8_onnx())):
        model = path.read_bytes()
        form = onnxruntime_form(model)
        for name, content in ((f"{title}, as it stands", model), (f"{title}, form", form.model if form else model)):
            spent = profile(content, arguments.rounds)
            total = sum(spent.values())
            rows = [(key, f"{value:.2f}", f"{value / total:.0%}") for key, value in spent.most_common(LARGEST)]
            table((name, "ms", "share"), [*rows, ("all", f"{total:.2f}", "100%")])
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
