"""How long the command line takes to answer: ``--help`` of every command (held to 0.2 s), beside bare Python.

python benchmarks/startup.py [--rounds 5] [--record]
"""

from __future__ import annotations

import subprocess
import sys

from harness import interleaved, options, record, table

from googlenet_deploy.cli.main import COMMANDS

LIMIT_SECONDS = 0.2


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    arguments = options(__doc__ or "").parse_args()
    candidates = {"python -c pass": lambda: run("-c", "pass")}
    for command in ("", *COMMANDS):
        words = [command, "--help"] if command else ["--help"]
        candidates[" ".join(["googlenet-deploy", *words])] = lambda words=words: run("-m", "googlenet_deploy", *words)
    timings = interleaved(candidates, arguments.rounds)
    table(("command", "median ms"), [(name, f"{timing.median * 1e3:.0f}") for name, timing in timings.items()])
    if arguments.record:
        record("startup", {"seconds": {name: timing.seconds for name, timing in timings.items()}})
    slow = [name for name, timing in timings.items() if timing.median > LIMIT_SECONDS]
    print(f"over {LIMIT_SECONDS} s: {', '.join(slow) or 'none'}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
