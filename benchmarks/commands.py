"""Runs the toolkit's own commands for benchmarks, as a user would, and reads what they write."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from harness import say


class Cost(NamedTuple):
    """The cost of a command: wall-clock seconds, and CPU seconds of all cores, which other processes hardly affect."""

    seconds: float
    core_seconds: float


def command(*arguments: str | Path, python: str | Path = sys.executable) -> Cost:
    """Runs `googlenet-deploy` with these arguments and shows the line.

    Args:
        arguments: The command and its arguments.
        python: The interpreter to run it with.

    Raises:
        SystemExit: The command failed; its output is shown.
    """
    words = [str(argument) for argument in arguments]
    say(f"$ googlenet-deploy {shlex.join(words)}")
    start, before = time.perf_counter(), os.times()
    result = subprocess.run(
        [str(python), "-m", "googlenet_deploy", *words], check=False, capture_output=True, text=True
    )
    if result.returncode != 0:
        print(result.stdout, result.stderr, file=sys.stderr)
        raise SystemExit(f"{words[0]} failed with exit status {result.returncode}")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(time.perf_counter() - start, used)


def read_json(path: Path) -> dict[str, Any]:
    """What a command wrote with --json."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def evaluate(model: Path, images: Path, *options: str | Path) -> dict[str, float]:
    """The metrics of `evaluate`: "top1" in percent and, with a reference, "agreement" in percent and "sqnr" in dB."""
    path = model.with_suffix(".evaluation.json")
    command("evaluate", model, "--images", images, "--json", path, "--quiet", *options)
    figures: dict[str, float] = read_json(path)["figures"]
    return figures
