"""Runs every benchmark in turn, or those named: ``python benchmarks/run.py [NAME ...] [--record]``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SHARED = ("run", "harness")


def main() -> int:
    names = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    flags = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    available = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in SHARED)
    unknown = sorted(set(names) - set(available))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(available)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or available:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, str(FOLDER / f"{name}.py"), *flags], check=False).returncode != 0:
            failed.append(name)
    print(f"\nfailed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
