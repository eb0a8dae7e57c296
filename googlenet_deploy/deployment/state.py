"""What was done so far: one record per step, so that a later run goes on where an earlier one stopped.

A step is done again when its fingerprint changed (its inputs' hashes, its options, the tool's sources) or when one of
its outputs is no longer the file that it wrote. Outputs are written whole before the record is, so a run that is killed
anywhere leaves at most a file without a record, which is made again.
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
    """One step that was done.

    Attributes:
        fingerprint: Of everything that it depends on.
        outputs: SHA-256 of each file that it wrote, by its path in the folder.
        seconds: How long it took.
        text: What came of it, in a line.
        notes: What the user should know.
        data: What later steps and the report need, as JSON values.
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
        """Whether a step was done with this fingerprint and its files are still what it wrote."""
        record = self.records.get(name)
        if record is None or record.fingerprint != fingerprint:
            return False
        try:
            return all(sha256_file(self.folder / path) == digest for path, digest in record.outputs.items())
        except InputError:
            return False

    def add(self, name: str, record: StepRecord) -> None:
        """Notes that a step was done, and writes that down.

        Raises:
            OutputError: It cannot be written.
        """
        self.records[name] = record
        self._write()

    def forget(self, name: str, *, remove: bool = False) -> None:
        """Takes a step's record away, where there is one, before it is done anew or since it is left out.

        Args:
            name: The step.
            remove: Whether its files go too.
        """
        record = self.records.pop(name, None)
        if record is None:
            return
        self._write()
        for path in record.outputs if remove else ():
            with suppress(OSError):
                (self.folder / path).unlink()

    def hash_of(self, path: str) -> str:
        """The hash of a file that a step wrote; "" where none did."""
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
    """SHA-256 over the package's sources: what another version left behind may lack what this one reads."""
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


# What `atomic_path` and the self-test call their temporaries: the file's own name between dots, and eight characters of
# Python's tempfile behind it.
_TEMPORARY = re.compile(
    r"\.(self-test|[\w-]+(\.\w+)*\.(onnx|json|zip|html|md|engine|state|cache))\.[a-z0-9_]{8}(\.\w+)?"
)


def clear_leftovers(folder: Path) -> int:
    """Removes unfinished files from a deployment's folder, to be called by the one that holds its lock.

    Args:
        folder: The folder.

    Returns:
        How many files and folders were removed.
    """
    count = 0
    for path in sorted(folder.iterdir()):
        if _TEMPORARY.fullmatch(path.name) and not path.is_symlink():
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                count += 1
    return count
