"""googlenet-device.pyz: the device part as one file that runs on any Python 3.8 with NumPy and Pillow.

A zipapp (PEP 441): a line with the interpreter, then a zip archive with a ``__main__.py``. It holds ``device/``,
``errors.py`` and the commands for a device, and nothing that needs torch or onnx. The same sources produce the same
bytes.
"""

from __future__ import annotations

import io
from pathlib import Path

from googlenet_deploy.device.commands import DEVICE_COMMANDS
from googlenet_deploy.device.files import PathLike, atomic_path
from googlenet_deploy.packaging.archive import write_members

PACKAGE = Path(__file__).resolve().parent.parent
SHEBANG = b"#!/usr/bin/env python3\n"
SUFFIXES = (".py", ".txt", ".toml", ".json", ".html")
# Written so that too old Pythons reach the message instead of a syntax error.
MAIN = b"""\
import sys

if sys.version_info < (3, 8):
    sys.exit("googlenet-device.pyz needs Python 3.8 or later; this is %d.%d" % sys.version_info[:2])

from googlenet_deploy.cli.main import device_main

sys.exit(device_main())
"""


def device_zipapp() -> bytes:
    """The content of googlenet-device.pyz."""
    stream = io.BytesIO()
    stream.write(SHEBANG)
    members: list[tuple[str, Path | bytes, bool]] = [("__main__.py", MAIN, False)]
    members += [(f"{PACKAGE.name}/{path.relative_to(PACKAGE).as_posix()}", path, False) for path in source_files()]
    write_members(stream, members)
    return stream.getvalue()


def write_device_zipapp(path: PathLike) -> int:
    """Writes googlenet-device.pyz, executable; returns its size in bytes.

    Raises:
        OutputError: It cannot be written.
    """
    content = device_zipapp()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    target = Path(path)
    target.chmod(target.stat().st_mode | 0o111)
    return len(content)


def source_files() -> list[Path]:
    """The source files it contains, sorted by path."""
    commands = ("__init__", "main", "arguments", *DEVICE_COMMANDS)
    present = [PACKAGE / "cli" / f"{name}.py" for name in commands]
    helpers = [path for path in (PACKAGE / "cli").glob("*_*.py") if path.stem.rpartition("_")[0] in DEVICE_COMMANDS]
    device = [path for path in (PACKAGE / "device").rglob("*") if path.suffix in SUFFIXES and path.is_file()]
    files = {PACKAGE / "__init__.py", PACKAGE / "errors.py", *filter(Path.is_file, present), *helpers, *device}
    return sorted(files, key=lambda path: path.relative_to(PACKAGE).as_posix())
