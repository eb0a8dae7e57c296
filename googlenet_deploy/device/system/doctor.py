"""What this machine can run, what it cannot, and how to fix it."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from googlenet_deploy.device.commands import DEVICE_COMMANDS
from googlenet_deploy.device.cuda.memory import open_cuda
from googlenet_deploy.device.power.meter import NotMeasured, total_name
from googlenet_deploy.device.power.select import open_meter
from googlenet_deploy.device.system.gpu import Gpu, find_gpu
from googlenet_deploy.device.system.jetson import Jetson, find_jetson
from googlenet_deploy.device.system.processor import instructions, is_x86, sums_int8_exactly
from googlenet_deploy.device.targets.target import NO_INT8, load_target
from googlenet_deploy.device.tensorrt.loading import load_tensorrt
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT
from googlenet_deploy.errors import DeviceError, install_command

# Package names, and the extra that installs each; "" for the toolkit's own dependencies.
_PACKAGES = {
    "numpy": ("NumPy", ""),
    "PIL": ("Pillow", ""),
    "cv2": ("OpenCV", "opencv"),
    "onnxruntime": ("ONNX Runtime", "runtime"),
    "openvino": ("OpenVINO", "openvino"),
    "onnx": ("onnx", "export"),
    "torch": ("torch", "export"),
}
_SHOW_DEVICE_TREE = (
    "to name the module, start the container with --privileged, or with -v /proc/device-tree:/proc/device-tree:ro "
    "and -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro"
)
_TRTEXEC = Path("usr/src/tensorrt/bin/trtexec")  # JetPack's location, outside the search path


@dataclass(frozen=True)
class DoctorFinding:
    """The result of one check.

    Attributes:
        name: What was checked.
        ok: Whether it is installed and works.
        text: What was found, or why it does not work.
        remedy: How to fix it; "" if nothing needs fixing.
    """

    name: str
    ok: bool
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings.

    Attributes:
        parts: Software and hardware.
        abilities: What the toolkit's commands can do here.
        jetson: The Jetson; None on any other machine.
    """

    parts: Tuple[DoctorFinding, ...]
    abilities: Tuple[DoctorFinding, ...]
    jetson: Optional[Jetson]

    def to_dict(self) -> Dict[str, Any]:
        """For JSON."""
        return asdict(self)


def diagnose(root: Path = Path("/")) -> Diagnosis:
    """Examines this machine; it changes nothing and uses no more device memory than a CUDA context.

    Args:
        root: Root of the file system, for the files that identify a Jetson.
    """
    parts = {
        "python": DoctorFinding("Python", True, f"{platform.python_version()} on {platform.platform()}"),
        **{name: _openvino() if name == "openvino" else _package(name) for name in _PACKAGES},
    }
    parts["gpu"], gpu = _gpu()
    jetson = find_jetson(root, gpu.compute_capability if gpu and gpu.integrated else None)
    parts["cuda"] = _cuda()
    parts["tensorrt"], library = _tensorrt("tensorrt")
    parts["rtx"], rtx = _tensorrt("tensorrt-rtx")
    parts["trtexec"] = _trtexec(root)
    parts["power"] = _power_meter("CPU" if gpu is None else "GPU", root)
    found = list(parts.values())
    if jetson is not None:
        found[:0] = _jetson_findings(jetson, library)
    abilities = _abilities(parts, gpu.compute_capability if gpu else None, library, rtx)
    return Diagnosis(tuple(found), tuple(abilities), jetson)


def _package(name: str) -> DoctorFinding:
    label, extra = _PACKAGES[name]
    try:
        module = import_module(name)
    except ImportError:
        return DoctorFinding(label, False, "not installed", install_command(extra) if extra else "")
    except Exception as error:  # noqa: BLE001 - a broken installation can raise anything, and that is the finding
        return DoctorFinding(label, False, f"installed but broken: {error}", "install it again")
    text = str(getattr(module, "__version__", "of unknown version"))
    if name == "onnxruntime":
        providers = [provider.replace("ExecutionProvider", "") for provider in module.get_available_providers()]
        text += f" ({', '.join(providers)})"
    return DoctorFinding(label, True, text)


