"""For each module's recorded tree: rails, total, watts, and the energy of a known waveform."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from googlenet_deploy.device.power.energy import Energy
from googlenet_deploy.device.power.meter import NotMeasured, total_name
from googlenet_deploy.device.power.rails import TOTALS, chosen_total, total_of
from googlenet_deploy.device.power.sampler import Sampler
from googlenet_deploy.device.power.select import open_meter
from googlenet_deploy.device.power.sysfs_rails import SysfsMeter
from googlenet_deploy.device.system.jetson import find_jetson
from googlenet_deploy.errors import UsageError

XAVIER = "GPU CPU SOC CV VDDRQ SYS5V"
ORIN = "VDD_IN VDD_CPU_GPU_CV VDD_SOC"
# Tree: rails in their order, how the total is made, watts of the total as recorded.
MODULES = {
    "nano": ("POM_5V_IN POM_5V_GPU POM_5V_CPU", "POM_5V_IN", 2.116),
    "tx2": (
        "VDD_SYS_GPU VDD_SYS_SOC VDD_4V0_WIFI VDD_IN VDD_SYS_CPU VDD_SYS_DDR VDD_MUX VDD_5V0_IO_SYS VDD_3V3_SYS",
        "VDD_IN",
        2.681,
    ),
    "agx-xavier-jetpack4": (XAVIER, "GPU + CPU + SOC + CV + VDDRQ + SYS5V", 0.153 + 0.689 + 1.608 + 0.306 + 2.192),
    "agx-xavier-jetpack5": (
        XAVIER,
        "GPU + CPU + SOC + CV + VDDRQ + SYS5V",
        (19144 * (8 + 36 + 84) + 19136 * 16 + 4936 * 444) / 1e6,
    ),
    "xavier-nx": (ORIN, "VDD_IN", 4.984 * 0.712),
    "orin-nano": (ORIN, "VDD_IN", 5.056 * 0.904),
    "orin-nx": (ORIN, "VDD_IN", 5.056 * 0.904),
    "agx-orin": (
        "VDD_GPU_SOC VDD_CPU_CV VIN_SYS_5V0 VDDQ_VDD2_1V8AO",
        "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0",
        (19216 * (168 + 40) + 4968 * 953) / 1e6,
    ),
    "thor": ("VDD_GPU VDD_CPU_SOC_MSS VIN_SYS_5V0 VIN", "VIN", 19.78),
}
MakeBoard = Callable[[str], Any]


@pytest.mark.parametrize("name", MODULES)
def test_rails_and_watts(name: str, board: MakeBoard) -> None:
    rails, total, watts = MODULES[name]
    meter = open_meter("auto", root=board(name).root)
    assert not isinstance(meter, NotMeasured), meter
    assert [rail.name for rail in meter.rails] == rails.split()
    assert total_name(meter.rails) == total
    values = meter.read()
    assert sum(values[rail.name] for rail in meter.rails if rail.in_total) == pytest.approx(watts, abs=1e-6)


@pytest.mark.parametrize("name", MODULES)
def test_energy_of_a_known_waveform(name: str, board: MakeBoard, clock: Any) -> None:
    module = board(name)
    meter = open_meter("auto", root=module.root)
    assert not isinstance(meter, NotMeasured), meter
    parts = [rail.name for rail in meter.rails if rail.in_total]

    def total(time: float) -> float:
        return 9.0 + 3.0 * math.sin(2 * math.pi * time / 0.7) + 0.5 * time

    def integral(time: float) -> float:
        return 9.0 * time - 3.0 * 0.7 / (2 * math.pi) * math.cos(2 * math.pi * time / 0.7) + 0.25 * time**2

    sampler = Sampler(meter, clock)
    begin = clock()
    while clock() < begin + 1.7:
        for rail in parts:
            module.set_watts(rail, total(clock() - begin) / len(parts))
        sampler.sample()
        clock.advance(meter.period)
    energy = sampler.energy(begin + 0.1234, begin + 1.5567)
    assert isinstance(energy, Energy), energy
    expected = integral(1.5567) - integral(0.1234)
    assert energy.joules == pytest.approx(expected, rel=0.01)
    assert abs(energy.joules - expected) <= energy.uncertainty
    assert energy.watts == pytest.approx(expected / (1.5567 - 0.1234), rel=0.01)
    assert energy.rate == pytest.approx(1 / meter.period, rel=0.02)
    assert energy.readings >= 20
    assert energy.lost == 0
    assert sum(energy.rails[rail] for rail in parts) == pytest.approx(energy.joules)


def test_thors_negative_idle_readings_are_kept_and_told(board: MakeBoard, clock: Any) -> None:
    module = board("thor")
    meter = open_meter("auto", root=module.root)
    assert not isinstance(meter, NotMeasured)
    assert meter.read()["VDD_GPU"] == pytest.approx(-0.391, abs=0.001)
    sampler = Sampler(meter, clock)
    for _ in range(60):
        sampler.sample()
        clock.advance(meter.period)
    energy = sampler.energy(100.0, 101.0)
    assert isinstance(energy, Energy)
    assert energy.rails["VDD_GPU"] == pytest.approx(-0.391, abs=0.001)
    assert any(note.startswith("VDD_GPU read below zero") for note in energy.notes)
    assert energy.joules == pytest.approx(19.78)


def test_a_total_that_is_not_positive_is_not_measured(board: MakeBoard, clock: Any) -> None:
    module = board("thor")
    meter = open_meter("ina", rails=("VDD_GPU",), root=module.root)
    assert isinstance(meter, SysfsMeter)
    sampler = Sampler(meter, clock)
    for _ in range(60):
        sampler.sample()
        clock.advance(meter.period)
    energy = sampler.energy(100.0, 101.0)
    assert isinstance(energy, NotMeasured)
    assert "offset is larger than the power" in energy.reason


def test_thor_without_its_carrier_boards_monitor_takes_the_modules_rails(board: MakeBoard) -> None:
    module = board("thor")
    for path in (module.root / "sys/bus/i2c/drivers/ina238").rglob("power1_input"):
        path.unlink()
    meter = open_meter("auto", root=module.root)
    assert not isinstance(meter, NotMeasured)
    assert total_name(meter.rails) == "VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0"


def test_an_ina238_without_a_label_is_named_as_tegrastats_does(board: MakeBoard) -> None:
    module = board("thor")
    (module.root / "sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon5/label").unlink()
    meter = open_meter("auto", root=module.root)
    assert not isinstance(meter, NotMeasured)
    assert total_name(meter.rails) == "VIN"


def test_the_drivers_own_interval_sets_the_pace(board: MakeBoard) -> None:
    module = board("orin-nano")
    interval = module.root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/update_interval"
    for text, period in (("10", 0.05), ("140", 0.14), ("999999999", 0.05), ("soon", 0.05)):
        interval.write_text(text)
        meter = open_meter("auto", root=module.root)
        assert not isinstance(meter, NotMeasured)
        assert meter.period == pytest.approx(period)


def test_error_limits_follow_the_sense_resistor(board: MakeBoard) -> None:
    orin = open_meter("auto", root=board("agx-orin").root)
    assert not isinstance(orin, NotMeasured)
    limits = {rail.name: rail.limits for rail in orin.rails}
    # 80 microvolts and 40 microvolts over 2 milliohms, at the rail's own voltage.
    assert limits["VIN_SYS_5V0"].watts == pytest.approx(4.968 * 80e-6 / 0.002)
    assert limits["VDD_GPU_SOC"].step == pytest.approx(19.216 * 40e-6 / 0.002)
    assert limits["VDD_GPU_SOC"].relative == pytest.approx(0.015)


def test_rails_of_no_known_module_are_not_added_up(board: MakeBoard) -> None:
    module = board("orin-nano")
    label = module.root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in1_label"
    label.write_text("VDD_SOMETHING\n")
    answer = open_meter("ina", root=module.root)
    assert isinstance(answer, NotMeasured)
    assert "VDD_SOMETHING, VDD_CPU_GPU_CV, VDD_SOC" in answer.reason
    assert "--power-rails" in answer.remedy
    chosen = open_meter("ina", rails=("VDD_SOMETHING",), root=module.root)
    assert not isinstance(chosen, NotMeasured)
    assert chosen.covers == "the chosen rails"


def test_a_rail_that_is_not_there_is_refused(board: MakeBoard) -> None:
    with pytest.raises(UsageError, match="no rail NOPE; there are VDD_IN, VDD_CPU_GPU_CV, VDD_SOC"):
        open_meter("ina", rails=("NOPE",), root=board("orin-nano").root)


@pytest.mark.parametrize("name", MODULES)
def test_every_recorded_tree_is_a_jetson(name: str, board: MakeBoard) -> None:
    found = find_jetson(board(name).root)
    assert found is not None
    module = name.partition("-jetpack")[0]
    assert found.target == {"orin-nx": "orin-nx-16gb"}.get(module, module)


@settings(deadline=None)
@given(st.sets(st.sampled_from(sorted({rail for total in TOTALS for rail in total.rails} | {"VDD_MUX", "VDD_SOC"}))))
def test_a_total_never_names_a_rail_that_is_absent(names: set[str]) -> None:
    total = total_of(names)
    assert total is None or set(total.rails) <= names


def test_chosen_total_keeps_its_order() -> None:
    assert chosen_total(("A", "B", "C"), ("C", "A")).rails == ("C", "A")
    with pytest.raises(ValueError, match="no rail D"):
        chosen_total(("A",), ("D",))


def test_any_other_machine_says_why_there_is_no_meter(tmp_path: Path) -> None:
    answer = open_meter("ina", root=tmp_path)
    assert isinstance(answer, NotMeasured)
    assert "no INA3221 or INA238" in answer.reason
