from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from googlenet_deploy.device.power import select, tegrastats
from googlenet_deploy.device.power.energy import Energy, energy_between
from googlenet_deploy.device.power.meter import MeterGoneError, NotMeasured, total_name
from googlenet_deploy.device.power.rails import Total
from googlenet_deploy.device.power.sampler import Sampler
from googlenet_deploy.device.power.tegrastats import TegrastatsMeter, find_tegrastats, parse_line
from googlenet_deploy.device.system.sysfs import LostReadingError

# Module: supplies in watts, some temperatures, the GPU's clocks, its load.
LINES: dict[str, tuple[dict[str, float], dict[str, float], tuple[int, ...], int | None]] = {
    "nano": ({"POM_5V_IN": 0.933, "POM_5V_GPU": 0, "POM_5V_CPU": 0.084}, {"PLL": 20.5, "GPU": 22}, (76,), 0),
    "tx2": (
        {
            "VDD_SYS_GPU": 0.182,
            "VDD_SYS_SOC": 0.455,
            "VDD_4V0_WIFI": 0.019,
            "VDD_IN": 5.297,
            "VDD_SYS_CPU": 0.289,
            "VDD_SYS_DDR": 0.806,
        },
        {"BCPU": 32, "Tdiode": 29.25},
        (114,),
        0,
    ),
    "agx-xavier": (
        {"GPU": 0, "CPU": 0.612, "SOC": 1.531, "CV": 0, "VDDRQ": 0.306, "SYS5V": 2.192},
        {"GPU": 36, "CPU": 36.5},
        (318,),
        0,
    ),
    "xavier-nx": ({"VDD_IN": 3.55, "VDD_CPU_GPU_CV": 0.478, "VDD_SOC": 1.038}, {"PMIC": 50}, (114,), 17),
    "orin-nano": ({"VDD_IN": 12.479, "VDD_CPU_GPU_CV": 4.667, "VDD_SOC": 2.817}, {"tj": 53.968}, (621,), 63),
    "agx-orin": (
        {"VDD_GPU_SOC": 3.15, "VDD_CPU_CV": 14.312, "VIN_SYS_5V0": 4.968, "VDDQ_VDD2_1V8AO": 1.091},
        {"tj": 77.281, "CV0": 73.625},
        (407, 407),
        14,
    ),
    "agx-orin-jetpack7": (
        {"VDD_GPU_SOC": 5.139, "VDD_CPU_CV": 1.192, "VIN_SYS_5V0": 4.242, "VDDQ_VDD2_1V8AO": 0.602},
        {"tj": 46.5},
        (1300, 1300),
        12,
    ),
    "thor": (
        {"VDD_GPU": 1.962, "VDD_CPU_SOC_MSS": 6.271, "VIN_SYS_5V0": 6.52, "VIN": 19.78},
        {"tj": 38.875},
        (314, 314, 314),
        None,
    ),
    "thor-idle": (
        {"VDD_GPU": -0.392, "VDD_CPU_SOC_MSS": 3.924, "VIN_SYS_5V0": 6.52, "VIN": 17.8},
        {"tj": 38.875},
        (314, 314, 314),
        None,
    ),
}
Start = Callable[..., list[str]]


@pytest.fixture
def script(tmp_path: Path) -> Start:
    """A command that prints lines and then does what `then` says; --interval is ignored."""

    def make(lines: list[str], then: str = "") -> list[str]:
        path = tmp_path / "tegrastats.py"
        path.write_text(f"import sys, time\nfor line in {lines!r}:\n    print(line, flush=True)\n{then}\n")
        return [sys.executable, "-S", str(path)]

    return make


@pytest.mark.parametrize("name", LINES)
def test_every_published_form(name: str, tegrastats_lines: dict[str, str]) -> None:
    watts, celsius, clocks, load = LINES[name]
    line = parse_line(tegrastats_lines[name])
    assert line.watts == pytest.approx(watts)
    assert celsius.items() <= line.celsius.items()
    assert line.gpu_mhz == clocks
    assert line.gpu_percent == load