def _openvino() -> DoctorFinding:
    """The models for which `--backend auto` selects OpenVINO here; see `runner.select`."""
    if not is_x86():
        return DoctorFinding(_PACKAGES["openvino"][0], False, "not looked for (only x86 processors gain by it)")
    found = _package("openvino")
    if not found.ok:
        return found
    if "avx2" not in instructions():
        uses = "which --backend auto leaves alone: this processor has no AVX2"
    elif not sums_int8_exactly():
        uses = "which --backend auto uses for float models only: this processor has neither VNNI nor AMX"
    else:
        uses = "which --backend auto uses for ONNX models"
    return replace(found, text=f"{found.text}, {uses}")


def _gpu() -> Tuple[DoctorFinding, Optional[Gpu]]:
    try:
        gpu = find_gpu()
    except DeviceError as error:
        return DoctorFinding("GPU", False, error.message, error.remedy or ""), None
    memory = f", {gpu.free_memory / 2**30:.1f} GiB of memory free" if gpu.free_memory is not None else ""
    return DoctorFinding("GPU", True, f"{gpu.name}, compute capability {gpu.capability_text}{memory}"), gpu


def _cuda() -> DoctorFinding:
    """Running engines and live calibration need it; building does not."""
    try:
        with open_cuda() as cuda:
            return DoctorFinding("CUDA from Python", True, cuda.name)
    except DeviceError as error:
        return DoctorFinding("CUDA from Python", False, error.message, error.remedy or "")


def _tensorrt(backend: str) -> Tuple[DoctorFinding, Optional[TensorRT]]:
    label = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}[backend]
    try:
        library = load_tensorrt(backend)
    except DeviceError as error:
        return DoctorFinding(label, False, error.message, error.remedy or ""), None
    if not library.has_parser:
        return DoctorFinding(
            label, False, f"{library.version_text}, without its ONNX parser", library.parser_remedy
        ), None
    return DoctorFinding(label, True, library.version_text), library


def _trtexec(root: Path) -> DoctorFinding:
    packaged = root / _TRTEXEC
    path = shutil.which("trtexec") or (str(packaged) if packaged.is_file() else None)
    return DoctorFinding("trtexec", path is not None, path or "not found (only comparisons need it)")


def _power_meter(device: str, root: Path) -> DoctorFinding:
    meter = open_meter("auto", device, root=root)
    if isinstance(meter, NotMeasured):
        return DoctorFinding("power meter", False, f"none (only energy needs one): {meter.reason}", meter.remedy)
    text = f"{meter.name}, {meter.covers} = {total_name(meter.rails)}"
    meter.close()
    return DoctorFinding("power meter", True, text)


def _jetson_findings(jetson: Jetson, library: Optional[TensorRT]) -> List[DoctorFinding]:
    model = jetson.model or f"a Jetson, known by {jetson.found_by}"
    text = f"{model}, JetPack {jetson.jetpack_text} (L4T {jetson.l4t or '?'})"
    if jetson.power_mode:
        text += f", power mode {jetson.power_mode}"
    if not jetson.model:
        return [
            DoctorFinding("Jetson", True, f"{text}; the device tree is hidden, as in a container", _SHOW_DEVICE_TREE)
        ]
    if not jetson.target:
        return [
            DoctorFinding("Jetson", False, text, "there is no profile of this module: estimate and --target need one")
        ]
    return [DoctorFinding("Jetson", True, text), _module_finding(jetson.target), *_jetpack_finding(jetson, library)]


def _module_finding(name: str) -> DoctorFinding:
    module = load_target(name).module
    assert module is not None
    cores = f"{module.dla_cores} DLA cores" if module.dla_cores else "no DLA"
    return DoctorFinding("module", True, f"--target {name}: computes in {', '.join(module.types)}; {cores}")


