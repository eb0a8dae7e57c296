"""The plain GoogLeNet from its checkpoints to tested bundles: fresh weights of full width, and a trained narrow one.

The trained one learns three textures, drawn at 32x32 and stretched to 224x224, at an eighth of the width, which two
cores do in minutes: some 300 steps of Adam with the notebook's loss, 1 + 0.3 + 0.3. The fresh one is a ``.pth`` of 10
classes, as the repository of the network saves it. Both go through export, quantize, evaluate against FP32, a
TensorRT-RTX build and deploy.

    python benchmarks/bring_your_own.py [--record]
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from commands import command, evaluate, read_json
from harness import ROOT, options, record, say, table

sys.path.insert(0, str(ROOT))
from googlenet_deploy.export.samples import folder_samples
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.model.weights import load_weights
from tests.support.textures import write_textures

WIDTH, EPOCHS = "0.125", "8"
LARGEST_DIFFERENCE, AGREEMENT = 1e-4, 98.0
NAMES = ("columns", "rows", "squares")


def fresh(path: Path) -> None:
    """A checkpoint of the network's own kind: a state dict of full width with auxiliary heads."""
    torch.manual_seed(0)
    torch.save(GoogLeNet(ARCHITECTURES["plain"], 10, auxiliary=True).state_dict(), path)


def train(images: Path, path: Path) -> float:
    """Trains the narrow network; returns its accuracy in percent."""
    report = path.with_suffix(".json")
    if not path.exists() or path.with_suffix(".state.safetensors").exists():
        command(
            *("train", "--data", images, "--output", path, "--architecture", "plain", "--width", WIDTH, "--resume"),
            *("--resize-mode", "stretch", "--optimizer", "adam", "--lr", "0.001", "--schedule", "cosine"),
            *("--epochs", EPOCHS, "--batch-size", "16", "--json", report, "--quiet"),
        )
    accuracy: float = read_json(report)["validation"]["top1_percent"]
    return accuracy


def largest_difference(weights: Path, model: Path, images: Path) -> float:
    """Largest difference between the scores of PyTorch and of the exported model in ONNX Runtime, on photographs."""
    checkpoint = load_weights(weights)
    prepared = folder_samples(images, checkpoint.preprocessing, 16).prepared
    with torch.inference_mode():
        wanted = checkpoint.model.eval()(torch.from_numpy(prepared)).numpy()
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return float(np.abs(session.run(["logits"], {"input": prepared})[0] - wanted).max())


def go(name: str, weights: Path, images: Path, folder: Path) -> dict[str, float]:
    """Runs everything from a checkpoint to a bundle, whose self-test `deploy` runs."""
    model, int8 = folder / f"{name}.onnx", folder / f"{name}.int8.onnx"
    val = images / "val"
    command("export", "--weights", weights, "--output", model, "--quiet")
    command("quantize", model, "--images", images / "train", "--count", "96", "--output", int8, "--quiet")
    figures = evaluate(int8, val, "--reference", model, "--layers", "0")
    engine = folder / f"{name}.engine"
    command(
        *("build", int8, "--backend", "tensorrt-rtx", "--compute-capability", "8.6", "--batch", "1,4,4"),
        *("--output", engine, "--quiet"),
    )
    deployed = folder / f"{name}-deployed"
    command(
        *("deploy", "--weights", weights, "--images", val, "--target", "orin-nano", "--output", deployed),
        *("--calibration-images", "96", "--no-benchmark", "--no-sensitivity", "--no-gates", "--quiet"),
    )
    unpacked = folder / f"{name}-bundle"
    shutil.unpack_archive(deployed / "bundle.zip", unpacked)
    command("selftest", next(unpacked.rglob("manifest.json")).parent)
    return {
        "largest_difference": largest_difference(weights, model, val),
        "agreement": figures["agreement"],
        "sqnr": figures["sqnr"],
        "engine_bytes": float(engine.stat().st_size),
        "bundle_bytes": float((deployed / "bundle.zip").stat().st_size),
    }


def main() -> int:
    arguments = options(__doc__ or "", rounds=1).parse_args()
    folder = ROOT / "build" / "bring-your-own"
    images = folder / "textures"
    if not images.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for part, count, seed in (("train", 200, 1), ("val", 60, 2)):
            write_textures(images / part, NAMES, count, seed=seed)
    fresh(folder / "fresh.pth")
    accuracy = train(images, folder / "trained.safetensors")
    rows = {
        "trained": go("trained", folder / "trained.safetensors", images, folder),
        "fresh": go("fresh", folder / "fresh.pth", images, folder),
    }
    say(f"trained for {EPOCHS} epochs of 37 steps: {accuracy:.2f} % of the validation images")
    names = list(rows["trained"])
    table(("checkpoint", *names), [(kind, *(f"{row[name]:.3g}" for name in names)) for kind, row in rows.items()])
    holds = {
        "FP32 within 1e-4 of PyTorch, both": all(
            row["largest_difference"] <= LARGEST_DIFFERENCE for row in rows.values()
        ),
        f"INT8 agrees with FP32 on at least {AGREEMENT:g} %, trained": rows["trained"]["agreement"] >= AGREEMENT,
    }
    for what, kept in holds.items():
        say(f"{what}: {'yes' if kept else 'NO'}")
    if arguments.record:
        record("bring_your_own", {"accuracy": accuracy, **rows, "holds": holds})
    return 0 if all(holds.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
