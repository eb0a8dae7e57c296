"""What `bring_your_own.py` needs of timm, run by an interpreter that has it: a checkpoint, and plain PyTorch's scores.

    python timm_module_worker.py checkpoint NAME CLASSES PREPARED.npy OUTPUT
    python timm_module_worker.py scores NAME CLASSES PREPARED.npy CHECKPOINT SCORES.npy

Weights are those of `timm_export_worker.py`, which produce realistic activations without a download. The checkpoint has
the form that timm's own training script writes, with the moving average beside the weights, or is safetensors with
DataParallel's prefix, by its name.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file
from timm_export_worker import sane_model


def checkpoint(name: str, classes: int, images: torch.Tensor, output: Path) -> None:
    """Writes a checkpoint; of the two state dicts in a ``.pth.tar``, only the average holds the weights meant."""
    state = sane_model(name, images, classes).state_dict()
    if output.suffix == ".safetensors":
        save_file({f"module.{key}": value for key, value in state.items()}, output)
        return
    last = {key: value + 0.01 if value.is_floating_point() else value for key, value in state.items()}
    content = {"epoch": 3, "arch": name, "args": argparse.Namespace(lr=0.1), "metric": np.float64(71.5)}
    torch.save({**content, "state_dict": last, "state_dict_ema": state}, output)


def scores(name: str, classes: int, images: torch.Tensor, weights: Path, output: Path) -> None:
    """Writes what timm's model computes with the weights of such a checkpoint, float32 (N, classes)."""
    if weights.suffix == ".safetensors":
        state = {key.removeprefix("module."): value for key, value in load_file(weights).items()}
    else:
        state = torch.load(weights, weights_only=False)["state_dict_ema"]  # written by `checkpoint` above
    model = timm.create_model(name, num_classes=classes)
    model.load_state_dict(state)
    with torch.inference_mode():
        np.save(output, model.eval()(images).numpy())


def main() -> int:
    what, name, classes, prepared, *paths = sys.argv[1:]
    images = torch.from_numpy(np.load(prepared))
    if what == "checkpoint":
        checkpoint(name, int(classes), images, Path(paths[0]))
    else:
        scores(name, int(classes), images, Path(paths[0]), Path(paths[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
