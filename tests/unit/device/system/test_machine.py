"""Clocks, temperatures, power mode and throttling, on trees of /sys as modules and workstations have them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from fake_nvml import FakeNvml

from googlenet_deploy.device.system import machine as module
from googlenet_deploy.device.system.clocks import Clock, cpu_clocks, gpu_clock, memory_mhz
from googlenet_deploy.device.system.jetson import parse_nvpmodel, power_mode
from googlenet_deploy.device.system.machine import LoadMonitor, MachineState, describe_machine, read_state, throttling
from googlenet_deploy.device.system.nvml import CLOCK_MEMORY, CLOCK_SM, Nvml
from googlenet_deploy.device.system.thermal import Zone, thermal_zones, throttle_counts

from .test_jetson import machine

DEVFREQ = "sys/class/devfreq/17000000.gpu"
ZONE = "sys/class/thermal/thermal_zone"
OC = "sys/class/hwmon/hwmon3"
ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/meminfo": "MemTotal:        7802336 kB\n",
    "proc/cpuinfo": "processor : 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\nCPU implementer : 0x41\n",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
    "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n",
    f"{DEVFREQ}/device/of_node/name": "ga10b\0",
    f"{DEVFREQ}/cur_freq": "612000000\n",
    f"{DEVFREQ}/min_freq": "306000000\n",
    f"{DEVFREQ}/max_freq": "1020000000\n",
    f"{DEVFREQ}/governor": "nvhost_podgov\n",
    "sys/class/devfreq/15340000.vic/device/of_node/name": "vic\0",
    "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "729600\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": "729600\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1728000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "1728000\n",
    "sys/kernel/debug/bpmp/debug/clk/emc/rate": "3199000000\n",
    f"{ZONE}0/type": "cpu-thermal\n",
    f"{ZONE}0/temp": "52656\n",
    f"{ZONE}0/trip_point_0_type": "critical\n",
    f"{ZONE}0/trip_point_0_temp": "104500\n",
    f"{ZONE}0/trip_point_1_type": "passive\n",
    f"{ZONE}0/trip_point_1_temp": "99000\n",
    f"{ZONE}1/type": "gpu-thermal\n",
    f"{ZONE}1/temp": "-256000\n",
    f"{ZONE}2/type": "PMIC-Die\n",
    f"{ZONE}2/temp": "100000\n",
    f"{ZONE}10/type": "tj-thermal\n",
    f"{ZONE}10/temp": "53968\n",
    f"{ZONE}11/type": "cv0-thermal\n",
    f"{OC}/name": "soctherm_oc\n",
    f"{OC}/oc1_event_cnt": "0\n",
    f"{OC}/oc3_event_cnt": "27\n",
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
}


def test_an_orin_nano(tmp_path: Path) -> None:
    root = machine(tmp_path, ORIN)
    what = describe_machine(root)
    assert (what.model, what.jetpack, what.l4t) == ("NVIDIA Jetson Orin Nano Developer Kit", "6.2", "36.4.3")
    assert what.processor == "ARMv8 Processor rev 1 (v8l)"
    assert what.memory_bytes == 7802336 * 1024
    state = read_state(root)
    assert state.power_mode == "MAXN_SUPER"
    assert state.gpu == Clock("ga10b", 612.0, 306.0, 1020.0, "nvhost_podgov")
    assert not state.gpu.locked
    assert [(clock.name, clock.mhz) for clock in state.cpu] == [("policy0", 729.6), ("policy4", 1728.0)]
    assert state.memory_mhz == 3199.0
    assert state.zones == (Zone("cpu-thermal", 52.656, 99.0), Zone("tj-thermal", 53.968, None))
    assert state.counts == {"under-voltage (oc1)": 0, "instantaneous over-current (oc3)": 27}
    assert state.to_dict()["celsius"] == {"cpu-thermal": 52.656, "tj-thermal": 53.968}
    assert state.to_dict()["gpu_clock"]["locked"] is False


@pytest.mark.parametrize("node", ["gp10b", "gv11b", "ga10b", "gb10b", "gpu"])
def test_the_gpu_by_its_device_tree_node(node: str, tmp_path: Path) -> None:
    root = machine(tmp_path, {**ORIN, f"{DEVFREQ}/device/of_node/name": f"{node}\0"})
    found = gpu_clock(root)
    assert found is not None
    assert found.name == node


def test_thors_gpu_has_no_device_tree_node(tmp_path: Path) -> None:
    files = {
        "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000",
        "sys/class/devfreq/gpu-nvd-0/cur_freq": "1",
    }
    assert gpu_clock(machine(tmp_path, files)) == Clock("gpu-gpc-0", 1575.0, None, None, "")


def test_clocks_that_jetson_clocks_has_locked(tmp_path: Path) -> None:
    found = gpu_clock(machine(tmp_path, {**ORIN, f"{DEVFREQ}/min_freq": "1020000000"}))
    assert found is not None
    assert found.locked


def test_a_workstation_without_cpufreq(tmp_path: Path) -> None:
    text = "processor : 0\nmodel name : Some CPU\ncpu MHz\t\t: 2596.126\nprocessor : 1\ncpu MHz\t\t: 1200.5\n"
    root = machine(tmp_path, {"proc/cpuinfo": text, "sys/class/dmi/id/product_name": "Workstation\n"})
    assert [clock.mhz for clock in cpu_clocks(root)] == [2596.126, 1200.5]
    assert describe_machine(root).model == "Workstation"
    assert describe_machine(root).processor == "Some CPU"


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    state = read_state(tmp_path)
    assert state == MachineState("", None, (), None, ())
    assert memory_mhz(tmp_path) is None
    assert describe_machine(tmp_path).memory_bytes is None
    assert describe_machine(tmp_path).processor


@pytest.mark.parametrize("garbage", ["", "-1", "fast", "0"])
def test_garbage_is_no_clock(garbage: str, tmp_path: Path) -> None:
    found = gpu_clock(machine(tmp_path, {**ORIN, f"{DEVFREQ}/cur_freq": garbage}))
    assert found is not None
    assert found.mhz is None


@pytest.mark.parametrize("garbage", ["", "hot", "999999", "-50000"])
def test_garbage_is_no_temperature(garbage: str, tmp_path: Path) -> None:
    zones = thermal_zones(machine(tmp_path, {**ORIN, f"{ZONE}0/temp": garbage}))
    assert [zone.name for zone in zones] == ["tj-thermal"]


def test_throttling_of_an_x86_processor(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpu{}/thermal_throttle/{}_throttle_count"
    files = {folder.format(0, "core"): "3", folder.format(1, "core"): "4", folder.format(0, "package"): "9"}
    assert throttle_counts(machine(tmp_path, files)) == {"processor heat (core)": 7, "processor heat (package)": 9}


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_30W\n2\n", "MODE_30W"),
        ("NV Power Mode: MAXN\n0\n", "MAXN"),
        ("3\n", "mode 3"),
        ("NVPM ERROR: failed\n", ""),
    ],
)
def test_what_nvpmodel_prints(text: str, mode: str) -> None:
    assert parse_nvpmodel(text) == mode


def test_nvpmodel_is_asked_where_it_keeps_no_status(tmp_path: Path) -> None:
    program = machine(tmp_path, {"usr/sbin/nvpmodel": "#!/bin/sh\necho 'NV Power Mode: 15W'\necho 0\n"})
    (program / "usr/sbin/nvpmodel").chmod(0o755)
    assert power_mode(tmp_path) == "15W"


def test_an_nvpmodel_that_cannot_be_run_is_no_mode(tmp_path: Path) -> None:
    assert power_mode(machine(tmp_path, {"usr/sbin/nvpmodel": "not a program"})) == ""


def load(gpu_mhz: list[float], slowed_by: set[str] | None = None) -> LoadMonitor:
    monitor = LoadMonitor(Path("/nowhere"))
    monitor.gpu_mhz, monitor.slowed_by = gpu_mhz, slowed_by or set()
    return monitor


NOTHING = MachineState("MAXN", None, (), None, (), {"average over-current (oc2)": 5})


def test_a_quiet_run() -> None:
    assert throttling(NOTHING, load([1020.0] * 20), NOTHING) == []


def test_what_tells_of_throttling() -> None:
    after = MachineState("15W", None, (), None, (), {"average over-current (oc2)": 7})
    found = throttling(NOTHING, load([1020.0] * 8 + [612.0] * 8, {"power cap"}), after)
    assert found == [
        "power cap",
        "average over-current (oc2): 2 events",
        "the GPU's clock fell from 1020 to 612 MHz under load",
        "the power mode changed from MAXN to 15W",
    ]


@pytest.mark.parametrize("clocks", [[1020.0, 612.0], [1020.0] * 8 + [1000.0] * 8, [612.0] * 8 + [1020.0] * 8])
def test_clocks_that_tell_nothing(clocks: list[float]) -> None:
    assert throttling(NOTHING, load(clocks), NOTHING) == []


def test_a_zone_at_its_passive_trip_is_noticed(tmp_path: Path) -> None:
    root = machine(tmp_path, {**ORIN, f"{ZONE}0/temp": "99500"})
    monitor = LoadMonitor(root)
    monitor.observe()
    assert monitor.slowed_by == {"heat (cpu-thermal reached 99 degrees Celsius)"}
    machine(tmp_path, {f"{ZONE}0/temp": "70000", f"{DEVFREQ}/cur_freq": "1020000000"})
    monitor.observe()
    told = monitor.to_dict()
    assert told["gpu_mhz"] == {"lowest": 612.0, "median": 816.0, "highest": 1020.0}
    assert told["cpu_mhz"] == {"lowest": 1728.0, "median": 1728.0, "highest": 1728.0}
    assert told["hottest_celsius"]["cpu-thermal"] == 99.5
    assert told["observations"] == 2


def test_a_machine_without_clocks_gives_none_under_load(tmp_path: Path) -> None:
    monitor = LoadMonitor(tmp_path)
    monitor.observe()
    assert monitor.to_dict() == {"observations": 0, "gpu_mhz": None, "cpu_mhz": None, "hottest_celsius": {}}


def test_the_monitor_looks_in_a_thread_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OBSERVATION_PERIOD", 0.0)
    seen = threading.Event()
    monkeypatch.setattr(module, "cpu_clocks", lambda _root: (seen.set(), ())[1])
    with LoadMonitor(tmp_path) as monitor:
        assert seen.wait(30)
    assert not monitor._thread.is_alive()


def test_a_discrete_gpu_is_asked_through_nvml(tmp_path: Path) -> None:
    library = FakeNvml(
        **{
            f"nvmlDeviceGetClockInfo({CLOCK_SM})": 1755,
            f"nvmlDeviceGetClockInfo({CLOCK_MEMORY})": 2619,
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetTemperature": 41,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x80,
        }
    )
    gpu = Nvml(library=library)
    state = read_state(tmp_path, gpu)
    assert state.gpu == Clock("NVIDIA Test", 1755.0, None, 1980.0, "")
    assert state.memory_mhz == 2619.0
    assert state.zones == (Zone("GPU", 41.0, None),)
    assert state.slowed_by == ("power brake",)
    assert describe_machine(tmp_path, gpu).driver == "570.1"
    library.status.update(nvmlDeviceGetClockInfo=3, nvmlDeviceGetTemperature=3, nvmlDeviceGetName=999)
    assert describe_machine(tmp_path, gpu).gpu == ""
    state = read_state(tmp_path, gpu)
    assert (state.gpu, state.zones, state.slowed_by) == (None, (), ("power brake",))
