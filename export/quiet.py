"""Keeps the output of libraries off the user's terminal, and shows it if they fail.

torch's exporter prints progress and logs what it could not import, onnxsim and ONNX Runtime write from C++
straight to the file descriptors. None of it helps the user unless the step fails.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Captured:
    """What was written while it was kept off the terminal; filled when the block ends."""

    output: str = ""

    def last_lines(self, count: int = 3) -> str:
        """The last non-empty lines, joined by semicolons."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return "; ".join(lines[-count:])


@contextlib.contextmanager
def silenced() -> Iterator[Captured]:
    """Catches everything that is written to stdout and stderr, by Python or by C++, warnings and logs included."""
    captured = Captured()
    logging_before = logging.root.manager.disable
    with tempfile.TemporaryFile() as store, _redirected(store.fileno()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield captured
        finally:
            logging.disable(logging_before)
            sys.stdout.flush()
            sys.stderr.flush()
            store.seek(0)
            captured.output = store.read().decode("utf-8", "replace")


@contextlib.contextmanager
def _redirected(target: int) -> Iterator[None]:
    """Points the descriptors 1 and 2, and Python's own streams, at `target`."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    stream = os.fdopen(os.dup(target), "w", encoding="utf-8", errors="replace")
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            yield
            stream.flush()
    finally:
        stream.close()
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
