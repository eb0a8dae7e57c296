"""A writer of caffemodels, for the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from googlenet_deploy.model import caffemodel
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.caffe_names import caffe_layers
from googlenet_deploy.model.googlenet import GoogLeNet

WriteCaffe = Callable[..., Path]


@pytest.fixture
def small_net() -> GoogLeNet:
    """The paper's net with 5 classes and all its channels: what a caffemodel of it holds."""
    torch.manual_seed(0)
    return GoogLeNet(ARCHITECTURES["bvlc"], 5, auxiliary=True).eval()


@pytest.fixture
def write_caffe(tmp_path: Path) -> WriteCaffe:
    """``write_caffe(state_dict, old=True, transform={...})`` writes a caffemodel of either form."""

    def write(state: Mapping[str, torch.Tensor], *, old: bool, transform: Mapping[str, Any] | None = None) -> Path:
        net = caffemodel._message("NetParameter")(name="GoogleNet")
        layers = net.layers if old else net.layer
        if transform is not None:
            data = layers.add(name="data")
            for key, value in transform.items():
                if isinstance(value, list):
                    getattr(data.transform_param, key).extend(value)
                else:
                    setattr(data.transform_param, key, value)
        for name, module in caffe_layers().items():
            layer = layers.add(name=name)
            for parameter in ("weight", "bias"):
                tensor = state[f"{module}.{parameter}"]
                blob = layer.blobs.add()
                blob.data.extend(tensor.flatten().tolist())
                if old:
                    shape = [1] * (4 - tensor.dim()) + list(tensor.shape)
                    blob.num, blob.channels, blob.height, blob.width = shape
                else:
                    blob.shape.dim.extend(tensor.shape)
        path = tmp_path / ("old.caffemodel" if old else "new.caffemodel")
        path.write_bytes(net.SerializeToString())
        return path

    return write
