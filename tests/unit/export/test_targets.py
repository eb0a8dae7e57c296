from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import UsageError
from googlenet_deploy.export.targets import (
    DEFAULT_OPSET,
    LARGEST_OPSET,
    SMALLEST_OPSET,
    choose_opset,
    ir_version_for,
)


@pytest.mark.parametrize(
    ("name", "limit", "chosen", "ir_version"),
    [
        ("jetpack-4.6", 13, 13, 7),
        ("JetPack-4.6.6", 13, 13, 7),
        ("jetpack-5.1", 17, 17, 8),
        ("jetpack-5.1.3", 17, 17, 8),
        ("jetpack-6.0", 17, 17, 8),
        ("jetpack-6.1", 20, 17, 8),
        ("jetpack-6.2.2", 20, 17, 8),
        ("jetpack-7.0", 20, 17, 8),
        ("jetpack-7.1", 20, 17, 8),
        ("jetpack-7.2", 24, 17, 8),
        ("tensorrt-8", 13, 13, 7),
        ("tensorrt-8.2", 13, 13, 7),
        ("tensorrt-8.2.1.9", 13, 13, 7),
        ("tensorrt-8.4", 17, 17, 8),
        ("tensorrt-8.5.2", 17, 17, 8),
        ("tensorrt-8.6", 17, 17, 8),
        ("tensorrt-9.x", 19, 17, 8),
        ("tensorrt-10", 20, 17, 8),
        ("tensorrt-10.3", 20, 17, 8),
        ("tensorrt-10.15", 24, 17, 8),
        ("tensorrt-10.16", 24, 17, 8),
        ("tensorrt-11", 24, 17, 8),
        ("tensorrt-11.4.1", 24, 17, 8),
        ("tensorrt-rtx", 24, 17, 8),
        ("nano", 13, 13, 7),
        ("orin-nano", 17, 17, 8),
        ("thor", 20, 17, 8),
    ],
)
def test_limits(name: str, limit: int, chosen: int, ir_version: int) -> None:
    target = load_target(name)
    assert target.largest_opset == limit
    assert choose_opset(target, None) == chosen
    assert choose_opset(target, limit) == limit
    assert ir_version_for(chosen) == ir_version


def test_too_new_an_opset_names_the_limit() -> None:
    with pytest.raises(
        UsageError, match=r"opset 17 is too new for jetpack-4\.6: its TensorRT 8\.2 reads up to opset 13"
    ):
        choose_opset(load_target("jetpack-4.6"), 17)


@pytest.mark.parametrize("opset", [0, 12, 25, -1])
def test_opsets_out_of_range(opset: int) -> None:
    with pytest.raises(UsageError, match="out of range"):
        choose_opset(None, opset)
    with pytest.raises(UsageError, match="out of range"):
        ir_version_for(opset)


def test_default_without_a_target() -> None:
    assert choose_opset(None, None) == DEFAULT_OPSET


@given(st.integers(SMALLEST_OPSET, LARGEST_OPSET))
def test_ir_versions_are_those_of_onnx(opset: int) -> None:
    assert ir_version_for(opset) == helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
