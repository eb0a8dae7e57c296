"""Makes the models and inputs for ``gpu_engines.py`` and the GPU tests, whose machine then needs no torch or onnx.

Writes the published BVLC net as FP32, FP16, INT8 (Q/DQ) and INT8 over FP16, its calibration cache, the same net with
its weights pruned to 2:4 as FP32 and INT8, the images, as files and preprocessed, and ONNX Runtime's scores for them.

    python benchmarks/gpu_models_worker.py [--output build/gpu] [--calibrate 256] [--check 128]
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from harness import IMAGES, ROOT, WEIGHTS

from googlenet_deploy.analysis.sparsity import layer_sparsity
from googlenet_deploy.cli.main import main as googlenet_deploy
from googlenet_deploy.device.images.pipeline import ImageBatches
from googlenet_deploy.device.images.sources import find_images
from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner
from googlenet_deploy.device.specification import BVLC
from googlenet_deploy.graph.files import load_model
from googlenet_deploy.model.checkpoint import save_checkpoint
from googlenet_deploy.model.weights import load_weights
from googlenet_deploy.training.sparsity import prune

BATCH = 8
ANSWERED = ("fp32", "int8", "sparse", "sparse-int8")


def run(*arguments: object) -> None:
    """Runs one command of the toolkit; ends the script if it fails."""
    if googlenet_deploy([str(argument) for argument in arguments]) != 0:
        raise SystemExit(f"{arguments[0]} failed")


def make_models(folder: Path, count: int, version: str) -> None:
    """The models and the calibration cache."""
    fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
    run("export", "--weights", WEIGHTS, "--output", fp32)
    run("export", "--onnx", fp32, "--fp16", "--output", folder / "fp16.onnx", "--images", IMAGES)
    calibration = ("--images", folder / "calibration", "--count", count, "--cache", folder / "int8.cache")
    calibration += ("--tensorrt-version", version)
    run("quantize", fp32, "--output", int8, *calibration)
    run("export", "--onnx", int8, "--fp16", "--output", folder / "int8-over-fp16.onnx", "--images", IMAGES)


def make_frame_models(folder: Path, sizes: str) -> None:
    """The FP32 and INT8 networks for camera frames, for ``gpu_frames.py``."""
    for size in filter(None, sizes.split(",")):
        for base in ("fp32", "int8"):
            command = ("export", "--onnx", folder / f"{base}.onnx", "--frame-input", size)
            run(*command, "--output", folder / f"frames-{base}-{size}.onnx")


def make_sparse_models(folder: Path, count: int) -> None:
    """The pruned network in FP32 and INT8, without training to recover its accuracy."""
    checkpoint, weights = load_weights(WEIGHTS), folder / "sparse.safetensors"
    print(prune(checkpoint.model))
    save_checkpoint(weights, checkpoint)
    sparse, int8 = folder / "sparse.onnx", folder / "sparse-int8.onnx"
    run("export", "--weights", weights, "--output", sparse)
    run("quantize", sparse, "--output", int8, "--images", folder / "calibration", "--count", count)
    weights.unlink()
    for path in (sparse, int8):
        lost = [layer.name for layer in layer_sparsity(load_model(path)) if layer.fits and not layer.holds]
        if lost:
            raise SystemExit(f"{path}: {', '.join(lost)} lost the pattern")


def copy_images(folder: Path, calibrate: int, check: int) -> None:
    """Copies calibration images, and others to check with."""
    images = sorted(path for path in IMAGES.iterdir() if path.is_file())
    if len(images) < calibrate + check:
        raise SystemExit(f"{IMAGES} has {len(images)} images; {calibrate + check} are needed")
    for name, chosen in (("calibration", images[:calibrate]), ("check", images[calibrate : calibrate + check])):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
        for path in chosen:
            shutil.copy(path, folder / name)


def prepare(folder: Path) -> np.ndarray:
    """The prepared images to check with, in the order of their names, saved for the GPU's machine."""
    images = find_images([folder / "check"]).images
    prepared = np.concatenate([batch.array for batch in ImageBatches(images, BVLC, BATCH)])
    kept = prepared.astype(np.float16)  # whole numbers, since BVLC subtracts whole means from pixels
    assert np.array_equal(kept, prepared)
    np.savez_compressed(folder / "inputs.npz", images=kept)
    return prepared


def answer(folder: Path, kind: str, images: np.ndarray) -> np.ndarray:
    """ONNX Runtime's logits for prepared images."""
    with OnnxRuntimeRunner(folder / f"{kind}.onnx") as runner:
        assert runner.metadata.preprocessing == BVLC
        parts = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
        return np.concatenate([runner.run(part)["logits"] for part in parts])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "gpu", metavar="DIR")
    parser.add_argument("--calibrate", type=int, default=256, metavar="N", help="images to calibrate on")
    parser.add_argument("--check", type=int, default=128, metavar="N", help="images to check with")
    parser.add_argument("--tensorrt-version", default="8.5.2", metavar="V", help="of the calibration cache")
    parser.add_argument(
        "--frames", default="", metavar="HxW,HxW", help="sizes of frames, for gpu_frames.py (default: none)"
    )
    arguments = parser.parse_args()
    folder: Path = arguments.output
    copy_images(folder, arguments.calibrate, arguments.check)
    make_models(folder, arguments.calibrate, arguments.tensorrt_version)
    make_sparse_models(folder, arguments.calibrate)
    make_frame_models(folder, arguments.frames)
    images = prepare(folder)
    np.savez(folder / "answers.npz", **{kind: answer(folder, kind, images) for kind in ANSWERED})
    print(f"everything lies in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
