"""Engines of every kind on this machine's GPU: build time, size, precision, answers, latency and energy by batch.

The models come from ``gpu_models_worker.py``, which runs anywhere; here TensorRT, NumPy, Pillow and cuda-bindings or
PyCUDA are enough. Latency and energy are those of ``googlenet-deploy benchmark``, trtexec's beside where there is one.

    python benchmarks/gpu_engines.py [--rounds 5] [--kind FP32 --kind 'INT8 from Q/DQ'] [--keep FILE] [--record]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROOT, options, record, say, table

sys.path.insert(0, str(ROOT / "tests" / "support"))

from gpu_kit import BATCHES, KINDS, EngineKind, answers_of, build_command, can_build, compare, models_folder, why_not

from googlenet_deploy.cli.main import main as googlenet_deploy
from googlenet_deploy.device.engine.manifest import load_manifest
from googlenet_deploy.device.files import write_json


def measure(kind: EngineKind, folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Builds one engine, compares its outputs, and benchmarks it."""
    engine, report = folder / "m.engine", folder / "m.json"
    if googlenet_deploy(build_command(kind, engine, "--quiet")) != 0:
        return {"kind": kind.name, "failed": True}
    manifest = load_manifest(engine)
    decibels, agreement = compare(answers_of(engine), np.load(models_folder() / "answers.npz")[kind.baseline])
    command = ["benchmark", str(engine), "--batch", ",".join(BATCHES), "--quiet"]
    length = ["--rounds", str(rounds), "--seconds", str(seconds)]
    images = ["--images", str(models_folder() / "check"), "--json", str(report)]
    if googlenet_deploy([*command, *length, *images]) != 0:
        return {"kind": kind.name, "failed": True}
    return {
        "kind": kind.name,
        "tensorrt": manifest.tensorrt_version,
        "gpu": manifest.gpu,
        "build_seconds": manifest.build_seconds,
        "megabytes": manifest.engine_bytes / 1e6,
        "device_memory_megabytes": (manifest.device_memory_bytes or 0) / 1e6,
        "precision": manifest.precision_shares,
        "sparse_kernels": sum("sparse" in layer["tactic"].lower() for layer in manifest.layers),
        "compared_with": kind.baseline,
        "sqnr_to_fp32_decibels": decibels,
        "agreement_with_fp32": agreement,
        "benchmark": json.loads(report.read_text(encoding="utf-8")),
    }


def precision_text(result: dict[str, Any]) -> str:
    shares = result["precision"].get("multiply_adds") or result["precision"].get("convolutions") or {}
    return ", ".join(f"{name} {share:.0%}" for name, share in sorted(shares.items(), key=lambda item: -item[1]))


def configuration_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for entry in result["benchmark"]["configurations"]:
        run = entry["milliseconds"]["run"]
        energy = entry["energy"]["run"].get("millijoules_per_image", {}).get("value")
        rate = entry["energy"]["run"].get("images_per_second_per_watt")
        rows.append(
            (
                f"{result['kind']}, batch {entry['batch']}",
                f"{run['p50']['value']:.3f}",
                f"{run['p99']['value']:.3f}" if run.get("p99", {}).get("value") is not None else "-",
                f"{entry['images_per_second']['value']:,.0f}",
                "-" if energy is None else f"{energy:.2f}",
                "-" if rate is None else f"{rate:.2f}",
            )
        )
    return rows


def measured_kinds(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The results of all requested kinds that exist; each is saved as soon as it is available."""
    keep: Path | None = arguments.keep
    kept = json.loads(keep.read_text(encoding="utf-8")) if keep and keep.exists() else []
    results = {result["kind"]: result for result in kept if not result.get("failed")}
    for kind in KINDS:
        if kind.name in results or (arguments.kind and kind.name not in arguments.kind):
            continue
        if can_build(kind):
            say(f"{kind.name}: left out, {can_build(kind)}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            results[kind.name] = measure(kind, Path(folder), arguments.rounds, arguments.seconds)
        if keep:
            write_json(keep, list(results.values()))
    return [results[kind.name] for kind in KINDS if kind.name in results]


def show(done: list[dict[str, Any]]) -> None:
    """Both tables."""
    headings = ("engine", "MB", "build s", "context MB", "SQNR dB", "agreement", "sparse kernels", "multiply-adds")
    rows = [
        (
            result["kind"],
            f"{result['megabytes']:.2f}",
            f"{result['build_seconds']:.1f}",
            f"{result['device_memory_megabytes']:.1f}",
            f"{result['sqnr_to_fp32_decibels']:.1f}",
            f"{result['agreement_with_fp32']:.1%}",
            str(result["sparse_kernels"]),
            precision_text(result),
        )
        for result in done
    ]
    table(headings, rows)
    say("")
    rows = [row for result in done for row in configuration_rows(result)]
    table(("engine and batch", "p50 ms", "p99 ms", "images/s", "mJ/image", "images/s/W"), rows)


def main() -> int:
    parser = options(__doc__ or "")
    names = [kind.name for kind in KINDS]
    parser.add_argument("--kind", action="append", choices=names, help="may be given again (default: all)")
    parser.add_argument("--seconds", type=float, default=2.0, help="least length of a round (default %(default)s)")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="keep results there after each kind, and go on from them"
    )
    arguments = parser.parse_args()
    reason = why_not()
    if reason:
        say(f"nothing to measure here: {reason}")
        return 0
    results = measured_kinds(arguments)
    done = [result for result in results if not result.get("failed")]
    show(done)
    if arguments.record:
        record("gpu_engines", {"engines": results})
    return 1 if len(done) < len(results) else 0


if __name__ == "__main__":
    sys.exit(main())
