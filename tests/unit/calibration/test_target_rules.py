from __future__ import annotations

import pytest

from googlenet_deploy.calibration.placement import check_target
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import UsageError


@pytest.mark.parametrize("name", ["nano", "tx1", "tx2"])
def test_modules_without_int8_are_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(UsageError, match="has no INT8") as caught:
        check_target(load_target(name), 13, dla=False)
    assert "--precision fp16" in (caught.value.remedy or "")


def test_a_model_that_is_too_new() -> None:
    with pytest.raises(UsageError, match=r"opset 19; TensorRT 8\.5 of jetpack-5\.1 reads up to 17"):
        check_target(load_target("jetpack-5.1"), 19, dla=False)


def test_the_accelerator() -> None:
    with pytest.raises(UsageError, match="has no DLA"):
        check_target(load_target("orin-nano"), 17, dla=True)
    assert "--dla places pairs" in check_target(load_target("xavier-nx"), 17, dla=False)[0]
    assert "only from a calibration cache" in check_target(load_target("xavier-nx"), 17, dla=True)[0]


@pytest.mark.parametrize("name", ["orin-nano", "jetpack-6.2", "tensorrt-rtx"])
def test_targets_that_take_it_as_it_is(name: str) -> None:
    assert check_target(load_target(name), 17, dla=False) == []
