"""What is measured, scored and removed, against the network itself."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.model.summary import summarize
from googlenet_deploy.model.widths import convolution_paths, scaled_widths
from googlenet_deploy.training.pruning import magnitude, taylor
from googlenet_deploy.training.pruning.multiply_adds import open_measure
from googlenet_deploy.training.pruning.remove import remove_channels

SIZE = 32


def network(name: str, *, auxiliary: bool = True) -> GoogLeNet:
    """An eighth as wide, with BatchNorm statistics that do something."""
    torch.manual_seed(3)
    model = GoogLeNet(ARCHITECTURES[name], 4, width=0.125, auxiliary=auxiliary)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def picked(model: GoogLeNet, names: list[str], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    counts = model.widths.channels
    return {n: torch.randperm(counts[n], generator=generator)[: counts[n] - 3].sort().values for n in names}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_multiply_adds_are_those_of_the_summary(name: str) -> None:
    model = network(name)
    measure = open_measure(model, 64, None)
    assert measure(model.widths) == summarize(model, 64).multiply_adds
    widths = scaled_widths(0.25).with_channels({"conv2": 5, "inception4c.conv5x5": 3, "inception5b.pool_proj": 2})
    assert measure(widths) == summarize(GoogLeNet(model.architecture, 4, widths=widths), 64).multiply_adds


def test_the_published_network_has_the_papers_multiply_adds() -> None:
    with torch.device("meta"):
        model = GoogLeNet(ARCHITECTURES["bvlc"])
    with torch.device("meta"):
        assert open_measure(model, 224, None)(model.widths) == pytest.approx(1.58e9, rel=0.02)


@pytest.mark.parametrize("name", ["torchvision", "plain"])
def test_a_network_without_channels_computes_what_it_does_with_them_at_zero(name: str) -> None:
    """Of the paper's own network that holds behind the two LRNs, which mix neighbours; see below."""
    _compare(name, list(scaled_widths(0.125).channels))


def test_so_does_the_papers_network_in_its_inception_modules() -> None:
    _compare("bvlc", [key for key in scaled_widths(0.125).channels if key.startswith("inception")])


def _compare(name: str, names: list[str]) -> None:
    whole = network(name)
    kept = picked(whole, names)
    paths = convolution_paths(whole.architecture)
    for key, channels in kept.items():
        mask = torch.zeros(1, whole.widths.channels[key], 1, 1)
        mask[:, channels] = 1.0
        whole.get_submodule(paths[key]).register_forward_hook(lambda _m, _i, output, mask=mask: output * mask)
    pruned = network(name)
    parameters = sum(parameter.numel() for parameter in pruned.parameters())
    remove_channels(pruned, kept, SIZE)
    x = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(pruned(x), whole(x), rtol=1e-4, atol=1e-5)
    assert sum(parameter.numel() for parameter in pruned.parameters()) < parameters
    assert all(parameter.requires_grad for parameter in pruned.parameters())
    outputs = pruned.train()(x)  # the auxiliary classifiers follow
    assert [tuple(part.shape) for part in outputs] == [(2, 4)] * 3


def test_removing_leaves_batch_norm_and_the_training_flags_as_they_are() -> None:
    model = network("torchvision").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    remove_channels(model, {"conv1": torch.arange(8)}, SIZE)  # all of them
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    model.fc.requires_grad_(False)
    remove_channels(model, {"conv2": torch.tensor([1, 4])}, SIZE)
    assert not model.fc.weight.requires_grad
    assert model.conv2.conv.weight.requires_grad
    assert torch.equal(model.conv2.bn.running_mean, before["conv2.bn.running_mean"][[1, 4]])


@pytest.mark.parametrize("name", ["plain", "torchvision"])  # the third has LRN, which is float32 inside
def test_the_taylor_score_is_the_squared_derivative_by_a_gate(name: str) -> None:
    model = network(name, auxiliary=False).double()
    x = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    labels = torch.tensor([0, 1, 3])
    losses = (nn.functional.cross_entropy(model(x[k : k + 1]), labels[k : k + 1]) for k in range(3))
    scores = taylor.score_channels(model, losses)
    assert all(parameter.grad is None for parameter in model.parameters())
    batch = taylor.score_channels(model, (nn.functional.cross_entropy(model(x), labels) for _ in range(1)))
    for key in ("conv1", "inception5b.pool_proj"):
        expected = torch.zeros(len(scores[key]), dtype=torch.float64)
        for channel in range(len(expected)):
            for image in range(3):
                slope = _slope(model, key, channel, x[image : image + 1], labels[image : image + 1])
                expected[channel] += slope**2
        torch.testing.assert_close(scores[key], expected, rtol=1e-4, atol=1e-10)
    torch.testing.assert_close(batch["conv2"], scores["conv2"], rtol=1e-9, atol=1e-12)


def _slope(model: GoogLeNet, key: str, channel: int, x: torch.Tensor, label: torch.Tensor) -> float:
    """The loss's derivative by a factor on one channel, by central differences."""
    values = []
    for gate in (1.0 + 1e-6, 1.0 - 1e-6):
        factor = torch.ones(1, model.widths.channels[key], 1, 1, dtype=torch.float64)
        factor[:, channel] = gate
        module = model.get_submodule(convolution_paths(model.architecture)[key])
        hook = module.register_forward_hook(lambda _m, _i, output, factor=factor: output * factor)
        with torch.inference_mode():
            values.append(float(nn.functional.cross_entropy(model(x), label)))
        hook.remove()
    return (values[0] - values[1]) / 2e-6


def test_the_magnitude_score_folds_batch_norm_in() -> None:
    model = network("torchvision")
    layer, norm = model.conv2.conv, model.conv2.bn
    folded = layer.weight * (norm.weight / torch.sqrt(norm.running_var + norm.eps)).view(-1, 1, 1, 1)
    norms = folded.flatten(1).norm(dim=1).double()
    scores = magnitude.score_channels(model, iter(()))
    torch.testing.assert_close(scores["conv2"], norms / norms.mean(), rtol=1e-5, atol=1e-6)
    plain = network("plain")
    norms = plain.inception3a.layer3[1].weight.flatten(1).norm(dim=1).double()
    torch.testing.assert_close(
        magnitude.score_channels(plain, iter(()))["inception3a.conv5x5"], norms / norms.mean(), rtol=1e-5, atol=1e-6
    )


def test_scoring_leaves_the_network_as_it_is() -> None:
    model = network("torchvision")
    before = copy.deepcopy(model.state_dict())
    taylor.score_channels(model, iter([model(torch.randn(2, 3, SIZE, SIZE)).square().mean()]))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
