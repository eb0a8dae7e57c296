"""Shared by all benchmarks: the machine's description, interleaved timing, tables and recorded results.

Machines differ and drift, so a benchmark times its candidates in turn (A B A B ...) within one run and
prints each one's ratio to a named peer, round by round; quote the median ratio. With ``--record`` the metrics are
written to ``results/NAME.json``, and the printed output with the machine and its versions to ``results/NAME.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DATA = Path(os.environ.get("GOOGLENET_DEPLOY_DATA", ROOT.parent / "shared" / "data"))
WEIGHTS = DATA / "bvlc_googlenet.safetensors"
IMAGES = DATA / "imagenet-sample" / "images"
LABELS = DATA / "imagenet-sample" / "labels.csv"
PACKAGES = ("numpy", "pillow", "torch", "onnx", "onnxruntime", "onnxsim", "openvino", "googlenet-deploy")
_said: list[str] = []


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate, one per round."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median over the rounds, in seconds."""
        return statistics.median(self.seconds)

    def ratio_to(self, peer: Timing) -> float:
        """The median over the rounds of peer's time / own time: above 1 means faster than the peer."""
        return statistics.median(theirs / own for own, theirs in zip(self.seconds, peer.seconds, strict=True))


def interleaved(candidates: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, Timing]:
    """Times each candidate once per round, in turn, after `warm_up` uncounted rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(warm_up + rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing(name, tuple(values)) for name, values in seconds.items()}


def interleaved_figures(candidates: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The metric returned by each candidate, such as images per second, in turn; the first round is not counted."""
    figures: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            figure = run()
            if number:
                figures[name].append(figure)
    return figures


def median_ratios(figures: Mapping[str, list[float]], peer: str) -> dict[str, float]:
    """The median over the rounds of each candidate's metric / the peer's."""
    return {
        name: statistics.median(own / other for own, other in zip(values, figures[peer], strict=True))
        for name, values in figures.items()
    }


def rates_table(rates: Mapping[str, list[float]], peer: str, style: str) -> dict[str, float]:
    """Prints median rates and their ratios to a peer's; returns the ratios."""
    ratios = median_ratios(rates, peer)
    lines = [(name, format(statistics.median(rates[name]), style), f"{ratios[name]:.2f}") for name in rates]
    table(("", "images/s", f"times {peer}"), lines)
    return ratios


def machine() -> dict[str, Any]:
    """Processor, cores, a discrete GPU if there is one, Python and the versions of relevant packages."""
    versions = {"googlenet-deploy": _own_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    gpu = _gpu()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **({"gpu": gpu} if gpu else {}),
        "packages": dict(sorted(versions.items(), key=lambda item: PACKAGES.index(item[0]))),
    }


def record(name: str, figures: Mapping[str, Any]) -> Path:
    """Writes metrics, machine and date to ``benchmarks/results/NAME.json``, and the output so far to NAME.md."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    date, where = datetime.now(timezone.utc).date().isoformat(), machine()
    content = {"benchmark": name, "date": date, "machine": where, **figures}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    versions = ", ".join(f"{package} {version}" for package, version in where["packages"].items())
    gpu = f", {where['gpu']['name']} with driver {where['gpu']['driver']}" if "gpu" in where else ""
    lines = [
        f"# {name}",
        "",
        f"{date}, {where['processor']}, {where['cores']} cores{gpu}, {where['system']}, Python {where['python']}.",
        f"Versions: {versions}.",
        "",
        f"`python {Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}` in `benchmarks/` printed:",
        "",
        "```",
        *_said,
        "```",
    ]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"recorded in {path.relative_to(ROOT)} and beside it as Markdown")
    return path


def say(text: str) -> None:
    """Prints a line, which `record` saves without this machine's folders."""
    print(text, flush=True)
    _said.append(text.replace(f"{DATA}/", "$DATA/").replace(f"{ROOT}/", ""))


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Prints a plain table, first column left-aligned, the others right-aligned; `record` saves it."""
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    for row in [headings, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        say("  ".join(cells).rstrip())


def options(description: str, rounds: int = 5) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="timed rounds (default %(default)s)")
    parser.add_argument("--record", action="store_true", help="write the figures to benchmarks/results/")
    return parser


def peak_megabytes(process: int | str = "self") -> float:
    """Peak resident memory of a running process, in MiB: VmHWM of ``/proc/PID/status`` (proc(5)); 0 once it has ended.

    getrusage and wait4 would include the memory of the parent process, which is shared until exec.
    """
    try:
        text = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    kilobytes = next((line.split()[1] for line in text.splitlines() if line.startswith("VmHWM:")), "0")
    return int(kilobytes) / 1024


def bvlc_onnx() -> Path:
    """``build/bvlc.onnx``, exported from the published weights if it does not exist yet."""
    path = ROOT / "build" / "bvlc.onnx"
    if not path.exists():
        import googlenet_deploy as gd

        gd.export(WEIGHTS, path)
    return path


def bvlc_int8_onnx() -> Path:
    """``build/bvlc.int8.onnx``, quantised from `bvlc_onnx` if it does not exist yet."""
    path = ROOT / "build" / "bvlc.int8.onnx"
    if not path.exists():
        import googlenet_deploy as gd

        gd.quantize(bvlc_onnx(), path, images=IMAGES)
    return path


def _own_version() -> str:
    """The version of the running code, which need not be installed."""
    from googlenet_deploy import __version__

    return __version__


def _gpu() -> dict[str, str]:
    """Name and driver of CUDA's first GPU; empty if NVML is not available."""
    from googlenet_deploy.device.system.nvml import Nvml, cuda_bus_id
    from googlenet_deploy.errors import DeviceError

    try:
        with Nvml(cuda_bus_id()) as gpu:
            return {"name": gpu.name(), "driver": gpu.driver()}
    except DeviceError:
        return {}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
