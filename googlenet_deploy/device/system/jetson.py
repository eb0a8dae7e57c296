"""Which Jetson this is: module, JetPack, power mode; read from the files that L4T keeps."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional

from googlenet_deploy.device.system.sysfs import try_text

# L4T release: JetPack, from NVIDIA's JetPack archive.
_JETPACKS = {
    (32, 7): "4.6", (35, 2): "5.1", (35, 3): "5.1", (35, 4): "5.1", (35, 5): "5.1", (35, 6): "5.1", (36, 3): "6.0",
    (36, 4): "6.1", (36, 5): "6.2", (38, 2): "7.0", (38, 4): "7.1", (39, 2): "7.2",
}  # fmt: skip
SECONDS_TO_ANSWER = 5.0
_MODULES = (
    ("orin nano", "orin-nano"),
    ("orin nx", "orin-nx-16gb"),
    ("agx orin", "agx-orin"),
    ("xavier nx", "xavier-nx"),
    ("agx xavier", "agx-xavier"),
    ("thor", "thor"),
    ("tx2", "tx2"),
    ("tx1", "tx1"),
    ("nano", "nano"),
    # What the device trees of L4T 32 call the TX2 and, from there to L4T 35, the AGX Xavier.
    ("quill", "tx2"),
    ("jetson-agx", "agx-xavier"),
)


@dataclass(frozen=True)
class Jetson:
    """A Jetson.

    Attributes:
        model: As the device tree says it.
        target: Its profile; "" where there is none.
        l4t: L4T release, such as "35.4.1"; "" where it is not known.
        jetpack: "5.1"; "" where it is not known.
        power_mode: Name of the mode; "" where it is not known.
    """

    model: str
    target: str
    l4t: str
    jetpack: str
    power_mode: str


def find_jetson(root: Path = Path("/")) -> Optional[Jetson]:
    """The Jetson that this is, or None on any other machine.

    Args:
        root: Root of the file system.
    """
    model = try_text(root / "proc/device-tree/model")
    release = _release(try_text(root / "etc/nv_tegra_release"))
    if not release and "jetson" not in model.lower():
        return None
    numbers = [int(part) for part in release.split(".")[:2]] if release else []
    jetpack = _JETPACKS.get((numbers[0], numbers[1]), "") if len(numbers) == 2 else ""
    return Jetson(model, module_of(model, root), release, jetpack, power_mode(root))


def module_of(model: str, root: Path = Path("/")) -> str:
    """The profile that a device tree's model name stands for; an Orin NX is told apart by its memory."""
    lowered = model.lower()
    found = next((target for words, target in _MODULES if words in lowered), "")
    if found.startswith("orin-nx"):
        match = re.search(r"MemTotal:\s*(\d+) kB", try_text(root / "proc/meminfo"))
        return "orin-nx-8gb" if match and int(match.group(1)) < 9 * 2**20 else found
    return found


def power_mode(root: Path = Path("/")) -> str:
    """Name of the current ``nvpmodel`` mode, from its status file or else its answer; "" where it is not known."""
    match = re.search(r"pmode:0*(\d+)", try_text(root / "var/lib/nvpmodel/status"))
    if match is None:
        return _queried_mode(root)
    return power_modes(try_text(root / "etc/nvpmodel.conf")).get(int(match.group(1)), f"mode {match.group(1)}")


def parse_nvpmodel(text: str) -> str:
    """The mode in what ``nvpmodel -q`` prints: its name, or "mode N" where it prints only a number."""
    name = re.search(r"NV Power Mode:\s*(\S+)", text)
    if name:
        return name.group(1)
    number = re.search(r"^\s*(\d+)\s*$", text, re.MULTILINE)
    return f"mode {number.group(1)}" if number else ""


def _queried_mode(root: Path) -> str:
    program = root / "usr/sbin/nvpmodel"
    found = str(program) if program.is_file() else (shutil.which("nvpmodel") if root == Path("/") else None)
    if found is None:
        return ""
    try:
        answer = subprocess.run(  # noqa: S603 - no shell
            [found, "-q"], capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return parse_nvpmodel(answer.stdout)


def power_modes(text: str) -> Dict[int, str]:
    """Names of the modes in /etc/nvpmodel.conf by their number, which is in no order of power."""
    return {int(number): name for number, name in re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", text)}


def _release(text: str) -> str:
    match = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text)
    return f"{match.group(1)}.{match.group(2)}" if match else ""