def test_every_recorded_line_is_tested(tegrastats_lines: dict[str, str]) -> None:
    assert set(tegrastats_lines) == set(LINES)


def test_sensors_of_powered_down_units_are_left_out(tegrastats_lines: dict[str, str]) -> None:
    assert "iwlwifi" not in parse_line(tegrastats_lines["xavier-nx"]).celsius
    assert "CV1" not in parse_line(tegrastats_lines["agx-orin"]).celsius


@pytest.mark.parametrize("line", ["", "\x00\xff", "RAM 331/3964MB", "VDD_IN 12479mW/124", "VDD_IN /", "GR3D_FREQ @[]"])
def test_lines_without_supplies(line: str) -> None:
    parsed = parse_line(line)
    assert parsed.watts == ({"VDD_IN": 12.479} if line.startswith("VDD_IN 1") else {})
    assert parsed.celsius == {}
    assert parsed.gpu_mhz == ()


@pytest.mark.parametrize("name", LINES)
def test_energy_of_a_ramp(name: str, tegrastats_lines: dict[str, str], script: Start, clock: Any) -> None:
    module = tegrastats_lines[name]
    rail = next(rail for rail in LINES[name][0] if rail in ("POM_5V_IN", "VDD_IN", "VIN", "GPU", "VDD_GPU_SOC"))
    rail = "VIN" if "VIN" in LINES[name][0] else rail
    now, unit = round(LINES[name][0][rail] * 1000), "mW" if "mW/" in module else ""
    lines = [module.replace(f"{rail} {now}{unit}/", f"{rail} {5000 + 100 * step}{unit}/") for step in range(41)]
    meter = TegrastatsMeter(script([module, *lines]))
    total = sum(LINES[name][0][part] for part in total_name(meter.rails).split(" + ")) - LINES[name][0][rail]
    sampler = Sampler(meter, clock)
    while sampler.sample():
        clock.advance(meter.period)
    meter.close()
    assert len(sampler.trace.times) == 41
    sampler.trace.ended = ""
    energy = energy_between(sampler.trace, meter, 100.05, 103.95)
    assert isinstance(energy, Energy), energy
    assert energy.joules == pytest.approx((5.0 + 2.0 + total) * 3.9, rel=0.01)


def test_tegrastats_that_dies(tegrastats_lines: dict[str, str], script: Start, clock: Any) -> None:
    command = script([tegrastats_lines["orin-nano"]] * 11, "sys.exit('lost the sensor')")
    meter = TegrastatsMeter(command)
    sampler = Sampler(meter, clock)
    while sampler.sample():
        clock.advance(meter.period)
    answer = sampler.energy(100.0, 105.0)
    meter.close()
    assert isinstance(answer, NotMeasured)
    assert "do not reach across the window" in answer.reason
    assert "ended (exit status 1: lost the sensor)" in answer.reason


