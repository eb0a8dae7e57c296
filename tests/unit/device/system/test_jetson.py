from __future__ import annotations

from pathlib import Path

import pytest

from googlenet_deploy.device.system.jetson import find_jetson, power_modes

CONF = """\
< POWER_MODEL ID=0 NAME=15W >
GPU MAX_FREQ 612000000
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< PM_CONFIG DEFAULT=1 >
"""


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_orin_nano(tmp_path: Path) -> None:
    files = {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
        "etc/nvpmodel.conf": CONF,
        "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n",
    }
    found = find_jetson(machine(tmp_path, files))
    assert found is not None
    assert (found.target, found.l4t, found.jetpack) == ("orin-nano", "36.4.3", "6.1")
    assert found.power_mode == "MAXN_SUPER"


@pytest.mark.parametrize(
    ("model", "kilobytes", "target"),
    [
        ("NVIDIA Orin NX Developer Kit, Jetson", 7_500_000, "orin-nx-8gb"),
        ("NVIDIA Orin NX Developer Kit, Jetson", 15_900_000, "orin-nx-16gb"),
        ("NVIDIA Jetson Xavier NX Developer Kit", 7_500_000, "xavier-nx"),
        ("NVIDIA Jetson Nano Developer Kit", 4_000_000, "nano"),
        ("Jetson-AGX Orin, NVIDIA Jetson AGX Orin", 60_000_000, "agx-orin"),
        ("NVIDIA Jetson Something", 1, ""),
    ],
)
def test_modules(tmp_path: Path, model: str, kilobytes: int, target: str) -> None:
    files = {"proc/device-tree/model": model, "proc/meminfo": f"MemTotal:  {kilobytes} kB\n"}
    found = find_jetson(machine(tmp_path, files))
    assert found is not None
    assert found.target == target


def test_any_other_machine(tmp_path: Path) -> None:
    assert find_jetson(tmp_path) is None
    assert find_jetson(machine(tmp_path, {"proc/device-tree/model": "Raspberry Pi 5"})) is None


def test_modes_are_in_no_order_of_power() -> None:
    assert power_modes(CONF) == {0: "15W", 2: "MAXN_SUPER"}
