"""Runs the benchmarks in turn: those named, else all that take minutes; ``--all`` adds those that take longer.

python benchmarks/run.py [NAME ...] [--all] [--rounds N] [--record]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SHARED = ("run", "harness", "commands", "foreign_sources")
# Those that take a quarter of an hour or more, or need peers to be installed first.
LONG = ("quantization", "qat", "qat_sweep", "foreign_models", "pruning", "kills")


def available() -> list[str]:
    """Names of all benchmarks, without the modules that they start, which end in ``_worker``."""
    names = (path.stem for path in FOLDER.glob("*.py"))
    return sorted(name for name in names if name not in SHARED and not name.endswith("_worker"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(available())}")
    parser.add_argument("--all", action="store_true", help=f"run {', '.join(LONG)} too")
    parser.add_argument("--rounds", type=int, metavar="N", help="timed rounds (default: each benchmark's own)")
    parser.add_argument("--record", action="store_true", help="write the figures to benchmarks/results/")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(available()))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(available())}")
    flags = ["--record"] if arguments.record else []
    flags += ["--rounds", str(arguments.rounds)] if arguments.rounds else []
    failed = []
    for name in arguments.names or [name for name in available() if arguments.all or name not in LONG]:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, str(FOLDER / f"{name}.py"), *flags], check=False).returncode != 0:
            failed.append(name)
    print(f"\nfailed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
