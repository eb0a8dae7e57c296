"""Monitors that vanish, do not answer, or hold garbage: clear words, never a wrong number."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from googlenet_deploy.device.power.energy import Energy
from googlenet_deploy.device.power.meter import NotMeasured
from googlenet_deploy.device.power.sampler import Sampler
from googlenet_deploy.device.power.select import open_meter, open_sampler
from googlenet_deploy.device.system import sysfs
from googlenet_deploy.device.system.sysfs import LostReadingError, natural_key, read_int, read_text, try_int, try_text

HWMON = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
IIO = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
INA238 = "sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon5"


def sampled(root: Path, clock: Any, before: int, spoil: Callable[[], object], after: int) -> Any:
    meter = open_meter("auto", root=root)
    assert not isinstance(meter, NotMeasured), meter
    sampler = Sampler(meter, clock)
    for count, action in ((before, None), (after, spoil)):
        if action:
            action()
        for _ in range(count):
            sampler.sample()
            clock.advance(meter.period)
    return sampler.energy(100.1, 102.0)


def test_a_file_that_disappears(board: Any, clock: Any) -> None:
    root = board("orin-nano").root
    answer = sampled(root, clock, 20, (root / HWMON / "curr1_input").unlink, 40)
    assert isinstance(answer, NotMeasured)
    assert "do not reach across the window" in answer.reason
    assert "curr1_input: cannot be read: no such file or directory" in answer.reason


def test_a_whole_chip_that_disappears(board: Any, clock: Any) -> None:
    root = board("orin-nano").root
    answer = sampled(root, clock, 20, lambda: shutil.rmtree(root / HWMON), 40)
    assert isinstance(answer, NotMeasured)
    assert "no such file" in answer.reason


@pytest.mark.parametrize("garbage", ["", "many", "4.5", "0x20", "1 2", "99999999", "-1", "\0\0"])
def test_garbage_in_a_voltage(garbage: str, board: Any, clock: Any) -> None:
    root = board("orin-nano").root
    answer = sampled(root, clock, 20, lambda: (root / HWMON / "in1_input").write_text(garbage), 40)
    assert isinstance(answer, NotMeasured)
    assert "in1_input" in answer.reason


@pytest.mark.parametrize(
    ("tree", "path", "garbage"),
    [
        ("orin-nano", f"{HWMON}/curr1_input", "2000000"),
        ("orin-nano", f"{HWMON}/curr1_input", "-2000000"),
        ("nano", f"{IIO}/in_power0_input", "2700001"),
        ("thor", f"{INA238}/power1_input", "5000000001"),
    ],
)
def test_values_that_the_chip_cannot_measure(tree: str, path: str, garbage: str, board: Any, clock: Any) -> None:
    root = board(tree).root
    answer = sampled(root, clock, 20, lambda: (root / path).write_text(garbage), 40)
    assert isinstance(answer, NotMeasured)
    assert Path(path).name in answer.reason


def test_garbage_that_passes_is_left_out_and_counted(board: Any, clock: Any) -> None:
    root = board("orin-nano").root
    meter = open_meter("auto", root=root)
    assert not isinstance(meter, NotMeasured)
    sampler = Sampler(meter, clock)
    voltage = root / HWMON / "in1_input"
    for count in range(120):
        voltage.write_text("garbage" if count in (40, 41) else "5056")
        sampler.sample()
        clock.advance(meter.period)
    energy = sampler.energy(100.1, 102.1)
    assert isinstance(energy, Energy)
    assert energy.watts == pytest.approx(5.056 * 0.904)
    assert energy.lost == 2


def test_a_monitor_that_only_root_may_read(board: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = board("orin-nano").root
    deny(monkeypatch, "curr1_input", errno.EACCES)
    answer = open_meter("ina", root=root)
    assert isinstance(answer, NotMeasured)
    assert "curr1_input: cannot be read: permission denied" in answer.reason
    assert "root" in answer.remedy


def test_without_tegrastats_both_reasons_are_given(board: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = board("orin-nano").root
    deny(monkeypatch, "curr1_input", errno.EACCES)
    sampler = open_sampler("auto", root=root)
    answer = sampler.energy(0.0, 1.0)
    assert isinstance(answer, NotMeasured)
    assert "permission denied" in answer.reason
    assert "tegrastats is not installed" in answer.reason


def deny(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Lets the file `name` answer with an error, also for root."""
    real = os.open

    def opened(path: str, *arguments: Any, **options: Any) -> int:
        if Path(path).name == name:
            raise OSError(number, os.strerror(number))
        return real(path, *arguments, **options)

    monkeypatch.setattr(sysfs.os, "open", opened)


