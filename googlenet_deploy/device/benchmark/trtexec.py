"""trtexec's figures for the same engine, for comparison.

trtexec prints a summary of min, max, mean, median and percentiles per scope; until TensorRT 8.4 only percentile(99%),
and with an additional line "End-to-End Host Latency". Its "Latency" is copy in + GPU compute + copy out; "GPU Compute
Time" is measured by CUDA events, like our scope "compute" (TensorRT, samples/trtexec/README.md).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from googlenet_deploy.device.power.meter import NotMeasured

USUAL = Path("/usr/src/tensorrt/bin/trtexec")  # JetPack's location, outside the search path
SECONDS_TO_START = 300.0
_SCOPES = {
    "latency": "Latency",
    "enqueue": "Enqueue Time",
    "copy_in": "H2D Latency",
    "compute": "GPU Compute Time",
    "copy_out": "D2H Latency",
}
_STATISTICS = {
    "lowest": "min",
    "highest": "max",
    "mean": "mean",
    "p50": "median",
    "p90": r"percentile\(90%\)",
    "p95": r"percentile\(95%\)",
    "p99": r"percentile\(99%\)",
}
_NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"


def find_trtexec() -> Optional[str]:
    """The path of trtexec; None if it is not installed."""
    return shutil.which("trtexec") or (str(USUAL) if USUAL.is_file() else None)


def parse_trtexec(text: str) -> Optional[Dict[str, Any]]:
    """Parses the performance summary in trtexec's output, times in milliseconds; None if there is none.

    The result has "queries_per_second" and, per scope, the statistics that this version prints.
    """
    _, found, summary = text.partition("=== Performance summary ===")
    throughput = re.search(rf"Throughput: {_NUMBER} qps", summary)
    if not found or throughput is None:
        return None
    figures: Dict[str, Any] = {"queries_per_second": float(throughput.group(1))}
    for scope, label in _SCOPES.items():
        line = re.search(rf"(?:^|\[I\] ){label}: (.+)$", summary, re.MULTILINE)
        if line is not None:
            figures[scope] = _statistics(line.group(1))
    return figures if "compute" in figures else None


def run_trtexec(
    engine: str, shape: Optional[Sequence[int]], input_name: str, seconds: float, program: Optional[str] = None
) -> Dict[str, Any]:
    """Runs trtexec on an engine; returns its figures and command, or why there are none.

    Args:
        engine: The engine's file.
        shape: The input's shape if it may vary; None if it is fixed.
        input_name: Name of the input.
        seconds: How long trtexec measures.
        program: Path of trtexec; None searches for it.
    """
    path = program or find_trtexec()
    if path is None:
        return {"not_measured": "trtexec is not installed"}
    command = [path, f"--loadEngine={engine}", f"--duration={max(1, round(seconds))}", "--warmUp=1000"]
    if shape is not None:
        command.append(f"--shapes={input_name}:{'x'.join(map(str, shape))}")
    try:
        answer = subprocess.run(  # noqa: S603 - no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds + SECONDS_TO_START,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"not_measured": f"trtexec did not end within {seconds + SECONDS_TO_START:.0f} s"}
    except OSError as error:
        return {"not_measured": f"{path}: cannot be started: {error.strerror or error}"}
    text = answer.stdout.decode("utf-8", "replace")
    figures = parse_trtexec(text)
    if answer.returncode != 0 or figures is None:
        return {"not_measured": f"trtexec failed (exit status {answer.returncode}): {_last_error(text)}"}
    return {"command": command, **figures}


def why_not_trtexec(path: str, backend: str) -> Optional[NotMeasured]:
    """Why trtexec cannot run this model; None if it can."""
    if not backend.startswith("TensorRT ") or path.lower().endswith(".onnx"):
        return NotMeasured("trtexec runs TensorRT engines only")
    return None


def _statistics(line: str) -> Dict[str, float]:
    found = {name: re.search(rf"{label} = {_NUMBER} ms", line) for name, label in _STATISTICS.items()}
    return {name: float(match.group(1)) for name, match in found.items() if match is not None}


def _last_error(text: str) -> str:
    lines: List[str] = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "[E]" in line]
    return (errors or lines or ["it printed nothing"])[-1][:200]
