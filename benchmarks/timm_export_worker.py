"""Exports one of timm's architectures with weights that produce realistic activations without a download.

timm's random weights are of little use for quantisation: BatchNorm without statistics, layer scales of 1e-6 and
transformers whose scores hardly depend on the image. So each convolution and linear layer is scaled to outputs of unit
variance on real photographs (LSUV, Mishkin and Matas, https://arxiv.org/abs/1511.06422), layer scales become 0.1,
BatchNorm takes its statistics from the photographs, and the classifier's bias centres each class's scores on them.

    python timm_export_worker.py NAME dynamo|torchscript PREPARED.npy OUTPUT.onnx
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import timm
import torch

BATCH, LAYER_SCALE, OPSET = 16, 0.1, 18


def sane_model(name: str, images: torch.Tensor, classes: int = 1000) -> torch.nn.Module:
    """The architecture with weights as described above; the same at every call."""
    torch.manual_seed(0)
    model: torch.nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith("gamma"):
                value.fill_(LAYER_SCALE)
        _scale_layers(model, images[:BATCH])
        _collect_statistics(model, images)
        classifier = [part for part in model.modules() if isinstance(part, torch.nn.Linear)][-1]
        classifier.bias -= model(images).mean(0)
    return model


def _scale_layers(model: torch.nn.Module, images: torch.Tensor) -> None:
    """Scales each layer to outputs of unit variance, in execution order."""

    def scale(layer: torch.nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
        size = output.std()
        for value in layer.parameters():
            value.div_(size)
        return output / size

    layers = [part for part in model.modules() if isinstance(part, (torch.nn.Conv2d, torch.nn.Linear))]
    handles = [layer.register_forward_hook(scale) for layer in layers]
    model.train()
    model(images)
    for handle in handles:
        handle.remove()


def _collect_statistics(model: torch.nn.Module, images: torch.Tensor) -> None:
    """BatchNorm's mean and variance over the images: plain averages over the batches."""
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = None
    for batch in images.split(BATCH):
        model(batch)
    model.eval()


def main() -> int:
    name, exporter, prepared, output = sys.argv[1:]
    images = torch.from_numpy(np.load(prepared))
    model = sane_model(name, images)
    dynamo = exporter == "dynamo"
    how: dict[str, Any] = {"opset_version": OPSET, "input_names": ["input"], "output_names": ["logits"]}
    if dynamo:
        how["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    else:
        how["dynamic_axes"] = {"input": {0: "batch"}, "logits": {0: "batch"}}
    torch.onnx.export(model, (images[:2],), output, dynamo=dynamo, **how)
    return 0


if __name__ == "__main__":
    sys.exit(main())