def test_a_sensor_that_answers_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "temp"
    path.write_text("41000\n")
    assert read_int(path) == 41000
    monkeypatch.setattr(sysfs.os, "read", lambda *_: (_ for _ in ()).throw(BlockingIOError(errno.EAGAIN, "again")))
    with pytest.raises(LostReadingError, match="temp: cannot be read: again"):
        read_text(path)
    assert try_int(path) is None
    assert try_text(path) == ""


def test_text_is_stripped_of_nuls_and_newlines(tmp_path: Path) -> None:
    path = tmp_path / "name"
    path.write_bytes(b" ga10b\0\n")
    assert read_text(path) == "ga10b"
    with pytest.raises(LostReadingError, match="not an integer: 'ga10b'"):
        read_int(path)


def test_numbers_in_names_sort_as_numbers() -> None:
    assert sorted(map(Path, ("cpu10", "cpu2", "cpu")), key=natural_key) == [Path("cpu"), Path("cpu2"), Path("cpu10")]


def spoil(root: Path, rail: str) -> None:
    """Makes the reads of a rail's channel fail, as ENODATA and EAGAIN do."""
    for label in root.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_label"):
        if label.read_text().strip() == rail:
            current = label.with_name(label.name.replace("in", "curr", 1).replace("_label", "_input"))
            current.unlink()
            current.mkdir()


def test_a_dead_rail_outside_the_total_ends_nothing(board: Any, clock: Any) -> None:
    root = board("agx-orin").root
    spoil(root, "VDDQ_VDD2_1V8AO")
    meter = open_meter("ina", root=root)
    assert not isinstance(meter, NotMeasured), meter
    assert "VDDQ_VDD2_1V8AO" not in [rail.name for rail in meter.rails]
    assert any("VDDQ_VDD2_1V8AO is not measured" in note for note in meter.notes)
    energy = sampled(root, clock, 20, lambda: None, 40)
    assert isinstance(energy, Energy)


def test_a_rail_outside_the_total_that_dies_under_way_ends_nothing(board: Any, clock: Any) -> None:
    root = board("agx-orin").root
    energy = sampled(root, clock, 20, lambda: spoil(root, "VDDQ_VDD2_1V8AO"), 40)
    assert isinstance(energy, Energy)
    assert set(energy.rails) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"}
    assert any("VDDQ_VDD2_1V8AO missed readings" in note for note in energy.notes)


def test_a_dead_rail_of_the_total_is_named_without_a_word_of_permissions(board: Any) -> None:
    root = board("agx-orin").root
    spoil(root, "VDD_CPU_CV")
    meter = open_meter("ina", root=root)
    assert isinstance(meter, NotMeasured)
    assert "is a directory" in meter.reason
    assert "root" not in meter.remedy
    assert "--power-rails" in meter.remedy


def test_missing_permission_has_its_own_remedy(board: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = board("orin-nano").root

    def refuse(path: str, *_: Any) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    labels = open_meter("ina", root=root)
    assert not isinstance(labels, NotMeasured)
    opened = os.open
    monkeypatch.setattr(sysfs.os, "open", lambda path, *rest: refuse(path) if "curr1" in path else opened(path, *rest))
    meter = open_meter("ina", root=root)
    assert isinstance(meter, NotMeasured)
    assert "run as root" in meter.remedy
