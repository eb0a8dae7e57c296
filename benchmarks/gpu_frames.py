"""From a camera's frame to its class on this machine's GPU: resize in the engine against resize on the CPU.

For each size of frames and each type two engines are built: of the ordinary model, whose frames Pillow resizes, and of
the model that takes frames. Both are measured by ``googlenet-deploy benchmark --frame``. The models come from
``gpu_models_worker.py --frames 720x1280,1080x1920,2160x3840``; the ordinary ones are those of ``gpu_engines.py``.

    python benchmarks/gpu_frames.py [--rounds 3] [--seconds 1] [--record]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import ROOT, options, record, say, table

sys.path.insert(0, str(ROOT / "tests" / "support"))

from gpu_kit import models_folder, tactic_options, why_not

from googlenet_deploy.cli.main import main as googlenet_deploy

TYPES = {"fp32": ("FP16 by flag", "fp16"), "int8": ("INT8 from Q/DQ", "int8")}
SCOPES = ("preprocess", "copy_in", "compute", "run", "end_to_end")


def frame_models() -> list[tuple[str, str]]:
    """(base, size) of the models in the folder, such as ("int8", "1080x1920")."""
    paths = sorted(models_folder().glob("frames-*-*x*.onnx"))
    return [(base, size) for _, base, size in (path.stem.split("-") for path in paths) if base in TYPES]


def measure(model: Path, precision: str, size: str, seconds: tuple[str, str], folder: Path) -> dict[str, Any] | None:
    """Builds an engine for single frames and measures it; None if that failed."""
    engine, report = folder / "m.engine", folder / "m.json"
    build = ["build", str(model), "--output", str(engine), "--batch", "1", "--precision", precision, "--quiet"]
    if googlenet_deploy([*build, *tactic_options()]) != 0:
        return None
    rounds, length = seconds
    command = ["benchmark", str(engine), "--frame", size, "--rounds", rounds, "--seconds", length, "--quiet"]
    if googlenet_deploy([*command, "--no-trtexec", "--json", str(report)]) != 0:
        return None
    return dict(json.loads(report.read_text(encoding="utf-8")))


def milliseconds(result: dict[str, Any], scope: str) -> float | None:
    """The median of a scope; None if it was not measured."""
    found = result["configurations"][0]["milliseconds"][scope]
    return found.get("p50", {}).get("value")


def main() -> int:
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="least length of a round (default %(default)s)")
    arguments = parser.parse_args()
    reason = why_not() or ("" if frame_models() else f"no frames-*.onnx in {models_folder()}")
    if reason:
        say(f"nothing to measure here: {reason}")
        return 0
    length = (str(arguments.rounds), str(arguments.seconds))
    rows, found, failed = [], [], 0
    for base, size in frame_models():
        name, precision = TYPES[base]
        for where, model in (("CPU", f"{base}.onnx"), ("engine", f"frames-{base}-{size}.onnx")):
            with tempfile.TemporaryDirectory() as folder:
                result = measure(models_folder() / model, precision, size, length, Path(folder))
            failed += result is None
            if result is not None:
                found.append({"type": name, "frame": size, "resize": where, "benchmark": result})
                values = [milliseconds(result, scope) for scope in SCOPES]
                cells = ("-" if value is None else f"{value:.3f}" for value in values)
                rows.append((f"{name}, {size}, resize on the {where}", *cells))
    table(("p50 ms", *SCOPES), rows)
    if arguments.record:
        record("gpu_frames", {"results": found})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
