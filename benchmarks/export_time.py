"""How long ``export`` takes, whole process, for both nets (held to 30 s), beside PyTorch's bare exporter.

The peer is ``torch.onnx.export`` alone, in a process of its own: no simplification, no verification, no metadata.

    python benchmarks/export_time.py [--rounds 3] [--record]
"""

from __future__ import annotations

import subprocess
import sys

from harness import ROOT, WEIGHTS, interleaved, options, record, table

BARE = f"""
import torch
from googlenet_deploy.model.weights import load_weights
model = load_weights({str(WEIGHTS)!r}).model
torch.onnx.export(model, (torch.zeros(1, 3, 224, 224),), {str(ROOT / "build" / "bare.onnx")!r}, dynamo=True,
    custom_translation_table=None, verbose=False)
"""


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def main() -> int:
    arguments = options(__doc__ or "").parse_args()
    output = str(ROOT / "build" / "timed.onnx")
    command = ("-m", "googlenet_deploy", "export", "--weights", str(WEIGHTS), "--output", output)
    timings = interleaved(
        {
            "googlenet-deploy export (verified)": lambda: run(*command),
            "googlenet-deploy export --merge-1x1": lambda: run(*command, "--merge-1x1"),
            "torch.onnx.export alone": lambda: run("-c", BARE),
        },
        arguments.rounds,
    )
    table(("export", "median s"), [(name, f"{timing.median:.1f}") for name, timing in timings.items()])
    if arguments.record:
        record("export-time", {"seconds": {name: timing.seconds for name, timing in timings.items()}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