def test_tegrastats_that_is_killed(tegrastats_lines: dict[str, str], script: Start) -> None:
    command = script([tegrastats_lines["orin-nano"]], "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    meter = TegrastatsMeter(command)
    with pytest.raises(MeterGoneError, match="ended \\(signal 9\\)"):
        meter.read()
    meter.close()


def test_tegrastats_that_falls_silent(
    tegrastats_lines: dict[str, str], script: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = TegrastatsMeter(script([tegrastats_lines["orin-nano"]], "time.sleep(600)"))
    monkeypatch.setattr(tegrastats, "SECONDS_OF_SILENCE", 0.05)
    with pytest.raises(LostReadingError, match="silent"):
        meter.read()
    meter.close()
    with pytest.raises(MeterGoneError, match="was closed"):
        meter.read()
    meter.close()


def test_tegrastats_that_does_not_listen_is_killed(
    tegrastats_lines: dict[str, str], script: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    meter = TegrastatsMeter(script([tegrastats_lines["orin-nano"]], ignore))
    with pytest.raises(LostReadingError, match="a line without VDD_IN"):
        meter.read()
    monkeypatch.setattr(tegrastats, "SECONDS_OF_SILENCE", 0.05)
    meter.close()
    assert meter._lines._process.returncode == -9


def test_a_truncated_line_is_lost_and_the_next_counts(tegrastats_lines: dict[str, str], script: Start) -> None:
    line = tegrastats_lines["orin-nano"]
    meter = TegrastatsMeter(script([line, line[:-20], line]))
    with pytest.raises(LostReadingError, match="a line without VDD_SOC"):
        meter.read()
    assert meter.read()["VDD_SOC"] == pytest.approx(2.817)
    meter.close()


@pytest.mark.parametrize(
    ("lines", "then", "words"),
    [
        (["RAM 331/1964MB"] * 9, "", "prints no supplies"),
        ([], "sys.exit(3)", "ended \\(exit status 3\\)"),
        (["VDD_WHAT 5mW/5mW"], "", "no known module: VDD_WHAT"),
        ([], "time.sleep(600)", "silent"),
    ],
)
def test_tegrastats_that_cannot_serve(
    lines: list[str], then: str, words: str, script: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    if then.startswith("time"):
        monkeypatch.setattr(tegrastats, "SECONDS_OF_SILENCE", 0.05)
    with pytest.raises(MeterGoneError, match=words):
        TegrastatsMeter(script(lines, then))


def test_chosen_supplies(tegrastats_lines: dict[str, str], script: Start) -> None:
    command = script([tegrastats_lines["orin-nano"]] * 2)
    meter = TegrastatsMeter(command, Total(("VDD_SOC",), "the chosen rails"))
    meter.close()
    assert total_name(meter.rails) == "VDD_SOC"
    with pytest.raises(MeterGoneError, match="prints no NOPE; it prints VDD_IN"):
        TegrastatsMeter(command, Total(("NOPE",), "the chosen rails"))


def test_where_it_lies(tmp_path: Path) -> None:
    assert find_tegrastats(tmp_path) is None
    assert find_tegrastats() is None or Path(find_tegrastats() or "").is_file()
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/tegrastats").write_text("not a program")
    assert find_tegrastats(tmp_path) == str(tmp_path / "usr/bin/tegrastats")
    answer = select.open_meter("tegrastats", root=tmp_path)
    assert isinstance(answer, NotMeasured)
    assert "cannot be started" in answer.reason


def test_auto_falls_back_to_tegrastats_and_says_why(
    tmp_path: Path, board: Any, tegrastats_lines: dict[str, str], script: Start
) -> None:
    root = board("orin-nano").root
    for label in root.rglob("in*_label"):
        label.unlink()
    program = root / "usr/bin/tegrastats"
    program.parent.mkdir(parents=True)
    inner = script([tegrastats_lines["orin-nano"]] * 2)
    program.write_text(f"#!/bin/sh\nexec {' '.join(inner)}\n")
    program.chmod(0o755)
    meter = select.open_meter("auto", root=root)
    assert isinstance(meter, TegrastatsMeter), meter
    meter.close()
    assert any("no INA3221" in note for note in meter.notes)


@pytest.mark.parametrize(
    ("text", "celsius", "mhz", "percent"),
    [
        ("GR3D_FREQ 0% cpu@52.968C/53C VDD_IN 1mW/1mW", {"cpu": 52.968}, (), 0),
        ("GR3D_FREQ 99%@[1300,1298] tj@-1.5C/2C/3C gpu@61C", {"tj": -1.5, "gpu": 61.0}, (1300, 1298), 99),
        ("GR3D_FREQ @[1000,1000] cpu@40C", {"cpu": 40.0}, (1000, 1000), None),
        ("GR3D_FREQ 7%@", {}, (), None),
    ],
)
def test_forms_of_clocks_and_temperatures(
    text: str, celsius: dict[str, float], mhz: tuple[int, ...], percent: int | None
) -> None:
    found = parse_line(f"RAM 1/2MB (lfb 1x4MB) CPU [0%@729] {text} NC 0mW/0mW")
    assert (found.celsius, found.gpu_mhz, found.gpu_percent) == (celsius, mhz, percent)
    assert "NC" not in found.watts
