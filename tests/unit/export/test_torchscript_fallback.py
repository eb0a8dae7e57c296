"""What the dynamo exporter cannot record is tried once with the one based on TorchScript, and verified all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import GoogLeNetDeployError, VerificationError
from googlenet_deploy.export.options import ExportOptions
from googlenet_deploy.export.pipeline import ExportResult, export_checkpoint
from googlenet_deploy.export.samples import seeded_samples
from googlenet_deploy.export.verify import run
from googlenet_deploy.model.module import ModuleRequest, load_module

SPEC = Preprocessing(resize=16, crop=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
NETWORK = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inputs, outputs, 3, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.body, self.fc = nn.Sequential(Block(3, 4), nn.Dropout(), Block(4, 6)), nn.Linear(6, 5)

    def pooled(self, x):
        return self.body(x).mean((2, 3))

    def forward(self, x):
        return self.fc(self.pooled(x))


def whole():
    return torch.jit.script(Net())


def part():
    net = Net()
    net.body = torch.jit.script(net.body)
    return net


class Detached(Net):
    def forward(self, x):
        return self.fc(self.body(x).data.mean((2, 3)))


class Counting(Net):
    def forward(self, x):
        return self.fc(self.pooled(x) if x.shape[0] < 4 else -self.pooled(x))


class Hooked(Net):
    def __init__(self):
        super().__init__()
        kept = self.kept = {}
        self.body.register_forward_hook(lambda module, inputs, output: kept.update(x=output))

    def forward(self, x):
        self.body(x)
        return self.fc(self.kept["x"].mean((2, 3)))


class Bessel(Net):
    def forward(self, x):
        return self.fc(torch.special.bessel_j0(self.pooled(x)))
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("network") / "net.py"
    file.write_text(NETWORK, encoding="utf-8")
    return file


def export(place: str, arguments: str = "") -> tuple[Any, ExportResult]:
    checkpoint = load_module(ModuleRequest(place, arguments), lambda _: SPEC)
    return checkpoint, export_checkpoint(checkpoint, ExportOptions(simplify=False), seeded_samples(SPEC))


def archive(path: Path) -> tuple[str, str]:
    """A TorchScript archive, as `torch.jit.save` writes it."""
    scripted = load_module(ModuleRequest(f"{path}:whole"), lambda _: SPEC).model
    torch.jit.save(scripted, path.with_name("archive.pt"))
    return "torch.jit:load", str(path.with_name("archive.pt"))


@pytest.mark.parametrize("kind", ["part", "archive"])
@pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated
def test_scripted_networks(path: Path, kind: str) -> None:
    place, arguments = archive(path) if kind == "archive" else (f"{path}:{kind}", "")
    checkpoint, result = export(place, arguments)
    notes = [note for note in result.notes if "the exporter based on TorchScript recorded the graph" in note]
    assert len(notes) == 1
    assert "since the dynamo exporter failed: " in notes[0]
    assert {comparison.against for comparison in result.comparisons} == {"the unsimplified graph", "PyTorch"}
    assert checkpoint.name == "Net"
    # Other images than those of the export, and another number of them.
    samples = seeded_samples(SPEC, count=3, seed=9)
    with torch.inference_mode():
        wanted = checkpoint.model(torch.from_numpy(samples.prepared)).numpy()
    np.testing.assert_allclose(run(result.model, samples)["logits"], wanted, rtol=1e-4, atol=1e-6)
    names = {node.name for node in result.model.graph.node}
    assert "fc" in names
    assert any(name.startswith("body/2/") for name in names), names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Detached", "it returns constants, whatever the image; the exporter based on TorchScript recorded the graph"),
        ("Counting", "differs from PyTorch: largest difference"),
        ("Hooked", "it returns constants, whatever the image$"),
    ],
)
def test_a_graph_that_is_not_the_network_is_refused(path: Path, name: str, words: str) -> None:
    with pytest.raises(VerificationError, match=f"recorded is not the network: {words}") as caught:
        export(f"{path}:{name}")
    assert "\n" not in caught.value.message
    assert "from its input alone" in (caught.value.remedy or "")


def test_both_exporters_fail(path: Path) -> None:
    with pytest.raises(GoogLeNetDeployError) as caught:
        export(f"{path}:Bessel")
    first, second = caught.value.message.split("; the one based on TorchScript: ")
    assert first.startswith("torch's ONNX exporter failed: ")
    assert all("bessel_j0" in half for half in (first, second))
    assert "\n" not in caught.value.message