def _jetpack_finding(jetson: Jetson, library: Optional[TensorRT]) -> List[DoctorFinding]:
    """A TensorRT other than JetPack's builds engines that JetPack's other programs cannot read."""
    expected = jetson.tensorrt
    if expected is None or library is None or library.version[:2] == expected:
        return []
    text = f"JetPack {jetson.jetpack_text} installs {expected[0]}.{expected[1]}, here is {library.version_text}"
    return [
        DoctorFinding("TensorRT of the JetPack", False, text, "apt install tensorrt, or keep them apart on purpose")
    ]


def _abilities(
    parts: Dict[str, DoctorFinding],
    capability: Optional[Tuple[int, int]],
    tensorrt: Optional[TensorRT],
    rtx: Optional[TensorRT],
) -> List[DoctorFinding]:
    gpu = parts["gpu"]
    return [
        _needs("infer and evaluate with ONNX Runtime", [parts["onnxruntime"]]),
        _needs("export", [parts["torch"], parts["onnx"], parts["onnxruntime"]]),
        _needs("calibrate and quantize", [parts["onnx"], parts["onnxruntime"]]),
        _needs("build TensorRT engines", [parts["tensorrt"], gpu]),
        _needs("run TensorRT engines", [parts["tensorrt"], gpu, parts["cuda"]]),
        _int8(tensorrt, capability),
        _ahead_of_time(rtx, parts["rtx"]),
        _needs("run TensorRT-RTX engines", [parts["rtx"], gpu, parts["cuda"]]),
    ]


def _needs(name: str, parts: List[DoctorFinding]) -> DoctorFinding:
    missing = [part for part in parts if not part.ok]
    if not missing:
        return DoctorFinding(name, True, "yes")
    remedies = "; ".join(dict.fromkeys(part.remedy for part in missing if part.remedy))
    return DoctorFinding(name, False, "no: " + "; ".join(f"{part.name}: {part.text}" for part in missing), remedies)


def _int8(library: Optional[TensorRT], capability: Optional[Tuple[int, int]]) -> DoctorFinding:
    name = "INT8 engines"
    if library is None or capability is None:
        return DoctorFinding(name, False, "no: TensorRT and a GPU are needed")
    if capability in NO_INT8:
        return DoctorFinding(
            name, False, "no: this GPU has no INT8 instructions", "build FP16: build strips Q/DQ and reports it"
        )
    way = (
        "from Q/DQ models"
        if library.strongly_typed_only
        else "from Q/DQ models, calibration caches and live calibration"
    )
    return DoctorFinding(name, True, f"yes, {way}")


def _ahead_of_time(library: Optional[TensorRT], part: DoctorFinding) -> DoctorFinding:
    name = "build TensorRT-RTX engines ahead of time"
    if library is None:
        return DoctorFinding(name, False, f"no: {part.text}", part.remedy)
    return DoctorFinding(
        name, True, f"yes, without a GPU too, for compute capability {', '.join(library.compute_capabilities())}"
    )


def diagnosis_lines(diagnosis: Diagnosis) -> List[str]:
    """The diagnosis as text for a terminal."""
    width = max(len(item.name) for item in (*diagnosis.parts, *diagnosis.abilities))
    lines = ["This machine:"]
    for item in diagnosis.parts:
        lines += _lines(item, width)
    lines += ["", "It can:"]
    for item in diagnosis.abilities:
        lines += _lines(item, width)
    if sys.version_info < (3, 10):  # noqa: UP036 - this file runs on Python 3.8 too
        lines += ["", f"Python before 3.10: {', '.join(DEVICE_COMMANDS[:-1])} and {DEVICE_COMMANDS[-1]} only."]
    return lines


def _lines(item: DoctorFinding, width: int) -> List[str]:
    lines = [f"  {'+' if item.ok else '-'} {item.name.ljust(width)}  {item.text}"]
    return [*lines, f"    {' ' * width}  -> {item.remedy}"] if item.remedy else lines
