"""How long ``export`` takes, whole process, for both nets (held to 30 s), beside PyTorch's bare exporter.

The peer is ``torch.onnx.export`` alone, in a process of its own: no simplification, no verification, no metadata. The
batch-normalised net has fresh weights, which take no less time to export than trained ones.

    python benchmarks/export_time.py [--rounds 2] [--record]
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from harness import ROOT, WEIGHTS, interleaved, options, record, say, table

LIMIT_SECONDS = 30.0
BARE = """
import sys
import torch
from googlenet_deploy.model.weights import load_weights
model = load_weights(sys.argv[1]).model
for name in ("norm1", "norm2"):
    if not isinstance(getattr(model, name), torch.nn.Identity):
        setattr(model, name, torch.nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0))
torch.onnx.export(model, (torch.zeros(1, 3, 224, 224),), sys.argv[2], dynamo=True, verbose=False)
"""


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def batch_normalised() -> Path:
    """A checkpoint of the batch-normalised net with fresh weights."""
    from googlenet_deploy.device.specification import TORCHVISION
    from googlenet_deploy.model.architecture import get_architecture
    from googlenet_deploy.model.checkpoint import Checkpoint, save_checkpoint
    from googlenet_deploy.model.googlenet import GoogLeNet

    path = ROOT / "build" / "fresh.safetensors"
    if not path.exists():
        model = GoogLeNet(get_architecture("torchvision")).eval()
        save_checkpoint(path, Checkpoint(model, model.architecture, TORCHVISION))
    return path


def calls(net: str, weights: Path) -> dict[str, Callable[[], None]]:
    """Our export and the bare one of a net."""
    ours, bare = (str(ROOT / "build" / f"timed-{net}-{kind}.onnx") for kind in ("ours", "bare"))
    export = ("-m", "googlenet_deploy", "export", "--weights", str(weights), "--output", ours)
    return {
        f"{net}: torch.onnx.export alone": functools.partial(run, "-c", BARE, str(weights), bare),
        f"{net}: export, verified": functools.partial(run, *export),
    }


def main() -> int:
    arguments = options(__doc__ or "", rounds=2).parse_args()
    candidates = {**calls("bvlc", WEIGHTS), **calls("torchvision", batch_normalised())}
    timings = interleaved(candidates, arguments.rounds, warm_up=0)
    rows, ratios = [], {}
    for name, timing in timings.items():
        peer = f"{name.partition(':')[0]}: torch.onnx.export alone"
        ratios[name] = 1 / timing.ratio_to(timings[peer])
        rows.append((name, f"{timing.median:.1f}", f"{ratios[name]:.2f}"))
    table(("", "median s", "times torch.onnx.export alone"), rows)
    slow = [name for name, timing in timings.items() if "verified" in name and timing.median > LIMIT_SECONDS]
    say(f"over {LIMIT_SECONDS:.0f} s: {', '.join(slow) or 'none'}")
    if arguments.record:
        seconds = {name: timing.seconds for name, timing in timings.items()}
        record("export-time", {"seconds": seconds, "ratio_to_torch": ratios})
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
