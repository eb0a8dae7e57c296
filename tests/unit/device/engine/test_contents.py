from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_builder import Behaviour

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.builder.options import BuildOptions
from googlenet_deploy.device.builder.run import build_engine, find_here, make_request
from googlenet_deploy.device.engine.contents import engine_report, inspection_report, layers_of
from googlenet_deploy.device.engine.manifest import load_manifest, manifest_path
from googlenet_deploy.errors import BadModelError

Model = Callable[..., str]


@pytest.fixture
def engine(behaviour: Behaviour, model: Model, tmp_path: Path) -> Callable[..., Path]:
    def build(kind: str = "fp32", **options: object) -> Path:
        chosen = BuildOptions(**options)  # type: ignore[arg-type]
        here = find_here(None, chosen, None)
        request = make_request(model(kind), chosen, here, "googlenet-deploy build m.onnx --precision int8")
        output = tmp_path / "m.engine"
        build_engine(request, here.library, str(output))
        return output

    return build


def test_what_fell_back_is_listed_with_the_likely_reason(engine: Callable[..., Path], behaviour: Behaviour) -> None:
    behaviour.fp16_layers = {"conv2"}
    lines, values = engine_report(engine("qdq", batch=(1, 2, 4)))
    text = "\n".join(lines)
    for part in (
        "weakly typed int8, by tensorrt 10.3.0 on Fake GPU, for compute capability 8.7",
        "made from m.onnx, opset 13, SHA-256",
        "input  input float32 (batch, 3, 8, 8)",
        "batch  1 to 4, tuned for 2",
        "device memory of one context: 0.0 MB",
        "convolutions: int8 50.0%, fp16 50.0%, by the engine inspector",
        "2 layers: 1 convolution in int8, 1 convolution in fp16",
        "1 convolutions do not compute in int8:",
        "  conv2: fp16: its input has no INT8 scale",
        "built by: googlenet-deploy build m.onnx --precision int8",
    ):
        assert part in text
    assert any(line.startswith("conv1") and "int8" in line for line in lines)
    assert values["precision"] == "int8"


def test_totals_leave_the_layers_out(engine: Callable[..., Path]) -> None:
    lines, _ = engine_report(engine("qdq"), layers=False)
    assert not any(line.startswith("conv1") for line in lines)
    assert "every convolution computes in int8" in lines


def test_fp32_engines_have_nothing_to_fall_back_from(engine: Callable[..., Path]) -> None:
    assert not any("compute in" in line for line in engine_report(engine())[0])


def test_int8_layers_are_no_fallback_of_an_fp16_engine(engine: Callable[..., Path]) -> None:
    assert "every convolution computes in fp16" in engine_report(engine(precision="fp16"))[0]


def test_calibration_and_dla_are_shown(engine: Callable[..., Path], behaviour: Behaviour, tmp_path: Path) -> None:
    cache = tmp_path / "c.cache"
    cache.write_bytes(b"TRT-100300-MinMaxCalibration\ninput: 3c010a14\n")
    behaviour.dla_refuses = {"norm"}
    text = "\n".join(engine_report(engine(calibration_cache=str(cache), dla_core=0))[0])
    assert f"calibration: cache {cache}, cache_sha256" in text
    assert "DLA core 0: 2 of 3 layers; on the GPU: norm" in text


def test_engines_of_which_nothing_is_known(engine: Callable[..., Path], behaviour: Behaviour) -> None:
    behaviour.loads = False
    text = "\n".join(engine_report(engine())[0])
    assert "precision per layer: not known; the engine that was built cannot be loaded here" in text


def test_layers_come_back_as_they_were(engine: Callable[..., Path]) -> None:
    path = engine("qdq")
    _, values = engine_report(path)
    layers = layers_of(load_manifest(path))
    assert json.loads(json.dumps([layer.to_dict() for layer in layers])) == list(values["layers"])


def test_an_inspectors_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = {"Name": "x", "Dimensions": [1, 3, 4, 4], "Format/Datatype": "Row major linear INT8 format"}
    layer = {
        "Name": "conv1 + relu1", "LayerType": "CaskConvolution", "Inputs": [port], "Outputs": [port],
        "Weights": {"Type": "Int8", "Count": 27},
    }  # fmt: skip
    half = {**layer, "Name": "conv2", "Weights": {"Type": "Half", "Count": 27}}
    path = tmp_path / "layers.json"
    path.write_text(json.dumps({"Layers": [layer, half]}))
    output = tmp_path / "out.json"
    assert main(["inspect", str(path), "--json", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "multiply-adds: int8 50.0%, fp16 50.0%" in printed
    assert "1 convolutions do not compute in int8:" in printed
    assert "fused from several of the model's 3 nodes: 1 layer" in printed
    assert json.loads(output.read_text())["layers"][0]["nodes"] == ["conv1", "relu1"]


def test_layers_that_tell_nonsense_have_no_work(tmp_path: Path) -> None:
    kinds = {"LayerType": "CaskConvolution", "Weights": {"Type": "Int8", "Count": 27}}
    odd = [
        {**kinds, "Outputs": ["x"]},
        {**kinds, "Outputs": [{"Dimensions": "wide"}]},
        {**kinds, "Outputs": [{"Dimensions": [1, "a", 3]}]},
        {**kinds, "Outputs": [{"Dimensions": [1, 2, -1]}]},
        {**kinds, "Outputs": [{"Dimensions": [1, 2, 3]}], "Weights": {"Type": ["a"], "Count": float("inf")}},
        {"Name": 5, "LayerType": ["x"], "Inputs": {"Name": 1}},
    ]
    path = tmp_path / "layers.json"
    path.write_text(json.dumps({"Layers": odd}))
    lines, values = inspection_report(path)
    assert not any(layer["multiply_adds"] for layer in values["layers"])
    assert any(line == "multiply-adds: not known" for line in lines)


@pytest.mark.parametrize("text", ["", "[]", '{"Layers": 1}', '{"layers": []}', "[" * 100000])
def test_what_is_no_layer_information(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(BadModelError, match="is not layer information of TensorRT"):
        inspection_report(path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(BadModelError, match="cannot be read"):
        inspection_report(tmp_path / "none.json")
    with pytest.raises(BadModelError, match="manifest cannot be read"):
        engine_report(tmp_path / "none.engine")


def test_the_command_tells_engines_by_suffix_or_manifest(
    engine: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = engine("qdq")
    plain = tmp_path / "model.bin"
    plain.write_bytes(path.read_bytes())
    manifest_path(plain).write_bytes(manifest_path(path).read_bytes())
    for file in (path, plain):
        assert main(["inspect", str(file), "--totals"]) == 0
        assert "weakly typed int8" in capsys.readouterr().out
    path.write_bytes(b"short")
    assert main(["inspect", str(path)]) == 1
    assert "cut short" in capsys.readouterr().err
