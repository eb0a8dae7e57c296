from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fake_builder import Behaviour, FakeDriver, builder_module
from fake_cuda import FakeGpu, install

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.system import doctor, processor
from googlenet_deploy.device.system.doctor import Diagnosis, DoctorFinding, diagnose, diagnosis_lines


def part(diagnosis: Diagnosis, name: str) -> DoctorFinding:
    return next(item for item in (*diagnosis.parts, *diagnosis.abilities) if item.name == name)


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for packages that take seconds to import."""
    for name in ("torch", "cv2", "openvino"):
        module: Any = ModuleType(name)
        module.__version__ = "1.2.3"
        monkeypatch.setitem(sys.modules, name, module)


def jetson(root: Path, release: str = "R36 (release), REVISION: 4.3") -> Path:
    files = {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "etc/nv_tegra_release": f"# {release}, GCID: 1, BOARD: generic\n",
        "usr/src/tensorrt/bin/trtexec": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_jetson_that_has_everything(behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, FakeGpu())
    found = diagnose(jetson(tmp_path))
    assert part(found, "GPU").text == "Fake GPU, compute capability 8.7, 1.0 GiB of memory free"
    assert part(found, "CUDA from Python") == DoctorFinding("CUDA from Python", True, "cuda-bindings")
    assert part(found, "TensorRT").text == "10.3.0"
    assert part(found, "module").text == "--target orin-nano: computes in fp32, fp16, bf16, int8; no DLA"
    assert part(found, "trtexec").text.endswith("usr/src/tensorrt/bin/trtexec")
    assert part(found, "build TensorRT engines").ok
    assert part(found, "run TensorRT engines").ok
    assert part(found, "INT8 engines").text == "yes, from Q/DQ models, calibration caches and live calibration"
    assert not any(item.name == "TensorRT of the JetPack" for item in found.parts)
    assert found.jetson is not None
    assert json.loads(json.dumps(found.to_dict()))["jetson"]["target"] == "orin-nano"
    assert diagnosis_lines(found)[1].startswith("  + Jetson")


def test_building_needs_no_cuda_for_python_but_running_does(
    behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "cuda.cudart", "pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    found = diagnose(tmp_path)
    assert part(found, "build TensorRT engines").ok
    assert "no Python access to CUDA" in part(found, "run TensorRT engines").text
    assert "cuda-bindings" in part(found, "run TensorRT engines").remedy


def test_a_tensorrt_that_is_not_the_jetpacks(
    behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", builder_module(behaviour, "10.7.0"))
    found = part(diagnose(jetson(tmp_path)), "TensorRT of the JetPack")
    assert (found.ok, found.text) == (False, "JetPack 6.2 installs 10.3, here is 10.7.0")


def test_a_jetpack_of_another_release_of_its_line(
    behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """JetPack 4.6 installs TensorRT 8.0, 4.6.1 and later 8.2."""
    monkeypatch.setitem(sys.modules, "tensorrt", builder_module(behaviour, "8.5.2"))
    found = part(diagnose(jetson(tmp_path, "R32 (release), REVISION: 6.1")), "TensorRT of the JetPack")
    assert found.text == "JetPack 4.6 installs 8.0, here is 8.5.2"


def test_a_jetson_behind_a_container(tmp_path: Path) -> None:
    """The fake driver's GPU is no integrated one, so only the kernel's name shows it."""
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text("5.15.148-tegra\n")
    found = part(diagnose(tmp_path), "Jetson")
    assert found.ok
    assert "known by the kernel's name" in found.text
    assert "--privileged" in found.remedy


def test_the_power_meter_of_a_jetson(tmp_path: Path) -> None:
    root = jetson(tmp_path)
    assert "no INA3221 or INA238" in part(diagnose(root), "power meter").text
    folder = root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    folder.mkdir(parents=True)
    for name, value in (("in1_label", "VDD_IN"), ("in1_input", "5056"), ("curr1_input", "904")):
        (folder / name).write_text(value)
    found = part(diagnose(root), "power meter")
    assert found.ok
    assert found.text == "INA3221 over sysfs, module = VDD_IN"


def test_a_jetson_without_a_profile(tmp_path: Path) -> None:
    root = jetson(tmp_path)
    (root / "proc/device-tree/model").write_text("NVIDIA Jetson Something\0")
    assert not part(diagnose(root), "Jetson").ok


def test_gpus_without_int8(behaviour: Behaviour, driver: FakeDriver, tmp_path: Path) -> None:
    driver.values.update({75: 6, 76: 2})
    driver.status["cuMemGetInfo_v2"] = 2
    found = diagnose(tmp_path)
    assert part(found, "GPU").text == "Fake GPU, compute capability 6.2"
    assert not part(found, "INT8 engines").ok


def test_a_bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("tensorrt", "tensorrt_rtx", "cv2", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    found = diagnose(tmp_path)
    assert part(found, "ONNX Runtime").remedy == "pip install 'googlenet-deploy[runtime]'"
    assert not part(found, "infer and evaluate with ONNX Runtime").ok
    assert not part(found, "build TensorRT-RTX engines ahead of time").ok
    assert part(found, "INT8 engines").text == "no: TensorRT and a GPU are needed"
    assert not part(found, "trtexec").ok
    assert found.jetson is None


def test_a_broken_package_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = doctor.import_module

    def load(name: str) -> Any:
        if name == "onnx":
            raise RuntimeError("undefined symbol")
        return real(name)

    monkeypatch.setattr(doctor, "import_module", load)
    assert part(diagnose(tmp_path), "onnx").text == "installed but broken: undefined symbol"


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"sse2"}, "leaves alone: this processor has no AVX2"),
        ({"avx2"}, "uses for float models only: this processor has neither VNNI nor AMX"),
        ({"avx2", "avx512_vnni"}, "uses for ONNX models"),
    ],
)
def test_what_openvino_is_taken_for(
    features: set[str], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("googlenet_deploy.device.system.processor.platform.machine", lambda: "x86_64")
    monkeypatch.setattr(processor, "instructions", lambda: frozenset(features))
    monkeypatch.setattr(doctor, "instructions", lambda: frozenset(features))
    found = part(diagnose(tmp_path), "OpenVINO")
    assert (found.ok, found.text) == (True, f"1.2.3, which --backend auto {words}")


def test_openvino_that_is_missing_or_no_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(doctor, "is_x86", lambda: True)
    assert part(diagnose(tmp_path), "OpenVINO").remedy == "pip install 'googlenet-deploy[openvino]'"
    monkeypatch.setattr(doctor, "is_x86", lambda: False)
    assert part(diagnose(tmp_path), "OpenVINO").remedy == ""


def test_a_tensorrt_without_parser(behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(sys.modules["tensorrt"], "OnnxParser")
    found = part(diagnose(tmp_path), "TensorRT")
    assert (found.ok, found.remedy) == (False, "apt install libnvonnxparsers10")


def test_rtx_names_what_it_builds_for(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    text = part(diagnose(tmp_path), "build TensorRT-RTX engines ahead of time").text
    assert "8.6" in text
    assert "12.0" in text


def test_older_pythons_are_told_what_they_cannot_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 10))
    assert diagnosis_lines(diagnose(tmp_path))[-1].startswith("Python before 3.10")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "machine.json"
    assert main(["doctor", "--json", str(output), "--require", "onnxruntime"]) == 0
    assert "infer and evaluate with ONNX Runtime" in capsys.readouterr().out
    assert {entry["name"] for entry in json.loads(output.read_text())["parts"]} >= {"GPU", "TensorRT", "Python"}


def test_command_that_requires_what_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert main(["doctor", "--require", "build"]) == 3
    assert "this machine cannot: build TensorRT engines" in capsys.readouterr().err
