"""What is left of a pruned network is fitted to what the whole one computes, against NumPy and by construction."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.googlenet import STAGES, GoogLeNet
from googlenet_deploy.training.pruning import reconstruct as room
from googlenet_deploy.training.pruning.reconstruct import Regression, reconstruct
from googlenet_deploy.training.pruning.remove import remove_channels
from googlenet_deploy.training.pruning.trainer import all_channels

SIZE = 64


def network(name: str) -> GoogLeNet:
    torch.manual_seed(5)
    model = GoogLeNet(ARCHITECTURES[name], 4, width=0.125, auxiliary=True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval().requires_grad_(False)


def images(count: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(count, 3, SIZE, SIZE, generator=generator).split(4))


def pruned(whole: GoogLeNet, kept: dict[str, Tensor]) -> GoogLeNet:
    model = copy.deepcopy(whole)
    remove_channels(model, kept, SIZE)
    return model.requires_grad_(False)


def error(model: GoogLeNet, whole: GoogLeNet) -> float:
    """Relative squared error of the logits on images that nothing was fitted to."""
    x = torch.cat(images(16, seed=9))
    with torch.inference_mode():
        wanted = whole(x)
        return float((model(x) - wanted).square().sum() / wanted.square().sum())


def test_a_regression_is_numpys() -> None:
    random = np.random.default_rng(0)
    inputs, targets = random.normal(3.0, 2.0, (50, 6)), random.normal(size=(50, 2))
    fit = Regression(6, 2)
    for rows in (slice(0, 20), slice(20, 50)):
        fit.add(torch.tensor(inputs[rows]).float(), torch.tensor(targets[rows]).float())
    factors, intercepts = fit.solve(0.0, torch.clone)
    expected = np.linalg.lstsq(np.c_[inputs, np.ones(50)], targets, rcond=None)[0]
    np.testing.assert_allclose(np.c_[factors, intercepts], expected.T, atol=1e-5)


def test_the_intercept_is_not_held_back_by_the_ridge() -> None:
    fit = Regression(2, 1)
    fit.add(torch.randn(40, 2, generator=torch.Generator().manual_seed(0)), torch.full((40, 1), 7.0))
    factors, intercepts = fit.solve(100.0, torch.clone)
    assert factors.abs().max() < 1e-4
    assert intercepts == pytest.approx(7.0, abs=1e-4)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_few_rows_give_finite_factors(rows: int) -> None:
    fit = Regression(9, 2)
    fit.add(torch.ones(rows, 9), torch.ones(rows, 2))
    factors, intercepts = fit.solve(0.1, torch.clone)
    assert torch.isfinite(factors).all()
    assert torch.isfinite(intercepts).all()


def test_two_processes_fit_what_one_does() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(30, 4, generator=generator), torch.randn(30, 3, generator=generator)
    alone, first, second = (Regression(4, 3) for _ in range(3))
    alone.add(inputs, targets)
    first.add(inputs[:11], targets[:11])
    second.add(inputs[11:], targets[11:])
    together = first.solve(0.1, lambda products: products + second.products)
    for ours, theirs in zip(together, alone.solve(0.1, torch.clone), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_stages_are_the_network(name: str) -> None:
    model = network(name)
    x = images(2, seed=0)[0]
    with torch.inference_mode():
        wanted = model(x)
        for step in (step for stage in STAGES for step in stage):
            x = model.get_submodule(step)(x)
        assert torch.equal(model.fc(model.avgpool(x).flatten(1)), wanted)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_where_nothing_is_removed_nothing_changes(name: str) -> None:
    whole = network(name)
    model = copy.deepcopy(whole)
    reconstruct(model, whole, all_channels(whole.widths), images(8, seed=1))
    before = whole.state_dict()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_channel_that_is_a_copy_of_another_is_not_missed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "RIDGE", 1e-7)
    whole = network(name)
    layers = whole.convolutions()
    kept = all_channels(whole.widths)
    for layer in ("inception3b.reduce3x3", "inception4a.conv1x1", "inception4a.reduce5x5"):
        for tensor in _of_channels(whole, layers[layer], layer):
            tensor[1] = tensor[0]
        kept[layer] = kept[layer][kept[layer] != 1]
    model = pruned(whole, kept)
    before = error(model, whole)
    reconstruct(model, whole, kept, images(64, seed=1))
    assert error(model, whole) < 1e-4 * before


def _of_channels(model: GoogLeNet, layer: nn.Conv2d, name: str) -> list[Tensor]:
    """The tensors that hold one value or kernel per output channel of a layer."""
    found = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    for path, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and model.get_submodule(f"{path[:-3]}.conv") is layer:
            return [*found, module.weight, module.bias, module.running_mean, module.running_var]  # type: ignore[list-item]
    assert layer.bias is not None, name
    return found


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_that_lost_a_third_everywhere_comes_nearer(name: str) -> None:
    whole = network(name)
    kept = {key: torch.arange(count - count // 3) for key, count in whole.widths.channels.items()}
    model = pruned(whole, kept)
    before, heads = error(model, whole), [p.clone() for p in model.aux1.parameters()]  # type: ignore[union-attr]
    reconstruct(model, whole, kept, images(64, seed=1))
    assert error(model, whole) < 0.9 * before
    assert all(map(torch.equal, heads, model.aux1.parameters()))  # type: ignore[union-attr]
    assert model.widths.channels == {key: len(channels) for key, channels in kept.items()}
