"""Answers as rows, written as they arrive: a human-readable table, JSON lines or CSV."""

from __future__ import annotations

import csv
import io
import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Dict, List, NamedTuple, Optional, Sequence, TextIO, Union

from googlenet_deploy.device.files import atomic_open, reason
from googlenet_deploy.errors import OutputError

if TYPE_CHECKING:
    from googlenet_deploy.device.predictions import Predictions

NAME_WIDTH = 40
STDOUT = "-"


@dataclass(frozen=True)
class RankedClass:
    """One class that a model predicts for an image.

    Attributes:
        index: The class, from 0.
        name: Its name; its number if it has none.
        probability: From 0 to 1; None if the model returns only scores after its own TopK.
        score: The model's output: a logit or a probability.
    """

    index: int
    name: str
    probability: Optional[float]
    score: float

    @property
    def value(self) -> float:
        """The probability if there is one, else the score."""
        return self.score if self.probability is None else self.probability

    def row(self) -> Dict[str, Any]:
        """For JSON."""
        kind = "score" if self.probability is None else "probability"
        return {"class": self.index, "name": self.name, kind: self.value}


class Answer(NamedTuple):
    """The best classes of one image.

    Attributes:
        image: Its name.
        classes: Best first.
    """

    image: str
    classes: List[RankedClass]

    @property
    def best(self) -> RankedClass:
        """The class that the model ranks first."""
        return self.classes[0]

    def row(self) -> Dict[str, Any]:
        """For JSON."""
        return {"image": self.image, "classes": [entry.row() for entry in self.classes]}


Format = Callable[[Answer], str]


def answers_of(images: Sequence[str], predictions: Predictions, names: Sequence[str]) -> List[Answer]:
    """The answers for a batch.

    Args:
        images: Their names.
        predictions: What the model returned.
        names: Class names; a class without a name is shown by its number.
    """
    indices, scores = predictions.indices.tolist(), predictions.scores.tolist()
    known = predictions.probabilities
    probabilities = [[None] * len(row) for row in indices] if known is None else known.tolist()
    return [
        Answer(image, [RankedClass(index, _name(names, index), *values) for index, *values in zip(*ranked)])
        for image, ranked in zip(images, zip(indices, probabilities, scores))
    ]


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)


def json_line(answer: Answer) -> str:
    """One JSON object on a line."""
    return json.dumps(answer.row(), ensure_ascii=False) + "\n"


def csv_lines(answer: Answer) -> str:
    """One line per class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for rank, entry in enumerate(answer.classes, 1):
        writer.writerow([answer.image, rank, entry.index, entry.name, f"{entry.value:.6f}"])
    return text.getvalue()


def table_lines(answer: Answer) -> str:
    """The image's name, and its classes below it."""
    lines = [answer.image]
    for entry in answer.classes:
        name = entry.name if len(entry.name) <= NAME_WIDTH else entry.name[: NAME_WIDTH - 3] + "..."
        value = f"{entry.score:9.3f}" if entry.probability is None else f"{entry.probability:8.2%}"
        lines.append(f"  {value}  {name} ({entry.index})")
    return "\n".join(lines) + "\n"


CSV_HEADING = "image,rank,class,name,probability\n"


class AnswerFile:
    """Answers in a file or on standard output; a context manager.

    Like every output, the file appears complete when the block ends without an error. With `at_once` it is written in
    place, and every batch can be read from it immediately: for cameras and watched folders, which have no end.

    Args:
        path: The file; "-" for standard output.
        form: Formats one answer as text.
        heading: First line.
        at_once: Whether to write in place.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, path: str, form: Format, heading: str = "", *, at_once: bool = False) -> None:
        self.path, self.form, self.heading = path, form, heading
        self.at_once = at_once or path == STDOUT
        self._stack = ExitStack()
        self._stream: Union[TextIO, BinaryIO, None] = None

    def write(self, answers: Sequence[Answer]) -> None:
        """Adds answers.

        Raises:
            OutputError: The disk is full.
        """
        self._write("".join(self.form(answer) for answer in answers))
        if self.at_once and self._stream is not None:
            self._guarded(self._stream.flush)

    def __enter__(self) -> AnswerFile:
        """The file, opened."""
        if self.path == STDOUT:
            self._stream = sys.stdout
        elif self.at_once:
            self._stream = self._stack.enter_context(self._open_in_place())
        else:
            self._stream = self._stack.enter_context(atomic_open(self.path))
        self._write(self.heading)
        return self

    def __exit__(self, *exception: Any) -> None:  # noqa: ANN401 - type, error and traceback
        """Closes the file, and renames it to its final name if nothing failed."""
        self._stack.__exit__(*exception)

    def _open_in_place(self) -> BinaryIO:
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            return Path(self.path).open("wb")
        except OSError as error:
            raise self._error(error) from error

    def _write(self, text: str) -> None:
        if self._stream is None or not text:
            return
        if isinstance(self._stream, io.TextIOBase):
            self._stream.write(text)
        else:
            data, stream = text.encode("utf-8", "backslashreplace"), self._stream
            self._guarded(lambda: stream.write(data))  # type: ignore[arg-type] # bytes to a binary stream

    def _guarded(self, work: Callable[[], Any]) -> None:
        if self.path == STDOUT:
            work()
            return
        try:
            work()
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> OutputError:
        return OutputError(self.path, f"cannot be written: {reason(error)}", "choose another place, or free some space")
