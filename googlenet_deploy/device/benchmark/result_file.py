"""Result files: written atomically, and validated when read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.errors import InputError

FORMAT = 1
_PARTS = (
    "model",
    "backend",
    "machine",
    "options",
    "images",
    "preprocessing",
    "configurations",
    "memory",
    "state",
    "idle",
)
_HINT = "write one with: googlenet-deploy benchmark MODEL --json FILE"


def read_result(path: PathLike) -> Dict[str, Any]:
    """Reads what ``benchmark --json`` wrote.

    Raises:
        InputError: The file is missing, damaged, not a result, or in a later format.
    """
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not a JSON file: {error}", _HINT) from error
    if not isinstance(result, dict) or "configurations" not in result:
        raise InputError(path, "is not a result of a benchmark", _HINT)
    if result.get("format") != FORMAT:
        raise InputError(path, f"has format {result.get('format')}; this version reads format {FORMAT}")
    missing = [part for part in _PARTS if part not in result]
    if missing:
        raise InputError(path, f"is damaged: {', '.join(missing)} is missing")
    return result
