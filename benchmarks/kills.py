"""Kills `bundle` and `deploy` at random moments, repeats the command, and holds the result against an undisturbed run.

    python benchmarks/kills.py --kind bundle --kills 30
    python benchmarks/kills.py --kind deploy --kills 30 --images PHOTOS

A killed run may leave the old result or none, never a part of one: after each kill the output is absent or verifies. At
the end one run is left alone, and its bundle must have the bytes of the undisturbed one. Exit status 1 where not.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

TOOL = [sys.executable, "-m", "googlenet_deploy"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("bundle", "deploy"), required=True)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--model", default="build/bvlc.onnx", help="bundle: the FP32 model")
    parser.add_argument("--weights", default="bvlc", help="deploy: the weights")
    parser.add_argument("--images", required=True)
    parser.add_argument("--work", type=Path, default=Path("build/kills"))
    parser.add_argument("--seed", type=int, default=2014)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True)
    return kill_and_compare(arguments)


def kill_and_compare(arguments: argparse.Namespace) -> int:
    whole, killed = arguments.work / "whole", arguments.work / "killed"
    start = time.monotonic()
    subprocess.run(command(arguments, whole), check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    wanted = digest(bundle_of(arguments.kind, whole))
    chance = random.Random(arguments.seed)
    finished = 0
    for number in range(arguments.kills):
        moment = chance.uniform(0.02, 1.0) * seconds
        finished += killed_at(command(arguments, killed), moment)
        problem = damage(bundle_of(arguments.kind, killed))
        if problem:
            print(f"kill {number + 1}, after {moment:.2f} s: {problem}")
            return 1
    subprocess.run(command(arguments, killed), check=True, stdout=subprocess.DEVNULL)
    same = digest(bundle_of(arguments.kind, killed)) == wanted
    left = [path.name for path in arguments.work.rglob("*") if path.name.startswith(".") and "killed" in path.name]
    outcome = "the same bytes" if same else "OTHER BYTES"
    late = f"{finished} came too late" if finished else "none came too late"
    print(f"{arguments.kind}: {arguments.kills} kills in {seconds:.1f} s, {late}; then the command again: {outcome}")
    print(f"  {len(left)} temporary files of killed runs are left")
    return 0 if same else 1


def command(arguments: argparse.Namespace, output: Path) -> list[str]:
    if arguments.kind == "bundle":
        target = ["--kind", "jetson", "--target", "orin-nano", "--fp32", arguments.model]
        return [*TOOL, "bundle", *target, "--images", arguments.images, "--output", f"{output}.zip"]
    options = ["--weights", arguments.weights, "--images", arguments.images, "--target", "orin-nano", "--quiet"]
    return [*TOOL, "deploy", *options, "--output", str(output)]


def bundle_of(kind: str, output: Path) -> Path:
    return Path(f"{output}.zip") if kind == "bundle" else output / "bundle.zip"


def killed_at(words: list[str], seconds: float) -> bool:
    """Runs a command and kills it and its child processes after some seconds; True if it finished before."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False
    return True


def damage(bundle: Path) -> str:
    """What is wrong with a bundle left by a killed run; empty if it is complete or absent."""
    if not bundle.exists():
        return ""
    result = subprocess.run([*TOOL, "bundle", "--verify", str(bundle)], capture_output=True, text=True, check=False)
    return result.stderr.strip()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
