from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from googlenet_deploy.device.power.energy import Energy, energy_between
from googlenet_deploy.device.power.meter import MeterGoneError, NotMeasured, total_name
from googlenet_deploy.device.power.rapl import RaplMeter, find_rapl
from googlenet_deploy.device.power.sampler import Sampler
from googlenet_deploy.device.power.select import open_meter
from googlenet_deploy.device.system.sysfs import LostReadingError

from .test_bad_sysfs import deny

RANGE = 262_143_328_850
DOMAINS = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "dram",
    "intel-rapl:1": "package-1",
    "intel-rapl:2": "psys",
    "intel-rapl-mmio:0": "package-0",
}


@pytest.fixture
def rapl(tmp_path: Path) -> Path:
    for folder, name in DOMAINS.items():
        path = tmp_path / "sys/class/powercap" / folder
        path.mkdir(parents=True)
        (path / "name").write_text(f"{name}\n")
        (path / "energy_uj").write_text("1000000\n")
        (path / "max_energy_range_uj").write_text(f"{RANGE}\n")
    return tmp_path


def set_microjoules(root: Path, folder: str, value: int) -> None:
    (root / "sys/class/powercap" / folder / "energy_uj").write_text(f"{value}\n")


def test_the_total_is_packages_and_their_memory(rapl: Path) -> None:
    meter = open_meter("rapl", root=rapl)
    assert isinstance(meter, RaplMeter)
    assert [rail.name for rail in meter.rails] == ["package-0", "core-0", "dram-0", "package-1", "psys-2"]
    assert total_name(meter.rails) == "package-0 + dram-0 + package-1"


def test_auto_takes_it_for_work_on_a_cpu_only(rapl: Path) -> None:
    assert isinstance(open_meter("auto", "CPU", root=rapl), RaplMeter)
    assert not isinstance(open_meter("auto", "GPU", root=rapl), RaplMeter)


def test_energy_across_a_wrap(rapl: Path, clock: Any) -> None:
    # 30 W of package 0, 5 W of its memory, 10 W of package 1; package 0 wraps after two seconds.
    watts = {"intel-rapl:0": 30.0, "intel-rapl:0:1": 5.0, "intel-rapl:1": 10.0}
    first = {"intel-rapl:0": RANGE - 60_000_000, "intel-rapl:0:1": 7, "intel-rapl:1": 0}
    begin = clock()

    def write() -> None:
        for folder, power in watts.items():
            count = first[folder] + round(power * (clock() - begin) * 1e6)
            set_microjoules(rapl, folder, count % RANGE)

    write()
    meter = RaplMeter(find_rapl(rapl), clock)
    sampler = Sampler(meter, clock)
    for _ in range(120):
        sampler.sample()
        clock.advance(meter.period)
        write()
    energy = sampler.energy(begin + 0.31, begin + 5.31)
    assert isinstance(energy, Energy), energy
    assert energy.joules == pytest.approx(45.0 * 5, rel=0.01)
    assert energy.rails["package-0"] == pytest.approx(150, rel=0.01)
    assert energy.accuracy is None


def test_a_counter_that_only_root_may_read(rapl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "energy_uj", errno.EACCES)
    answer = open_meter("rapl", root=rapl)
    assert isinstance(answer, NotMeasured)
    assert "only root may read it (CVE-2020-8694)" in answer.reason
    assert "chmod a+r" in answer.remedy


def test_a_machine_without_counters(tmp_path: Path) -> None:
    answer = open_meter("auto", "CPU", root=tmp_path)
    assert isinstance(answer, NotMeasured)
    assert "no RAPL counters" in answer.reason


@pytest.mark.parametrize("garbage", ["", "-5", "0", "many"])
def test_a_range_that_is_garbage_leaves_the_counter_out(garbage: str, rapl: Path) -> None:
    (rapl / "sys/class/powercap/intel-rapl:1/max_energy_range_uj").write_text(garbage)
    assert "package-1" not in [domain.name for domain in find_rapl(rapl)]


def test_a_counter_that_disappears_is_lost_without_a_jump(rapl: Path, clock: Any) -> None:
    meter = RaplMeter(find_rapl(rapl), clock)
    set_microjoules(rapl, "intel-rapl:0", 3_000_000)
    (rapl / "sys/class/powercap/intel-rapl:1/energy_uj").unlink()
    with pytest.raises(LostReadingError, match="no such file"):
        meter.read()
    set_microjoules(rapl, "intel-rapl:1", 1_500_000)
    assert meter.read()["package-0"] == pytest.approx(2.0)
    assert meter.read()["package-1"] == pytest.approx(0.5)


def test_a_pause_in_which_a_counter_may_have_wrapped_unseen(rapl: Path, clock: Any) -> None:
    meter = RaplMeter(find_rapl(rapl), clock)
    clock.advance(RANGE / 1e9 + 1)
    with pytest.raises(MeterGoneError, match="may have wrapped unseen"):
        meter.read()


def test_a_counter_beyond_its_own_range(rapl: Path, clock: Any) -> None:
    set_microjoules(rapl, "intel-rapl:0", RANGE * 2)
    meter = RaplMeter(find_rapl(rapl), clock)
    set_microjoules(rapl, "intel-rapl:0", 5)
    with pytest.raises(MeterGoneError, match="went back beyond its range"):
        meter.read()


def test_the_energy_of_one_domain_needs_its_readings_near_the_edges(rapl: Path, clock: Any) -> None:
    meter = RaplMeter(find_rapl(rapl), clock)
    sampler = Sampler(meter, clock)
    sampler.sample()
    clock.advance(1.0)
    sampler.sample()
    answer = energy_between(sampler.trace, meter, 100.2, 100.8)
    assert isinstance(answer, NotMeasured)
    assert "gave no reading for 1.00 s" in answer.reason
    meter.close()
