"""TensorRT's messages while it parses and builds: collected, sorted, and summarised for the user."""

from __future__ import annotations

import re
from typing import List, Tuple

ERRORS = ("INTERNAL_ERROR", "ERROR")
_MEMORY = re.compile(
    r"out of memory|OutOfMemory|insufficient memory|cudaErrorMemoryAllocation|bad_alloc", re.IGNORECASE
)


class BuildLog:
    """Collects (severity, message) pairs; TensorRT's threads may call it at once, and list.append is atomic."""

    def __init__(self) -> None:
        self.lines: List[Tuple[str, str]] = []

    def __call__(self, severity: str, message: str) -> None:
        """The sink for `TensorRT.logger`."""
        if severity != "VERBOSE":
            self.lines.append((severity, " ".join(message.split())))

    @property
    def errors(self) -> List[str]:
        """Errors in order, without duplicates."""
        return list(dict.fromkeys(text for severity, text in self.lines if severity in ERRORS))

    @property
    def warnings(self) -> List[str]:
        """Warnings, without duplicates."""
        return list(dict.fromkeys(text for severity, text in self.lines if severity == "WARNING"))

    @property
    def reason(self) -> str:
        """The first error, which causes the later ones; or "it gives no reason"."""
        return self.errors[0] if self.errors else "it reports no reason"

    @property
    def out_of_memory(self) -> bool:
        """Whether an error is about memory."""
        return any(_MEMORY.search(text) for text in self.errors)
