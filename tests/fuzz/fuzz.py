"""Damaged files through the commands: ``python tests/fuzz/fuzz.py --count 10000`` (``make fuzz N=10000``).

Each case is derived from its number alone, so it can be reproduced. A case is a valid file, one to three mutations, and
a command; it runs in a forked child with limits (`child.py`). Every fault of a new kind is kept, minimised to the
mutations that it needs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent / "support"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from child import Outcome, run_case  # noqa: E402
from corpus import KINDS, Kind, make_corpus  # noqa: E402


@dataclass(frozen=True)
class Case:
    """A case, derived from its number."""

    number: int
    kind: Kind
    file: str
    command: str
    steps: int

    @classmethod
    def of(cls, number: int) -> Case:
        """The case with this number."""
        rng = random.Random(f"case {number}")
        kind = rng.choices(KINDS, [kind.weight for kind in KINDS])[0]
        return cls(number, kind, rng.choice(kind.files), rng.choice(kind.commands), rng.choice((1, 1, 1, 2, 3)))

    def content(self, corpus: Path, steps: int | None = None) -> bytes:
        """The damaged file; with fewer steps, only the first mutations are applied."""
        rng = random.Random(f"content {self.number}")
        content = (corpus / self.file).read_bytes()
        return self.kind.mutate(content, rng, self.steps if steps is None else steps)

    def run(self, corpus: Path, content: bytes, keep: Path | None = None) -> Outcome:
        """Runs the command on the content; returns the outcome."""
        with TemporaryDirectory(prefix="fuzz-") as name:
            out = Path(name)
            for part in self.kind.parts:
                place = corpus / part
                shutil.copytree(place, out / part) if place.is_dir() else shutil.copy(place, out / part)
            damaged = out / (self.kind.beside or f"damaged{Path(self.file).suffix}")
            damaged.write_bytes(content)
            outcome = run_case(self.command, damaged, corpus, out)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(damaged, keep / damaged.name)
                log = (out / "log").read_text(errors="replace") if (out / "log").exists() else ""
                (keep / "log.txt").write_text(f"case {self.number}: {self.command}\n{outcome}\n\n{log}")
            return outcome


def run_number(number: int, corpus: Path) -> tuple[Case, Outcome]:
    """Makes and runs one case."""
    case = Case.of(number)
    return case, case.run(corpus, case.content(corpus))


def minimise(case: Case, corpus: Path, signature: str) -> bytes:
    """The damaged file with as few of its mutations, from the first on, as cause the same fault."""
    for steps in range(1, case.steps):
        content = case.content(corpus, steps)
        if case.run(corpus, content).signature == signature:
            return content
    return case.content(corpus)


def run_all(numbers: Iterable[int], corpus: Path, workers: int) -> Iterator[tuple[Case, Outcome]]:
    """Runs all cases in parallel; yields them in the order in which they finish."""
    if workers == 1:
        for number in numbers:
            yield run_number(number, corpus)
        return
    numbers = list(numbers)
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(run_number, numbers, [corpus] * len(numbers), chunksize=20)


def main() -> int:
    """Runs cases, prints counts and keeps faults; returns 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, default=Path("build/fuzz"), help="where faults are kept")
    parser.add_argument("--record", type=Path, help="write counts to this .json and .md")
    arguments = parser.parse_args()
    started = time.monotonic()
    counts: Counter[tuple[str, str]] = Counter()
    faults: dict[str, int] = {}
    with TemporaryDirectory(prefix="fuzz-corpus-") as name:
        with Path(os.devnull).open("w") as quiet, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            corpus = make_corpus(Path(name))
        numbers = range(arguments.first, arguments.first + arguments.count)
        for done, (case, outcome) in enumerate(run_all(numbers, corpus, arguments.workers), 1):
            counts[(f"{case.kind.name}: {case.command.split()[0]}", outcome.kind)] += 1
            if not outcome.good and outcome.signature not in faults:
                faults[outcome.signature] = case.number
                kept = arguments.output / f"{outcome.kind}-{case.number}"
                case.run(corpus, minimise(case, corpus, outcome.signature), kept)
                print(f"case {case.number}: {outcome.kind}: {outcome.detail[:200]} (kept in {kept})", flush=True)
            if done % 500 == 0:
                print(f"{done} cases, {time.monotonic() - started:.0f} s", flush=True)
    lines = table(counts, arguments.first, arguments.count, faults)
    print("\n".join(lines))
    if arguments.record:
        write_record(arguments.record, counts, lines, faults, arguments)
    return 1 if faults else 0


def table(counts: Counter[tuple[str, str]], first: int, count: int, faults: dict[str, int]) -> list[str]:
    """The counts as Markdown."""
    kinds = sorted({kind for _, kind in counts})
    lines = [f"Cases {first} to {first + count - 1}; kinds of fault: {len(faults)}.", ""]
    lines += [f"| file: command | {' | '.join(kinds)} |", "|---|" + "---:|" * len(kinds)]
    for row in sorted({row for row, _ in counts}):
        lines.append(f"| {row} | {' | '.join(str(counts[(row, kind)]) for kind in kinds)} |")
    return lines


def write_record(
    path: Path,
    counts: Counter[tuple[str, str]],
    lines: list[str],
    faults: dict[str, int],
    arguments: argparse.Namespace,
) -> None:
    """Writes the record as JSON, and as Markdown beside it."""
    rows: dict[str, dict[str, int]] = {}
    for (row, kind), number in sorted(counts.items()):
        rows.setdefault(row, {})[kind] = number
    values = {"first": arguments.first, "count": arguments.count, "counts": rows, "faults": faults}
    path.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n")
    meaning = "`make fuzz N=10000`; what each column means: `tests/fuzz/child.py`."
    heading = ["# Damaged files through the commands", "", meaning, ""]
    path.with_suffix(".md").write_text("\n".join([*heading, *lines]) + "\n")


if __name__ == "__main__":
    sys.exit(main())
