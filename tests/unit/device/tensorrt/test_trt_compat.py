from __future__ import annotations

import enum
import sys
from typing import Any

import pytest
from fake_builder import Behaviour, builder_module

from googlenet_deploy.device.tensorrt.loading import load_tensorrt
from googlenet_deploy.device.tensorrt.names import OLDEST_TO_RUN, parse_version
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT
from googlenet_deploy.errors import DeviceError


def library(version: str = "10.3.0") -> tuple[TensorRT, Any]:
    """A library of that version, and a configuration of its builder."""
    module = builder_module(Behaviour(), version)
    return TensorRT(module, rtx=False), module.Builder(None).create_builder_config()


@pytest.mark.parametrize(
    ("text", "version"),
    [("8.5.2.2", (8, 5, 2, 2)), ("10.3.0.post1", (10, 3, 0)), ("11", (11,)), ("10.16.0.72+cuda13", (10, 16, 0, 72))],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


def test_a_version_that_is_none() -> None:
    with pytest.raises(DeviceError, match="cannot make sense of TensorRT version 'dev'"):
        parse_version("dev")


def test_what_is_not_installed_names_the_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DeviceError, match="TensorRT cannot be loaded") as caught:
        load_tensorrt("tensorrt")
    assert "JetPack" in (caught.value.remedy or "")
    with pytest.raises(DeviceError, match="TensorRT-RTX cannot be loaded") as caught:
        load_tensorrt("tensorrt-rtx")
    assert "googlenet-deploy[rtx]" in (caught.value.remedy or "")


def test_engines_run_in_older_versions_than_they_are_built_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", builder_module(Behaviour(), "8.2.1.8"))
    assert load_tensorrt("tensorrt", OLDEST_TO_RUN).version == (8, 2, 1, 8)
    with pytest.raises(DeviceError, match="or later is needed"):
        load_tensorrt("tensorrt")


def test_there_is_one_logger_and_the_latest_sink_hears_it() -> None:
    trt, _ = library()
    heard: list[tuple[str, str]] = []
    first = trt.logger(lambda *line: heard.append(("first", line[1])))
    second = trt.logger(lambda *line: heard.append(line))
    assert first is second
    first.log("Severity.WARNING", "words")
    assert heard == [("WARNING", "words")]
    second.sink = None
    second.log("Severity.ERROR", "nobody listens")


@pytest.mark.parametrize("error", [RuntimeError("CUDA driver version is insufficient"), TypeError("factory returned")])
def test_a_builder_that_cannot_start(error: Exception) -> None:
    trt, _ = library()

    def fail(_logger: Any) -> None:
        raise error

    trt.module.Builder = fail
    with pytest.raises(DeviceError, match=f"cannot start a builder: {error}"):
        trt.builder(None)


@pytest.mark.parametrize(
    ("call", "missing", "words"),
    [
        (lambda t, c: t.set_flags(c, "strip-plan"), "BuilderFlag.STRIP_PLAN", r"no builder flag STRIP_PLAN \(.*10\.0"),
        (lambda t, c: t.set_flags(c, "BF16"), "BuilderFlag.BF16", r"10\.0 and later, gone in 11\.0"),
        (lambda t, c: t.network_flags(strongly_typed=True), "NetworkDefinitionCreationFlag.STRONGLY_TYPED", "strongly"),
        (lambda t, c: t.calibrator_base("entropy"), "IInt8EntropyCalibrator2", "ended with TensorRT 10"),
    ],
)
def test_names_that_a_version_lacks_are_said_with_the_versions_that_have_them(
    call: Any, missing: str, words: str
) -> None:
    trt, config = library()
    owner, _, name = missing.rpartition(".")
    if owner:
        kind = getattr(trt.module, owner)
        values = {item.name: item.value for item in kind if item.name != name}
        setattr(trt.module, owner, enum.IntEnum(owner, values))
    else:
        delattr(trt.module, name)
    with pytest.raises(DeviceError, match=words):
        call(trt, config)


@pytest.mark.parametrize(
    ("attribute", "call"),
    [
        ("builder_optimization_level", lambda t, c: t.set_optimization_level(c, 4)),
        ("hardware_compatibility_level", lambda t, c: t.set_hardware_compatibility(c, "ampere+")),
        ("int8_calibrator", lambda t, c: t.set_calibrator(c, None)),
    ],
)
def test_attributes_that_a_version_lacks(attribute: str, call: Any) -> None:
    trt, config = library()
    delattr(config, attribute)
    with pytest.raises(DeviceError, match=f"has no {attribute}"):
        call(trt, config)


def test_explicit_batch_is_asked_for_before_10_only() -> None:
    assert library("8.6.1")[0].network_flags(strongly_typed=False) == 1
    assert library("10.3.0")[0].network_flags(strongly_typed=False) == 0
    assert library("10.13.0")[0].network_flags(strongly_typed=True) == 2


def test_tensorrt_proper_builds_for_its_own_gpu_only() -> None:
    trt, config = library()
    assert trt.compute_capabilities() == []
    with pytest.raises(DeviceError, match="builds for the GPU that it runs on only"):
        trt.set_compute_capabilities(config, [(8, 6)])


def test_rtx_does_not_build_for_jetsons() -> None:
    module = pytest.importorskip("tensorrt_rtx")
    trt = TensorRT(module, rtx=True)
    with pytest.raises(DeviceError, match=r"cannot build for compute capability 8\.7") as caught:
        trt.set_compute_capabilities(None, [(8, 6), (8, 7)])
    assert "Jetson engines are built on the Jetson" in (caught.value.remedy or "")


def test_without_a_monitor_there_is_none() -> None:
    trt, config = library()
    del trt.module.IProgressMonitor
    assert trt.set_progress(config, lambda *_: True) is None


def test_engines_are_not_loaded_where_the_runtime_does_not_start() -> None:
    trt, _ = library()
    trt.module.Runtime = lambda _logger: None
    assert trt.load_engine(None, b"", version_compatible=False) is None


def test_version_compatible_engines_may_run_their_own_code() -> None:
    trt, _ = library()
    runtimes: list[Any] = []
    real = trt.module.Runtime
    trt.module.Runtime = lambda logger: runtimes.append(real(logger)) or runtimes[-1]
    assert trt.load_engine(None, b"{}", version_compatible=True) is not None
    assert runtimes[0].engine_host_code_allowed


def test_memory_of_versions_that_lack_the_newer_name() -> None:
    class Old:
        device_memory_size = 7

    class New:
        device_memory_size_v2 = 9

    assert (TensorRT.device_memory(Old()), TensorRT.device_memory(New())) == (7, 9)


def test_strongly_typed_only() -> None:
    assert library("11.4.0")[0].strongly_typed_only
    assert not library("10.16.0")[0].strongly_typed_only


def test_parser_errors_without_names() -> None:
    class Error:
        def node(self) -> int:
            return 3

        def desc(self) -> str:
            return "words"

    class Parser:
        num_errors = 1

        def get_error(self, index: int) -> Error:
            return Error()

    assert TensorRT.parse_problems(Parser()) == [(3, "", "", "words")]
