"""Answers as rows, written as they come: a table for people, JSON lines, CSV."""

from __future__ import annotations

import csv
import io
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Dict, List, NamedTuple, Sequence, TextIO, Union

from googlenet_deploy.device.files import atomic_open, reason
from googlenet_deploy.errors import OutputError

if TYPE_CHECKING:
    from googlenet_deploy.device.predictions import Predictions

NAME_WIDTH = 40
STDOUT = "-"


class Answer(NamedTuple):
    """The best classes of one image.

    Attributes:
        image: Its name.
        classes: Best first: "class" (index), "name", and "probability", or "score" where the model gives no
            probabilities.
    """

    image: str
    classes: List[Dict[str, Any]]

    def row(self) -> Dict[str, Any]:
        """For JSON."""
        return {"image": self.image, "classes": self.classes}


Format = Callable[[Answer], str]


def answers_of(images: Sequence[str], predictions: Predictions, names: Sequence[str]) -> List[Answer]:
    """The answers for a batch.

    Args:
        images: Their names.
        predictions: What the model says.
        names: Class names; a class without one is called by its number.
    """
    shares = predictions.scores if predictions.probabilities is None else predictions.probabilities
    kind = "score" if predictions.probabilities is None else "probability"
    return [
        Answer(
            image,
            [
                {"class": index, "name": names[index] if index < len(names) else str(index), kind: value}
                for index, value in zip(indices, values)
            ],
        )
        for image, indices, values in zip(images, predictions.indices.tolist(), shares.tolist())
    ]


def json_line(answer: Answer) -> str:
    """One JSON object on a line."""
    return json.dumps(answer.row(), ensure_ascii=False) + "\n"


def csv_lines(answer: Answer) -> str:
    """One line per class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for rank, entry in enumerate(answer.classes, 1):
        value = entry.get("probability", entry.get("score"))
        writer.writerow([answer.image, rank, entry["class"], entry["name"], f"{value:.6f}"])
    return text.getvalue()


def table_lines(answer: Answer) -> str:
    """The image's name, and its classes below it."""
    lines = [answer.image]
    for entry in answer.classes:
        name = entry["name"] if len(entry["name"]) <= NAME_WIDTH else entry["name"][: NAME_WIDTH - 3] + "..."
        value = f"{entry['probability']:8.2%}" if "probability" in entry else f"{entry['score']:9.3f}"
        lines.append(f"  {value}  {name} ({entry['class']})")
    return "\n".join(lines) + "\n"


CSV_HEADING = "image,rank,class,name,probability\n"


class AnswerFile:
    """Answers in a file or on standard output; a context manager.

    A file appears whole when the block ends without an error, like every output. With `at_once` it is written in place
    and every batch can be read from it immediately: for cameras and watched folders, which have no end.

    Args:
        path: The file; "-" for standard output.
        form: One answer as text.
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
        """Closes the file; gives it its name where nothing failed."""
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
