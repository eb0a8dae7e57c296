"""Removes the workstation's absolute paths from data that is passed on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# An absolute path of at least two parts; not the tail of a relative path or a URL.
_ABSOLUTE = re.compile(r"(?<![\w./~:-])/[^\s/'\"`,;:()\[\]]+(?:/[^\s/'\"`,;:()\[\]]+)+")


def without_machine_paths(value: Any, folders: Sequence[Path]) -> Any:  # noqa: ANN401 - any JSON
    """JSON values with absolute paths made relative to the given folders, or reduced to file names.

    A path inside one of the folders starts with that folder's own name. Of any other path that could exist on this
    machine, only the last part is kept. Names of layers such as ``/fc/Gemm`` are kept, since no such folder exists.

    Args:
        value: JSON values.
        folders: Folders that occur in them, such as the folder of images.
    """
    if isinstance(value, dict):
        return {_shortened(key, folders): without_machine_paths(entry, folders) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_machine_paths(entry, folders) for entry in value]
    if isinstance(value, str) and not value.startswith("data:"):
        return _shortened(value, folders)
    return value


def _shortened(text: str, folders: Sequence[Path]) -> str:
    for folder in sorted({each.absolute() for each in folders}, key=lambda each: -len(str(each))):
        if len(folder.parts) > 1:
            text = re.sub(rf"(?<![\w./-]){re.escape(str(folder))}(?=[/\s'\"`,;:()]|$)", folder.name, text)
    return _ABSOLUTE.sub(_last_part, text)


def _last_part(match: re.Match[str]) -> str:
    path = Path(match.group())
    return path.name if (Path("/") / path.parts[1]).exists() else match.group()
