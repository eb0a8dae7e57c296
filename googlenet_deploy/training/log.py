"""The log of a run, written as things happen so that it can be followed: JSON lines, CSV, or TensorBoard.

A resumed run continues its log from where its state was saved: anything written after that is overwritten.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.files import reason, write_text
from googlenet_deploy.errors import OutputError, requires

if TYPE_CHECKING:
    from collections.abc import Sequence

    from googlenet_deploy.training.loop import EpochResult

CSV_SUFFIX = ".csv"


def epoch_values(result: EpochResult, best: bool) -> dict[str, Any]:
    """What a log records about an epoch; `best`: whether its weights were saved as the best."""
    near = result.validation.agreement
    compared = {} if near is None else {"agreement": near.equal / near.images, "logit_sqnr_db": near.sqnr}
    return {
        "epoch": result.epoch,
        "train_loss": result.loss,
        "train_accuracy_percent": result.accuracy,
        "learning_rate": result.learning_rate,
        "validation_loss": result.validation.loss,
        "validation_accuracy_percent": result.validation.accuracy.percent,
        **compared,
        "images_per_second": round(result.images_per_second, 1),
        "seconds": round(result.seconds, 3),
        "steps_left_out": result.left_out,
        "best": best,
    }


class TextLog:
    """A log file to which lines are appended.

    Args:
        path: The file. With the suffix .csv it has a row per epoch, otherwise a JSON object per line for every event.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.is_csv = self.path.suffix.lower() == CSV_SUFFIX

    def begin(self, position: int = 0) -> None:
        """Begins a new file, or continues at a position that an earlier run's `position` returned.

        Raises:
            OutputError: The file cannot be written.
        """
        if position == 0 or not self.path.exists():
            write_text(self.path, "")
            return
        try:
            with self.path.open("r+b") as stream:
                stream.truncate(position)
        except OSError as error:
            raise OutputError(self.path, f"cannot be written: {reason(error)}") from error

    def position(self) -> int:
        """Length of the file, in bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def write(self, event: str, **values: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Adds a line about an event; a CSV has none.

        Raises:
            OutputError: The disk is full.
        """
        if not self.is_csv:
            self._append(json.dumps({"event": event, **values}, ensure_ascii=False) + "\n")

    def write_epoch(self, values: dict[str, Any]) -> None:
        """Adds an epoch's line.

        Raises:
            OutputError: The disk is full.
        """
        if not self.is_csv:
            self.write("epoch", **values)
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, list(values), lineterminator="\n")
        if self.position() == 0:
            writer.writeheader()
        writer.writerow(values)
        self._append(text.getvalue())

    def _append(self, text: str) -> None:
        try:
            with self.path.open("a", encoding="utf-8", newline="") as stream:
                stream.write(text)
        except OSError as error:
            raise OutputError(self.path, f"cannot be written: {reason(error)}") from error


class TensorBoardLog:
    """Curves for TensorBoard.

    Args:
        folder: The folder for its files.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        with requires("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional

        self._make = SummaryWriter
        self.folder = str(folder)

    def begin(self, epoch: int) -> None:
        """Begins, or continues from an epoch: later epochs of an earlier run are hidden.

        Raises:
            OutputError: The folder cannot be written.
        """
        try:
            self.writer = self._make(self.folder, purge_step=epoch if epoch > 1 else None)
        except OSError as error:
            raise OutputError(self.folder, f"cannot be written: {reason(error)}") from error

    def write_epoch(self, values: dict[str, Any]) -> None:
        """Adds a point to each curve."""
        for name, value in values.items():
            if name not in ("epoch", "best"):
                self.writer.add_scalar(name, value, values["epoch"])
        self.writer.flush()


class RunLog:
    """All logs of a run; none in a process that does not write files.

    Args:
        text: A file; None writes none.
        tensorboard: A folder; None writes none.
    """

    def __init__(self, text: str | Path | None = None, tensorboard: str | Path | None = None) -> None:
        self.texts: Sequence[TextLog] = [TextLog(text)] if text is not None else []
        self.boards: Sequence[TensorBoardLog] = [TensorBoardLog(tensorboard)] if tensorboard is not None else []

    def begin(self, position: int = 0, epoch: int = 1) -> None:
        """Begins new logs, or continues from a position and an epoch."""
        for text in self.texts:
            text.begin(position)
        for board in self.boards:
            board.begin(epoch)

    def position(self) -> int:
        """The position to pass to `begin` to continue from here."""
        return sum(text.position() for text in self.texts)

    def write(self, event: str, **values: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Logs an event."""
        for text in self.texts:
            text.write(event, **values)

    def write_epoch(self, result: EpochResult, best: bool) -> None:
        """Logs an epoch."""
        values = epoch_values(result, best)
        for text in self.texts:
            text.write_epoch(values)
        for board in self.boards:
            board.write_epoch(values)
