"""Compiled OpenVINO models, kept between runs: compiling takes most of the start.

OpenVINO's own cache does not notice when a file in it was damaged, and then computes with damaged weights; here each
file begins with the SHA-256 of what follows.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Optional

from googlenet_deploy.device.files import cache_folder, write_bytes
from googlenet_deploy.device.system.processor import instructions
from googlenet_deploy.errors import OutputError

MOST_KEPT = 16  # of some megabytes each
_DIGEST_SIZE = 32


class CompiledCache:
    """The place of one compiled model; where the cache cannot be read or written, nothing is kept.

    Args:
        model: The ONNX model as it is compiled.
        properties: How it is compiled.
        version: OpenVINO's.
    """

    def __init__(self, model: bytes, properties: Dict[str, Any], version: str) -> None:
        settings = json.dumps([properties, version, sorted(instructions())], sort_keys=True).encode()
        key = hashlib.sha256(hashlib.sha256(model).digest() + settings).hexdigest()
        self.path = cache_folder() / "openvino" / f"{key[:32]}.compiled"

    def load(self) -> Optional[bytes]:
        """What was kept; None where there is nothing, or it is damaged."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return None
        blob = content[_DIGEST_SIZE:]
        return blob if hashlib.sha256(blob).digest() == content[:_DIGEST_SIZE] else None

    def save(self, blob: bytes) -> None:
        """Keeps a compiled model, and drops the oldest of too many."""
        with suppress(OutputError, OSError):
            write_bytes(self.path, hashlib.sha256(blob).digest() + blob)
            kept = sorted(self.path.parent.glob("*.compiled"), key=_time)
            for path in kept[: max(0, len(kept) - MOST_KEPT)]:
                path.unlink()


def _time(path: Path) -> float:
    return path.stat().st_mtime
