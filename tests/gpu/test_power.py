"""Energy of a real GPU by NVML, and of an engine that runs on it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from gpu_kit import tactic_options

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.power.energy import Energy, window_for
from googlenet_deploy.device.power.meter import NotMeasured
from googlenet_deploy.device.power.nvml_meter import RAIL, NvmlMeter
from googlenet_deploy.device.power.sampler import Sampler
from googlenet_deploy.device.power.select import open_meter
from googlenet_deploy.device.system.nvml import Nvml, cuda_bus_id
from googlenet_deploy.errors import DeviceError

pytestmark = pytest.mark.gpu


@pytest.fixture
def meter() -> NvmlMeter:
    """NVML's meter of the GPU that CUDA counts first."""
    opened = open_meter("nvml")
    if isinstance(opened, NotMeasured):
        pytest.skip(f"no power meter of a GPU: {opened.reason}")
    assert isinstance(opened, NvmlMeter)
    return opened


def test_the_energy_of_some_seconds_is_that_of_the_power_shown(meter: NvmlMeter) -> None:
    with Nvml(cuda_bus_id()) as gpu, Sampler(meter) as sampler:
        try:
            limit = gpu.power_limit_milliwatts() / 1000
        except DeviceError:
            limit = 1000.0
        start = sampler.begin()
        shown = []
        while sampler.clock() < start + window_for(meter, 3.0):
            shown.append(gpu.power_milliwatts() / 1000)
            time.sleep(0.1)
        energy = sampler.energy(start, sampler.clock())
    assert isinstance(energy, Energy), energy
    assert 1.0 < energy.watts < 1.2 * limit
    # The power shown may be an average over a second, so only the rough size can agree.
    assert 0.5 * min(shown) < energy.watts < 1.5 * max(shown)
    assert energy.uncertainty < 0.5 * energy.joules
    assert energy.rails[RAIL] == energy.joules


def test_the_counter_never_falls(meter: NvmlMeter) -> None:
    if not meter.counts_energy:
        pytest.skip("this GPU has no energy counter")
    readings = [meter.read()[RAIL] for _ in range(50)]
    meter.close()
    assert readings == sorted(readings)


def test_images_per_second_and_watt_of_an_engine(meter: NvmlMeter, colour_model: Path, tmp_path: Path) -> None:
    meter.close()
    engine, result = tmp_path / "colours.engine", tmp_path / "result.json"
    if main(["build", str(colour_model), "--output", str(engine), *tactic_options()]) != 0:
        pytest.skip("TensorRT cannot build here")
    options = ["--rounds", "2", "--seconds", "2", "--batch", "1", "--json", str(result), "--quiet"]
    assert main(["benchmark", str(engine), *options]) == 0
    measured = json.loads(result.read_text())
    part = measured["configurations"][0]
    for name in ("compute", "run", "end_to_end"):
        assert part["milliseconds"][name]["p50"]["value"] > 0
    energy = part["energy"]["run"]
    assert energy["covers"] == "GPU board"
    assert energy["millijoules_per_image"]["value"] > 0
    rate, watts = part["images_per_second"]["value"], energy["watts"]
    assert energy["images_per_second_per_watt"] == pytest.approx(rate / watts, rel=0.05)
    assert measured["idle"]["watts"] <= watts
