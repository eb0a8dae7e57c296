"""The graph that predictions are made of has the work of the exported network, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from googlenet_deploy.analysis.layer_work import ModelWork
from googlenet_deploy.export.pipeline import ExportResult
from googlenet_deploy.graph.files import write_model
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.checkpoint import Checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.model.summary import summarize
from googlenet_deploy.model.widths import scaled_widths
from googlenet_deploy.training.pruning.skeleton import Skeleton


def work(path: Path) -> list[tuple[str, int, int, int]]:
    found = ModelWork(path, ("fp32", "fp16"), 1, "fp16")
    return sorted((x.operator, x.multiply_adds, x.weight_bytes, x.activation_bytes) for x in found.layers)


def test_every_layer_does_what_the_exported_one_does(
    architecture: str,
    checkpoint_of: Callable[[str], Checkpoint],
    export_small: Callable[..., ExportResult],
    tmp_path: Path,
) -> None:
    write_model(tmp_path / "exported.onnx", export_small(architecture).model)
    model = checkpoint_of(architecture).model
    write_model(tmp_path / "skeleton.onnx", Skeleton(model, 64).build(model.widths))
    onnx.checker.check_model(str(tmp_path / "skeleton.onnx"), full_check=True)
    assert work(tmp_path / "skeleton.onnx") == work(tmp_path / "exported.onnx")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_pruned_widths_have_the_multiply_adds_of_the_pruned_network(name: str, tmp_path: Path) -> None:
    whole = GoogLeNet(ARCHITECTURES[name], 4, width=0.25)
    widths = scaled_widths(0.25).with_channels({"conv2": 5, "inception4c.conv5x5": 3, "inception5b.pool_proj": 2})
    path = tmp_path / "s.onnx"
    write_model(path, Skeleton(whole, 32).build(widths))
    expected = summarize(GoogLeNet(whole.architecture, 4, widths=widths), 32).multiply_adds
    assert sum(layer[1] for layer in work(path)) == expected
