"""The power meter of a real Jetson."""

from __future__ import annotations

import time

import pytest

from googlenet_deploy.device.power.energy import Energy, window_for
from googlenet_deploy.device.power.meter import NotMeasured
from googlenet_deploy.device.power.sampler import Sampler
from googlenet_deploy.device.power.select import open_meter
from googlenet_deploy.device.system.jetson import find_jetson
from googlenet_deploy.device.system.machine import read_state

pytestmark = pytest.mark.jetson

WATTS = (0.5, 200.0)


@pytest.fixture(autouse=True)
def _on_a_jetson() -> None:
    if find_jetson() is None:
        pytest.skip("this is not a Jetson")


@pytest.mark.parametrize("choice", ["ina", "tegrastats"])
def test_some_seconds_of_energy(choice: str) -> None:
    meter = open_meter(choice)
    if isinstance(meter, NotMeasured):
        pytest.skip(meter.reason)
    with Sampler(meter) as sampler:
        start = sampler.begin()
        time.sleep(window_for(meter, 3.0))
        energy = sampler.energy(start, sampler.clock())
    assert isinstance(energy, Energy), energy
    assert WATTS[0] < energy.watts < WATTS[1]


def test_both_meters_agree() -> None:
    meters = [open_meter(choice) for choice in ("ina", "tegrastats")]
    found = [meter for meter in meters if not isinstance(meter, NotMeasured)]
    if len(found) < 2:
        pytest.skip("only one of the meters is there")
    with Sampler(found[0]) as first, Sampler(found[1]) as second:
        first.begin()
        start = second.begin()
        time.sleep(5.0)
        energies = [sampler.energy(start, start + 5.0) for sampler in (first, second)]
    watts = [energy.watts for energy in energies if isinstance(energy, Energy)]
    assert len(watts) == 2
    assert watts[0] == pytest.approx(watts[1], rel=0.2)


def test_clocks_and_temperatures_are_told() -> None:
    state = read_state()
    assert state.gpu is not None
    assert state.cpu
    assert state.zones
    assert state.power_mode
