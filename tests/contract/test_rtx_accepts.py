"""TensorRT-RTX's own parser and builder take every kind of model that export writes; no GPU is needed.

The library builds engines ahead of time for a compute capability that is named instead of found. It is NVIDIA's parser
of the TensorRT 11 generation, so what it refuses, a Jetson would refuse too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any
from unittest import mock

import pytest
import torch
from made_once import model_made_once

from googlenet_deploy.device.specification import BVLC, TORCHVISION
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.export import pipeline
from googlenet_deploy.export.capture import capture
from googlenet_deploy.export.options import ExportOptions
from googlenet_deploy.export.pipeline import export_checkpoint
from googlenet_deploy.export.samples import seeded_samples
from googlenet_deploy.graph.edit import copy_model
from googlenet_deploy.graph.graph import serialize
from googlenet_deploy.model.architecture import get_architecture
from googlenet_deploy.model.checkpoint import Checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet

SPECIFICATIONS = {"bvlc": BVLC, "torchvision": TORCHVISION}


@lru_cache
def checkpoint(name: str) -> Checkpoint:
    """The full net with random weights."""
    torch.manual_seed(0)
    model = GoogLeNet(get_architecture(name), 1000).eval()
    with torch.inference_mode():
        model.fc.weight.data /= model(torch.randn(2, 3, 224, 224)).abs().max()
    return Checkpoint(model, model.architecture, SPECIFICATIONS[name], source_sha256="0" * 64)


Record = Callable[[str], Any]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """What the exporter records of a net; each is recorded once."""

    @lru_cache
    def record(name: str) -> Any:
        model = checkpoint(name).model
        return model_made_once(tmp_path_factory, f"captured-full-{name}", lambda: capture(model, (224, 224)))

    return lambda name: copy_model(record(name))


def exported(name: str, options: dict[str, Any], recorded: Record) -> Any:
    samples = seeded_samples(SPECIFICATIONS[name], 2)
    with mock.patch.object(pipeline, "capture", return_value=recorded(name)):
        return export_checkpoint(checkpoint(name), ExportOptions(simplify=False, **options), samples).model


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bvlc", "torchvision"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="dynamic"),
        pytest.param({"batch": 1}, id="static"),
        pytest.param({"batch": 4, "average_pool": True}, id="average-pool"),
        pytest.param({"uint8_input": True}, id="uint8"),
        pytest.param({"uint8_input": True, "batch": 1}, id="uint8-static"),
        pytest.param({"softmax": True, "top_k": 5}, id="softmax-top-k"),
        pytest.param({"target": load_target("jetpack-4.6")}, id="opset-13"),
        pytest.param({"target": load_target("tensorrt-rtx"), "opset": 24}, id="opset-24"),
    ],
)
def test_parsed_and_built(rtx: Any, recorded: Record, name: str, options: dict[str, Any]) -> None:
    model = exported(name, options, recorded)
    network = rtx.build(serialize(model), largest_batch=8)
    source = network.get_input(0)
    assert (source.dtype == rtx.trt.uint8) == bool(options.get("uint8_input"))
    assert source.shape[0] == options.get("batch", -1)
    outputs = [network.get_output(index).name for index in range(network.num_outputs)]
    assert outputs == [output.name for output in model.graph.output]
    layers = {network.get_layer(index).name for index in range(network.num_layers)}
    assert "inception4a/branch2/1/conv" in layers, "TensorRT's layers bear the names of the nodes"
