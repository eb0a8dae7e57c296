"""README.txt of a Jetson bundle: the exact commands for that device."""

from __future__ import annotations

from collections.abc import Sequence

from googlenet_deploy import __version__
from googlenet_deploy.device.bundle.selftest import ENGINE
from googlenet_deploy.device.targets.jetpack import tensorrt_of_jetpack
from googlenet_deploy.device.targets.target import Target
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.packaging.models import BundleModels

_OLD_PYTHON = (4, 6)  # JetPack with Python 3.6


def readme(target: Target, precision: str, models: BundleModels, caches: Sequence[str], golden_count: int) -> str:
    """The text of README.txt.

    Args:
        target: The module or JetPack.
        precision: The engine's precision.
        models: The ONNX files, the deployed one first.
        caches: Calibration caches in the bundle.
        golden_count: Number of golden images.
    """
    parts = [
        _head(target, precision, models),
        _steps(golden_count),
        _run(target),
        _measure(target),
        _tune(),
        _implicit(models, caches),
        _content(models, caches),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _head(target: Target, precision: str, models: BundleModels) -> list[str]:
    software = ", ".join(".".join(map(str, version)) for version in target.tensorrt)
    architecture = models.main.header.metadata.architecture
    network = f"GoogLeNet ({architecture})" if architecture in ARCHITECTURES else architecture or "An image classifier"
    classes = f", {models.class_count} classes" if models.class_count else ""
    lines = [
        f"{network}{classes}, for {target.title} in {precision.upper()}",
        f"Made by googlenet-deploy {__version__}; for TensorRT {software}.",
    ]
    if precision == "fp16" and target.has_int8 is False:
        lines.append("This module's GPU has no INT8 instructions, so the engine is FP16.")
    return lines


def _steps(golden_count: int) -> list[str]:
    return [
        "1. Build and test",
        "",
        "    unzip bundle.zip -d googlenet && cd googlenet",
        "    ./self-test.sh --files-only     # every file is as it was packed",
        "    ./build.sh                      # builds the engine (minutes), then runs the self-test",
        "",
        f"build.sh writes {ENGINE}. An engine is for this module and this TensorRT only.",
        f"The self-test classifies {golden_count} images and compares scores and classes with the workstation's;",
        "it exits with 1 where they differ by more than golden/golden.json allows. Again at any time: ./self-test.sh",
    ]


def _run(target: Target) -> list[str]:
    lines = [
        "2. Classify",
        "",
        f"    python3 googlenet-device.pyz infer {ENGINE} photo.jpg",
        f"    python3 googlenet-device.pyz infer {ENGINE} photos/ --json answers.jsonl",
        "",
        "It needs Python 3.8 or later with NumPy, Pillow and TensorRT's Python package, and NVIDIA's cuda-python",
        "(or PyCUDA, which is compiled on the device):",
        "",
        "    sudo apt-get install python3-numpy python3-pil python3-libnvinfer",
        "    pip3 install cuda-python        # the version of the device's CUDA, such as cuda-python==12.6.*",
        "    pip3 install pycuda             # if there is no cuda-python for its Python",
    ]
    if tensorrt_of_jetpack(_OLD_PYTHON) in target.tensorrt:
        lines += [
            "",
            "JetPack 4.6 has Python 3.6, which cannot run googlenet-device.pyz. build.sh and self-test.sh use trtexec",
            "there and need no Python. Run the engine from your own program: the input is described in",
            "preprocessing.json, the classes in class_names.txt.",
        ]
    return lines


def _measure(target: Target) -> list[str]:
    lines = [
        "3. Measure",
        "",
        "    sudo nvpmodel -q                # the power mode; -m N chooses another",
        "    sudo jetson_clocks              # fixed clocks, so that runs can be compared",
        f"    python3 googlenet-device.pyz benchmark {ENGINE} --json on-device/benchmark.json",
    ]
    modes = target.module.power_modes if target.module else ()
    if modes:
        lines += ["", "Power modes of this module: " + ", ".join(mode.name for mode in modes) + "."]
    return lines


def _tune() -> list[str]:
    return [
        "4. Choose (precision, batch, streams, CUDA graph and power mode, by measurement)",
        "",
        "    ./build.sh --candidates         # an engine of each precision",
        "    sudo python3 googlenet-device.pyz tune . --power-modes --max-latency 20 --min-agreement 98 \\",
        "        --images photos/",
        "    python3 googlenet-device.pyz infer . photos/ --tuned on-device/tuned.json",
        "",
        "tune finds what takes the least energy per image within the limits (--objective latency, rate or size for",
        "other goals). The power mode that it finds is put back at the end.",
    ]


def _implicit(models: BundleModels, caches: Sequence[str]) -> list[str]:
    if not caches:
        return []
    has_fp32 = any(model.precision == "fp32" for model in models)
    lines = ["INT8 from the calibration cache instead of the Q/DQ model (a DLA needs it before TensorRT 11.4):", ""]
    if has_fp32:
        lines += [
            "    python3 googlenet-device.pyz build models/model.onnx --precision int8 \\",
            f"        --calibration-cache {caches[-1]} --output on-device/implicit.engine",
            "",
        ]
    return [*lines, "Take the cache that is named after this device's TensorRT: " + ", ".join(caches) + "."]


def _content(models: BundleModels, caches: Sequence[str]) -> list[str]:
    rows = [
        *((f"models/{model.name}", f"{model.precision.upper()}, opset {model.header.opset}") for model in models),
        *((cache, "calibration cache for implicit INT8") for cache in caches),
        ("preprocessing.json", "how an image becomes the network's input"),
        *([("class_names.txt", "one name per line, in the order of the scores")] if models.class_names else []),
        ("googlenet-device.pyz", "infer, build, benchmark, tune, doctor, selftest; any Python 3.8 or later"),
        ("golden/", "images and the workstation's answers, for the self-test"),
        ("manifest.json", "SHA-256 and size of every file, and what it was made from; SHA256SUMS for the shell;"),
        ("", "hashes find damage, they prove no origin: whoever changes a file can rewrite them"),
        ("on-device/", "what this device writes: engine, timing cache, logs"),
    ]
    width = max(len(name) for name, _ in rows)
    return ["Files", "", *(f"    {name.ljust(width)}  {text}" for name, text in rows)]
