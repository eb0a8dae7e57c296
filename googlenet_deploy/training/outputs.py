"""The files of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outputs:
    """Where a run writes.

    Attributes:
        best: The weights of the best epoch.
        log: A log of lines, or None.
        tensorboard: A folder of curves, or None.
    """

    best: Path
    log: Path | None = None
    tensorboard: Path | None = None

    @property
    def last(self) -> Path:
        """The weights of the last epoch: ``model.last.safetensors`` beside ``model.safetensors``."""
        return self.best.with_suffix(f".last{self.best.suffix}")

    @property
    def state(self) -> Path:
        """The training state of an unfinished run: ``model.state.safetensors``."""
        return self.best.with_suffix(".state.safetensors")
