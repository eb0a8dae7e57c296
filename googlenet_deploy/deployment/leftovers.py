"""Unfinished files of a run that was killed for good: their temporary names, and how they go."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

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
