"""Data files of the device part, whether it is in a folder or in a zip archive (googlenet-device.pyz)."""

from __future__ import annotations

import pkgutil
import zipfile
from pathlib import Path
from typing import List

PACKAGE = "googlenet_deploy.device"


def read_resource(name: str) -> str:
    """The text of a file beside this one, by its relative path with slashes.

    Raises:
        FileNotFoundError: The file is missing, so the installation is damaged.
    """
    data = pkgutil.get_data(PACKAGE, name)
    if data is None:
        raise FileNotFoundError(name)
    return data.decode("utf-8")


def resource_names(folder: str, suffix: str) -> List[str]:
    """Names without `suffix` of the files in a subfolder, sorted."""
    here = Path(__file__).parent / folder
    archive = getattr(globals().get("__loader__"), "archive", None)
    if archive is None:
        return sorted(path.stem for path in here.glob(f"*{suffix}"))
    inside = here.relative_to(archive).as_posix() + "/"
    with zipfile.ZipFile(archive) as members:
        found = [name[len(inside) :] for name in members.namelist() if name.startswith(inside)]
    return sorted(name[: -len(suffix)] for name in found if name.endswith(suffix) and "/" not in name)
