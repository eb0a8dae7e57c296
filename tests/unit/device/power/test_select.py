from __future__ import annotations

from pathlib import Path

import pytest

from googlenet_deploy.device.power.meter import NotMeasured
from googlenet_deploy.device.power.none import NoSampler
from googlenet_deploy.device.power.select import METERS, open_meter, open_sampler
from googlenet_deploy.errors import UsageError


def test_switched_off(tmp_path: Path) -> None:
    sampler = open_sampler("none", root=tmp_path)
    assert isinstance(sampler, NoSampler)
    assert sampler.reason == NotMeasured("it was switched off (--power none)")


def test_an_unknown_meter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"choose one of {', '.join(METERS)}"):
        open_meter("voltmeter", root=tmp_path)


@pytest.mark.parametrize("choice", [choice for choice in METERS if choice not in ("auto", "nvml")])
def test_every_choice_without_hardware_gives_a_reason(choice: str, tmp_path: Path) -> None:
    answer = open_meter(choice, "CPU", root=tmp_path)
    assert isinstance(answer, NotMeasured)
    assert answer.reason


def test_a_gpus_power_never_stands_for_a_cpus_work(tmp_path: Path) -> None:
    answer = open_meter("auto", "CPU", root=tmp_path)
    assert isinstance(answer, NotMeasured)
    assert "RAPL" in answer.reason
    assert "NVML" not in answer.reason
