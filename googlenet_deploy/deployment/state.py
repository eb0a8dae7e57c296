"""The progress of a deployment: one record per step, so that a later run resumes where an earlier one stopped.

A step is repeated if its fingerprint has changed (its inputs' hashes, its options, the tool's sources) or if one of its
outputs is no longer the file it wrote. Outputs are written atomically before the record, so a run killed at any point
leaves at most a file without a record, which is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import googlenet_deploy
from googlenet_deploy import __version__
from googlenet_deploy.device.files import sha256_file, write_json
from googlenet_deploy.errors import InputError

FILE = "state.json"
FORMAT = "googlenet-deploy deployment 1"


@dataclass(frozen=True)
class StepRecord:
    """One completed step.

    Attributes:
        fingerprint: Fingerprint of everything it depends on.
        outputs: SHA-256 of each file it wrote, by its path in the folder.
        seconds: Its duration.
        text: Its result, in one line.
        notes: Notes for the user.
        data: Data for later steps and the report, as JSON values.
    """

    fingerprint: str
    outputs: Mapping[str, str]
    seconds: float
    text: str
    notes: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


class DeploymentState:
    """The records of a deployment's folder.

    Args:
        folder: The folder; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.folder = folder
        self.records: dict[str, StepRecord] = {}
        self.note = ""
        self._read()

    def _read(self) -> None:
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
            self.records = _records(values)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.records = {}
            self.note = f"{self.path} cannot be used ({error}): everything is done again"

    def is_done(self, name: str, fingerprint: str) -> bool:
        """Whether a step was done with this fingerprint and its files are unchanged."""
        record = self.records.get(name)
        if record is None or record.fingerprint != fingerprint:
            return False
        try:
            return all(sha256_file(self.folder / path) == digest for path, digest in record.outputs.items())
        except InputError:
            return False

    def add(self, name: str, record: StepRecord) -> None:
        """Records a completed step, and saves the records.

        Raises:
            OutputError: It cannot be written.
        """
        self.records[name] = record
        self._write()

    def forget(self, name: str, *, remove: bool = False) -> None:
        """Removes a step's record, if any, before it is repeated or because it is left out.

        Args:
            name: The step.
            remove: Whether to delete its files as well.
        """
        record = self.records.pop(name, None)
        if record is None:
            return
        self._write()
        for path in record.outputs if remove else ():
            with suppress(OSError):
                (self.folder / path).unlink()

    def withdraw(self, *records: StepRecord | None) -> None:
        """Removes steps' records and files, since a check has shown that they must not be used."""
        for record in filter(None, records):
            for path in record.outputs:
                with suppress(OSError):
                    (self.folder / path).unlink()
            self.records = {name: each for name, each in self.records.items() if each is not record}
        self._write()

    def hash_of(self, path: str) -> str:
        """The hash of a file that a step wrote; "" if no step did."""
        return next((record.outputs[path] for record in self.records.values() if path in record.outputs), "")

    def _write(self) -> None:
        steps = {name: asdict(record) for name, record in self.records.items()}
        write_json(self.path, {"format": FORMAT, "tool_version": __version__, "steps": steps})


def _records(values: Mapping[str, Any]) -> dict[str, StepRecord]:
    if values["format"] != FORMAT:
        raise ValueError("it is of another version")
    steps = values["steps"].items()
    return {name: StepRecord(**{**record, "notes": tuple(record["notes"])}) for name, record in steps}


@cache
def tool_hash() -> str:
    """SHA-256 over the package's sources: files from another version may lack data that this one reads."""
    root = Path(googlenet_deploy.__file__).parent
    digest = hashlib.sha256(__version__.encode("utf-8"))
    for path in sorted(Path(folder) / name for folder, _, names in os.walk(root, followlinks=True) for name in names):
        if path.suffix == ".py":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def fingerprint_of(name: str, inputs: Mapping[str, Any]) -> str:
    """SHA-256 over a step's name, its inputs and the tool itself."""
    text = json.dumps([name, tool_hash(), dict(sorted(inputs.items()))], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


# Names of the temporary files of `atomic_path` and the self-test: the file's own name between dots, followed by eight
# characters from Python's tempfile.
_TEMPORARY = re.compile(
    r"\.(self-test|[\w-]+(\.\w+)*\.(onnx|json|zip|html|md|engine|state|cache))\.[a-z0-9_]{8}(\.\w+)?"
)


def clear_leftovers(folder: Path) -> int:
    """Removes unfinished files from a deployment's folder; the caller must hold its lock.

    Args:
        folder: The folder.

    Returns:
        The number of files and folders removed.
    """
    count = 0
    for path in sorted(folder.iterdir()):
        if _TEMPORARY.fullmatch(path.name) and not path.is_symlink():
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                count += 1
    return count
