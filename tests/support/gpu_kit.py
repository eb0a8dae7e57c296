"""Code shared by the tests on GPUs and the benchmark of engines; needs only NumPy and Pillow.

``python benchmarks/gpu_models_worker.py`` makes the folder of models on any machine; $GOOGLENET_DEPLOY_GPU_MODELS names
it if it is not build/gpu. $GOOGLENET_DEPLOY_TACTIC_SOURCES restricts the kernel libraries: empty on a machine without
cuBLAS and cuDNN.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent


class EngineKind(NamedTuple):
    """One way to build an engine.

    Attributes:
        name: Name for tables.
        model: The model in the folder.
        options: Options of the build command; ``{folder}`` is replaced by the folder.
        computes_in: The type that nearly all multiply-adds are expected in; None for FP32, which may run as TF32.
        reference: The model whose results it must reproduce.
        decibels: Smallest signal-to-noise ratio of its logits against those of the reference.
        agreement: Smallest share of images with the same best class.
        strongly_typed: Whether it needs TensorRT 10.12 or later.
        baseline: The float model that the benchmark compares its results with.
    """

    name: str
    model: str
    options: tuple[str, ...]
    computes_in: str | None
    reference: str
    decibels: float
    agreement: float
    strongly_typed: bool = False
    baseline: str = "fp32"


IMAGES = "{folder}/calibration"
KINDS = (
    EngineKind("FP32", "fp32", ("--precision", "fp32", "--no-tf32"), None, "fp32", 80, 1.0),
    EngineKind("FP16 by flag", "fp32", ("--precision", "fp16"), "fp16", "fp32", 45, 0.98),
    EngineKind("INT8 from Q/DQ", "int8", (), "int8", "int8", 25, 0.93),
    EngineKind("INT8 from the cache", "fp32", ("--calibration-cache", "{folder}/int8.cache"), "int8", "fp32", 20, 0.9),
    EngineKind("INT8, live entropy", "fp32", ("--calibration-images", IMAGES), "int8", "fp32", 15, 0.85),
    EngineKind(
        "INT8, live min-max",
        "fp32",
        ("--calibration-images", IMAGES, "--calibration-algorithm", "minmax"),
        "int8",
        "fp32",
        15,
        0.85,
    ),
    EngineKind("FP16 by the model", "fp16", (), "fp16", "fp32", 45, 0.98, strongly_typed=True),
    EngineKind("INT8 over FP16", "int8-over-fp16", (), "int8", "int8", 25, 0.93, strongly_typed=True),
    # Pruned without retraining: for speed, and to compare results with those of the same zeros elsewhere.
    EngineKind(
        "FP16 of 2:4 weights by sparse kernels",
        "sparse",
        ("--precision", "fp16", "--sparsity"),
        "fp16",
        "sparse",
        45,
        0.98,
        baseline="sparse",
    ),
    EngineKind("FP16 of 2:4 weights", "sparse", ("--precision", "fp16"), "fp16", "sparse", 45, 0.98, baseline="sparse"),
    EngineKind(
        "INT8 of 2:4 weights by sparse kernels",
        "sparse-int8",
        ("--sparsity",),
        "int8",
        "sparse-int8",
        25,
        0.9,
        baseline="sparse",
    ),
    EngineKind("INT8 of 2:4 weights", "sparse-int8", (), "int8", "sparse-int8", 25, 0.9, baseline="sparse"),
)
BATCHES = ("1", "8", "32", "128")


def models_folder() -> Path:
    """The folder with the models, whether it is there or not."""
    return Path(os.environ.get("GOOGLENET_DEPLOY_GPU_MODELS", ROOT / "build" / "gpu"))


def why_not() -> str:
    """Why engines cannot be built and run here; empty if they can."""
    from googlenet_deploy.device.system.gpu import find_gpu
    from googlenet_deploy.device.tensorrt.loading import load_tensorrt
    from googlenet_deploy.errors import DeviceError

    try:
        find_gpu()
        load_tensorrt("tensorrt")
    except DeviceError as error:
        return error.message
    if not (models_folder() / "answers.npz").is_file():
        return f"no models in {models_folder()}: make them with python benchmarks/gpu_models_worker.py"
    return ""


def build_command(kind: EngineKind, engine: Path, *more: str) -> list[str]:
    """The command line that builds an engine."""
    folder = models_folder()
    options = [option.replace("{folder}", str(folder)) for option in kind.options]
    sizes = ["--batch", f"{BATCHES[0]},{BATCHES[1]},{BATCHES[-1]}"]
    files = [str(folder / f"{kind.model}.onnx"), "--output", str(engine)]
    return ["build", *files, *sizes, *options, *tactic_options(), *more]


def tactic_options(backend: str = "tensorrt") -> list[str]:
    """Options of the build command for the kernel libraries that may be used here."""
    chosen = os.environ.get("GOOGLENET_DEPLOY_TACTIC_SOURCES")
    return [] if chosen is None or backend != "tensorrt" else ["--tactic-sources", chosen]


def can_build(kind: EngineKind) -> str:
    """Why this TensorRT cannot build such an engine; empty if it can."""
    from googlenet_deploy.device.tensorrt.loading import load_tensorrt
    from googlenet_deploy.device.tensorrt.names import FIRST_STRONGLY_TYPED

    library = load_tensorrt("tensorrt")
    if kind.strongly_typed and library.version < FIRST_STRONGLY_TYPED:
        return f"{library.label} is weakly typed"
    weak = ("--precision" in kind.options and kind.computes_in) or any("calibration" in word for word in kind.options)
    return f"{library.label} has no precision flags" if weak and library.strongly_typed_only else ""


def answers_of(engine: Path, batch: int = 8, **options: Any) -> Any:
    """An engine's outputs for the check images, float32 (N, classes); options are the runner's.

    The images were prepared on the machine that computed the reference outputs: Pillow 12.3 and 13.0 resize differently
    by one step in 7 % of the values, which limits the ratio to 46 dB.
    """
    import numpy as np

    from googlenet_deploy.device.runner.tensorrt_runner import TensorRTRunner

    images = np.load(models_folder() / "inputs.npz")["images"].astype(np.float32)
    with TensorRTRunner(engine, **options) as runner:
        parts = (images[start : start + batch] for start in range(0, len(images), batch))
        return np.concatenate([runner.run(part)["logits"] for part in parts])


def compare(answers: Any, reference: Any) -> tuple[float, float]:
    """(signal-to-noise ratio in dB, share of images with the same best class) of logits (N, classes)."""
    import numpy as np

    noise = float(((answers.astype(np.float64) - reference) ** 2).sum())
    signal = float((reference.astype(np.float64) ** 2).sum())
    ratio = float("inf") if noise == 0 else 10 * float(np.log10(signal / noise))
    return ratio, float((answers.argmax(axis=1) == reference.argmax(axis=1)).mean())
