"""Identifies the Jetson: module, JetPack and power mode, from files of L4T and the kernel.

A container may hide some of them: Docker masks /sys/firmware, where /proc/device-tree leads, and has no
/etc/nv_tegra_release. The kernel, its system-on-chip and the power monitors are seen from inside too.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional, Tuple

from googlenet_deploy.device.power.ina3221_hwmon import find_rails
from googlenet_deploy.device.power.ina3221_iio import find_rails as find_rails_of_jetpack_4
from googlenet_deploy.device.power.rails import total_of
from googlenet_deploy.device.system.sysfs import try_text
from googlenet_deploy.device.targets.identify import identify_module
from googlenet_deploy.device.targets.jetpack import release_of_l4t
from googlenet_deploy.device.targets.target import load_target, target_names

SECONDS_TO_ANSWER = 5.0
DEVICE_TREES = ("proc/device-tree", "sys/firmware/devicetree/base")
_TEGRA_SOC = re.compile(r"nvidia,tegra\d+")


@dataclass(frozen=True)
class Jetson:
    """A Jetson.

    Attributes:
        model: The device tree's model; "" if a container hides it.
        target: Its profile; "" if there is none.
        l4t: L4T release, such as "35.4.1"; "" if unknown.
        jetpack: The JetPack's line, "6.2"; "" if unknown.
        power_mode: Name of the mode; "" if unknown.
        jetpack_release: The JetPack's release, "6.2.1"; "" if only its line is known.
        found_by: What showed that this is a Jetson.
    """

    model: str
    target: str
    l4t: str
    jetpack: str
    power_mode: str
    jetpack_release: str = ""
    found_by: str = ""

    @property
    def jetpack_text(self) -> str:
        """The release, or the line if only that is known, or "?"."""
        return self.jetpack_release or self.jetpack or "?"

    @property
    def tensorrt(self) -> Optional[Tuple[int, int]]:
        """The TensorRT that its JetPack installs, as (major, minor); None if unknown."""
        found = release_of_l4t(self.l4t)
        return (found.tensorrt[0], found.tensorrt[1]) if found else None


def find_jetson(root: Path = Path("/"), integrated_gpu: Optional[Tuple[int, int]] = None) -> Optional[Jetson]:
    """The Jetson that this is, or None on any other machine.

    Args:
        root: Root of the file system.
        integrated_gpu: Compute capability of the GPU if it is known and shares the processor's memory.
    """
    model, compatible = (_from_device_tree(root, name) for name in ("model", "compatible"))
    l4t = _release(try_text(root / "etc/nv_tegra_release"))
    found_by = _evidence(root, model, compatible, l4t, integrated_gpu)
    if not found_by:
        return None
    release = release_of_l4t(l4t)
    return Jetson(
        model=model,
        target=identify_module(model, compatible, _memory_bytes(root)),
        l4t=l4t,
        jetpack=release.line_text if release else "",
        power_mode=power_mode(root),
        jetpack_release=release.version if release and release.exact else "",
        found_by=found_by,
    )


def _evidence(root: Path, model: str, compatible: str, l4t: str, integrated_gpu: Optional[Tuple[int, int]]) -> str:
    """What shows that this is a Jetson, the surest first; "" for any other machine."""
    named = "jetson" in model.lower() or ("nvidia" in model.lower() and identify_module(model) != "")
    if l4t:
        return "/etc/nv_tegra_release"
    if named or _TEGRA_SOC.search(compatible):
        return "the device tree"
    if try_text(root / "proc/sys/kernel/osrelease").endswith("-tegra"):
        return "the kernel's name"
    if try_text(root / "sys/devices/soc0/family") == "Tegra":
        return "the system-on-chip"
    if total_of(rail.name for rail in (*find_rails(root), *find_rails_of_jetpack_4(root))):
        return "its power monitors"
    return "its GPU" if integrated_gpu is not None and integrated_gpu in _capabilities() else ""


def _capabilities() -> Tuple[Tuple[int, int], ...]:
    modules = [load_target(name).module for name in target_names()]
    return tuple(module.compute_capability for module in modules if module is not None)


def _from_device_tree(root: Path, name: str) -> str:
    texts = [try_text(root / folder / name) for folder in DEVICE_TREES]
    return next((text for text in texts if text), "")


def _memory_bytes(root: Path) -> Optional[int]:
    match = re.search(r"MemTotal:\s*(\d+) kB", try_text(root / "proc/meminfo"))
    return int(match.group(1)) * 1024 if match else None


def power_mode(root: Path = Path("/")) -> str:
    """Name of the current ``nvpmodel`` mode, from its status file or else its output; "" if unknown."""
    match = re.search(r"pmode:0*(\d+)", try_text(root / "var/lib/nvpmodel/status"))
    if match is None:
        return _queried_mode(root)
    return power_modes(try_text(root / "etc/nvpmodel.conf")).get(int(match.group(1)), f"mode {match.group(1)}")


def parse_nvpmodel(text: str) -> str:
    """The mode in what ``nvpmodel -q`` prints: its name, or "mode N" where it prints only a number."""
    name = re.search(r"NV Power Mode[ \t]*:[ \t]*(\S+)", text)
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
    found = re.findall(r"^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=([^\s>]+)\s*>", text, re.MULTILINE)
    return {int(number): name for number, name in found}


def _release(text: str) -> str:
    match = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text)
    return f"{match.group(1)}.{match.group(2)}" if match else ""
