from __future__ import annotations

from pathlib import Path

import pytest

from googlenet_deploy.device.system.jetson import find_jetson, parse_nvpmodel, power_modes

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
    assert (found.target, found.l4t, found.jetpack) == ("orin-nano", "36.4.3", "6.2")
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
        ("NVIDIA Jetson Orin Nano Developer Kit", 3_700_000, "orin-nano-4gb"),
        ("NVIDIA Jetson Orin Nano Developer Kit", 7_600_000, "orin-nano"),
        ("NVIDIA Jetson AGX Orin", 31_300_000, "agx-orin-32gb"),
        ("NVIDIA Jetson AGX Orin", 64_300_000, "agx-orin"),
        # The developer kit of 32 GB has the whole GPU.
        ("NVIDIA Jetson AGX Orin Developer Kit", 31_300_000, "agx-orin"),
        ("Jetson AGX Xavier Industrial, NVIDIA", 64_000_000, "agx-xavier"),
    ],
)
def test_modules(tmp_path: Path, model: str, kilobytes: int, target: str) -> None:
    files = {"proc/device-tree/model": model, "proc/meminfo": f"MemTotal:  {kilobytes} kB\n"}
    found = find_jetson(machine(tmp_path, files))
    assert found is not None
    assert found.target == target


@pytest.mark.parametrize(
    ("compatible", "target"),
    [
        ("nvidia,p3768-0000+p3767-0004\0nvidia,p3767-0004\0nvidia,tegra234", "orin-nano-4gb"),
        ("nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234", "orin-nano"),
        ("nvidia,p3737-0000+p3701-0004\0nvidia,p3701-0004\0nvidia,tegra234", "agx-orin-32gb"),
        ("nvidia,p3737-0000+p3701-0008\0nvidia,tegra234", "agx-orin"),
        ("nvidia,p3509-0000+p3636-0001\0nvidia,tegra186", "tx2"),
        ("nvidia,p3509-0000+p3668-0003\0nvidia,tegra194", "xavier-nx"),
    ],
)
def test_a_part_number_decides_over_name_and_memory(tmp_path: Path, compatible: str, target: str) -> None:
    files = {
        "proc/device-tree/model": "A carrier board of somebody's\0",
        "proc/device-tree/compatible": compatible + "\0",
        "proc/meminfo": "MemTotal:  15655000 kB\n",
    }
    found = find_jetson(machine(tmp_path, files))
    assert found is not None
    assert found.target == target


@pytest.mark.parametrize(
    ("l4t", "line", "release"),
    [
        ("32.6.1", "4.6", "4.6"),
        ("35.6.4", "5.1", "5.1.6"),
        ("36.4.0", "6.1", "6.1"),
        ("36.4.4", "6.2", "6.2.1"),
        ("36.4.7", "6.2", "6.2.1"),
        ("36.5.0", "6.2", "6.2.2"),
        ("39.2.1", "7.2", "7.2.1"),
        ("36.4.99", "6.2", ""),  # a later fix of a known line
        ("36.1.0", "", ""),
        ("99.1.0", "", ""),
    ],
)
def test_jetpack_of_an_l4t(tmp_path: Path, l4t: str, line: str, release: str) -> None:
    major, _, rest = l4t.partition(".")
    text = f"# R{major} (release), REVISION: {rest}, GCID: 1, BOARD: generic\n"
    found = find_jetson(machine(tmp_path, {"etc/nv_tegra_release": text}))
    assert found is not None
    assert (found.l4t, found.jetpack, found.jetpack_release) == (l4t, line, release)


@pytest.mark.parametrize(
    ("files", "found_by"),
    [
        ({"proc/sys/kernel/osrelease": "5.10.104-tegra\n"}, "the kernel's name"),
        ({"sys/devices/soc0/family": "Tegra\n"}, "the system-on-chip"),
        (
            {"sys/class/hwmon/hwmon3/name": "ina3221\n", "sys/class/hwmon/hwmon3/in1_label": "VDD_IN\n"},
            "its power monitors",
        ),
        (
            {"sys/bus/iio/devices/iio:device0/rail_name_0": "POM_5V_IN\n"},
            "its power monitors",
        ),
    ],
)
def test_a_container_that_hides_the_device_tree(tmp_path: Path, files: dict[str, str], found_by: str) -> None:
    found = find_jetson(machine(tmp_path, files))
    assert found is not None
    assert (found.found_by, found.model, found.target) == (found_by, "", "")


def test_an_integrated_gpu_of_a_jetson(tmp_path: Path) -> None:
    found = find_jetson(tmp_path, integrated_gpu=(8, 7))
    assert found is not None
    assert found.found_by == "its GPU"
    assert find_jetson(tmp_path, integrated_gpu=(12, 1)) is None  # GB10, which is no Jetson


@pytest.mark.parametrize(
    "files",
    [
        {"sys/class/hwmon/hwmon0/name": "ina3221\n", "sys/class/hwmon/hwmon0/in1_label": "battery\n"},
        {"proc/device-tree/model": "FriendlyElec NanoPi R5S\0", "proc/device-tree/compatible": "rockchip,rk3568\0"},
        {"proc/sys/kernel/osrelease": "6.1.0-18-arm64\n"},
    ],
)
def test_other_boards(tmp_path: Path, files: dict[str, str]) -> None:
    assert find_jetson(machine(tmp_path, files)) is None


def test_nvpmodels_answers() -> None:
    assert parse_nvpmodel("NV Power Mode: \nNVPM WARN: fan mode is not set!\n") == ""
    assert parse_nvpmodel("NV Power Mode:\r\nNVPM WARN: x\r\n2\r\n") == "mode 2"
    assert parse_nvpmodel("NV Fan Mode: cool\nNV Power Mode: MODE_30W\n2\n") == "MODE_30W"
    assert power_modes("# < POWER_MODEL ID=9 NAME=OLD >\n\t<POWER_MODEL ID=1 NAME=10W>\n") == {1: "10W"}


def test_any_other_machine(tmp_path: Path) -> None:
    assert find_jetson(tmp_path) is None
    assert find_jetson(machine(tmp_path, {"proc/device-tree/model": "Raspberry Pi 5"})) is None


def test_modes_are_in_no_order_of_power() -> None:
    assert power_modes(CONF) == {0: "15W", 2: "MAXN_SUPER"}
