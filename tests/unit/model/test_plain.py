"""The plain GoogLeNet against its description: sizes, names, and a forward written here with functions alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.googlenet import GoogLeNet

MODULES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
LAYERS = ("layer1", "layer2.0", "layer2.1", "layer3.0", "layer3.1", "layer4.1")


def inception(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    def conv(layer: str, x: Tensor, padding: int = 0) -> Tensor:
        return functional.conv2d(x, state[f"{name}.{layer}.weight"], state[f"{name}.{layer}.bias"], padding=padding)

    return torch.cat(
        [
            conv("layer1", x),
            conv("layer2.1", conv("layer2.0", x), 1),
            conv("layer3.1", conv("layer3.0", x), 2),
            conv("layer4.1", functional.max_pool2d(x, 3, 1, 1)),
        ],
        1,
    )


def forward(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Stem with ReLUs, modules without, padded max-pools after the stem's two stages, 3b and 4e; classifier."""
    x = functional.conv2d(x, state["conv1.weight"], state["conv1.bias"], stride=2, padding=3).clamp(min=0)
    x = functional.max_pool2d(x, 3, 2, 1)
    x = functional.conv2d(x, state["conv2.weight"], state["conv2.bias"]).clamp(min=0)
    x = functional.conv2d(x, state["conv3.weight"], state["conv3.bias"], padding=1).clamp(min=0)
    x = functional.max_pool2d(x, 3, 2, 1)
    for name in MODULES:
        x = inception(x, state, f"inception{name}")
        if name in ("3b", "4e"):
            x = functional.max_pool2d(x, 3, 2, 1)
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


def test_size_and_names() -> None:
    model = GoogLeNet(ARCHITECTURES["plain"], 1000, auxiliary=True)
    assert sum(parameter.numel() for parameter in model.parameters()) == 13_378_280
    stems = ["conv1", "conv2", "conv3", *(f"inception{m}.{layer}" for m in MODULES for layer in LAYERS)]
    heads = [f"{head}.{layer}" for head in ("aux1", "aux2") for layer in ("conv", "fc1", "fc2")]
    names = {f"{layer}.{kind}" for layer in (*stems, *heads, "fc") for kind in ("weight", "bias")}
    assert set(model.state_dict()) == names
    assert len(names) == 128


@pytest.mark.parametrize(("size", "width"), [(224, 1.0), (96, 0.25), (33, 0.125)])
def test_logits_are_those_of_the_description(size: int, width: float) -> None:
    torch.manual_seed(3)
    model = GoogLeNet(ARCHITECTURES["plain"], 10, width=width).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(model(x), forward(x, model.state_dict()), rtol=1e-4, atol=1e-4)


def test_shapes_of_the_stages_and_heads() -> None:
    model = GoogLeNet(ARCHITECTURES["plain"], 10, auxiliary=True).train()
    shapes = {}
    for name in ("conv1", "maxpool1", "conv3", "inception3a", "inception4a", "inception4e", "inception5b", "aux1.conv"):
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: shapes.update({name: tuple(output.shape[1:])})
        )
    outputs = model(torch.randn(2, 3, 224, 224))
    assert shapes == {
        "conv1": (64, 112, 112),
        "maxpool1": (64, 56, 56),
        "conv3": (192, 56, 56),
        "inception3a": (256, 28, 28),
        "inception4a": (512, 14, 14),
        "inception4e": (832, 14, 14),
        "inception5b": (1024, 7, 7),
        "aux1.conv": (128, 4, 4),
    }
    assert [tuple(output.shape) for output in outputs] == [(2, 10)] * 3


def test_activations_are_signed_inside_the_modules_only() -> None:
    model = GoogLeNet(ARCHITECTURES["plain"], 10, width=0.25, auxiliary=True).train()
    lowest: dict[str, float] = {}
    for name in ("conv1", "conv2", "conv3", "aux1.conv", "aux2.conv", "inception3a.layer2.0", "inception4b.layer3.1"):
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: lowest.update({name: output.min().item()})
        )
    model(torch.randn(2, 3, 64, 64))
    assert all((value < 0) == name.startswith("inception") for name, value in lowest.items()), lowest


def test_fresh_weights_keep_the_signal_alive() -> None:
    """The modules are linear: weights whose gain is not about 1 would make all images look alike."""
    torch.manual_seed(0)
    model = GoogLeNet(ARCHITECTURES["plain"], 10).eval()
    with torch.no_grad():
        logits = model(
            torch.randn(4, 3, 224, 224).repeat_interleave(2, 0) * torch.tensor([0.2, 2.0] * 4).view(8, 1, 1, 1)
        )
    assert 0.01 < float(logits.std(0).mean()) < 100
