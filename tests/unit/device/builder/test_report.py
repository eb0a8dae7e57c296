from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_builder import Behaviour

from googlenet_deploy.device.builder.options import BuildOptions
from googlenet_deploy.device.builder.plan import BuildResult
from googlenet_deploy.device.builder.report import check_gates, plan_lines, result_lines
from googlenet_deploy.device.builder.run import build_engine, dry_run, find_here, make_request
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import GateError

Model = Callable[..., str]


def build(model: str, **options: object) -> BuildResult:
    chosen = BuildOptions(**options)  # type: ignore[arg-type]
    here = find_here(None, chosen, None)
    return build_engine(make_request(model, chosen, here), here.library, str(Path(model).with_suffix(".engine")))


def test_a_gate_that_holds(behaviour: Behaviour, model: Model) -> None:
    result = build(model("qdq"))
    check_gates(result, {"int8": 1.0, "fp32": 0.0})
    check_gates(result, {})
    assert "  multiply-adds: int8 100.0%, by the engine inspector" in result_lines("m.engine", result)


def test_a_gate_that_does_not_names_what_fell_back(behaviour: Behaviour, model: Model) -> None:
    behaviour.fp16_layers = {"conv2"}
    with pytest.raises(GateError, match=r"int8: 50\.0% of the multiply-adds, 95\.0% required") as caught:
        check_gates(build(model("qdq")), {"int8": 0.95, "fp16": 0.1})
    assert "conv2 computes in fp16: its input has no INT8 scale" in (caught.value.remedy or "")
    assert "conv1" not in (caught.value.remedy or "")


def test_a_long_list_is_cut_and_says_so(behaviour: Behaviour, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("googlenet_deploy.device.builder.report.SHOWN", 1)
    with pytest.raises(GateError) as caught:
        check_gates(build(model(), precision="fp16"), {"int8": 0.5})
    assert "... and 1 more, all in the manifest" in (caught.value.remedy or "")


@pytest.mark.parametrize("inspection", ["{}", '{"Layers": ["conv1", "norm"]}'])
def test_a_gate_that_nobody_can_check_is_no_gate_that_holds(
    behaviour: Behaviour, model: Model, inspection: str
) -> None:
    behaviour.inspection = inspection
    with pytest.raises(GateError, match="--require was not checked"):
        check_gates(build(model("qdq")), {"int8": 0.0})


def test_the_plan_of_a_device_that_is_not_here(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    options = BuildOptions(batch=(1, 2, 4))
    path = model("qdq")
    text = "\n".join(plan_lines(path, dry_run(path, options, None, load_target("xavier-nx")), options))
    for part in (
        "opset 13, 7 nodes (2 QuantizeLinear, 2 DequantizeLinear, 2 Conv, 1 LRN)",
        "for TensorRT 8.5 of xavier-nx:",
        "compute capability 7.2",
        "weakly typed build, precision int8, flags FP16 and INT8",
        "batch 1 to 4, tuned for 2",
        "the module has 2 DLA cores",
        "note: LRN stays in FP32",
    ):
        assert part in text


def test_the_plan_for_the_dla_counts_nodes(model: Model) -> None:
    options = BuildOptions(precision="fp16", dla_core=0)
    path = model(batch=1)
    text = "\n".join(plan_lines(path, dry_run(path, options, None, load_target("xavier-nx")), options))
    assert "the DLA supports 2 of 3 nodes" in text
    assert "on the GPU: norm (LRN): is kept in FP32" in text
    assert "batch 1, fixed by the model" in text


def test_calibration_and_several_tensorrts(model: Model, tmp_path: Path) -> None:
    cache = tmp_path / "c.cache"
    cache.write_bytes(b"TRT-8502-EntropyCalibration2\ninput: 3c010a14\n")
    options = BuildOptions(calibration_cache=str(cache))
    path = model()
    text = "\n".join(plan_lines(path, dry_run(path, options, None, load_target("orin-nano")), options))
    assert "INT8 scales from the calibration cache" in text
    assert "note: the cache has no scale for the input of 1 of 2 layers, which fall back to another type: b" in text
    assert "planned for the module's oldest TensorRT; its JetPacks also have 8.6, 10.3, 10.16" in text
    options = BuildOptions(calibration_images="photos")
    assert "live calibration" in "\n".join(
        plan_lines(path, dry_run(path, options, None, load_target("jetpack-6.2")), options)
    )
