from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from googlenet_deploy.errors import UsageError
from googlenet_deploy.model.architecture import ARCHITECTURES, get_architecture, scale_channels
from googlenet_deploy.model.googlenet import GoogLeNet, TrainingOutputs
from googlenet_deploy.model.local_response_norm import LocalResponseNorm, local_response_norm


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("size", [32, 64, 97])
def test_logits_for_any_input_size(name: str, size: int) -> None:
    model = GoogLeNet(ARCHITECTURES[name], 6, width=0.125).eval()
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_auxiliary_classifiers_answer_in_training_only(name: str) -> None:
    model = GoogLeNet(ARCHITECTURES[name], 6, width=0.125, auxiliary=True)
    outputs = model.train()(torch.zeros(2, 3, 64, 64))
    assert isinstance(outputs, TrainingOutputs)
    assert [output.shape for output in outputs] == [(2, 6)] * 3
    assert isinstance(model.eval()(torch.zeros(2, 3, 64, 64)), torch.Tensor)


def test_the_papers_auxiliary_pool_is_5x5_stride_3() -> None:
    auxiliary = GoogLeNet(ARCHITECTURES["bvlc"], 6, width=0.125, auxiliary=True).aux1
    assert auxiliary is not None
    seen: list[torch.Tensor] = []
    auxiliary.conv.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
    x = torch.randn(1, auxiliary.conv.conv.in_channels, 14, 14)
    auxiliary(x)
    torch.testing.assert_close(seen[0], functional.avg_pool2d(x, 5, stride=3))


def test_what_distinguishes_the_two() -> None:
    paper, slim = (GoogLeNet(ARCHITECTURES[name], 6) for name in ("bvlc", "torchvision"))
    assert paper.inception3a.branch3[1].conv.kernel_size == (5, 5)
    assert slim.inception3a.branch3[1].conv.kernel_size == (3, 3)
    assert (paper.maxpool4.kernel_size, slim.maxpool4.kernel_size) == (3, 2)
    assert paper.conv1.conv.bias is not None
    assert paper.conv1.bn is None
    assert slim.conv1.conv.bias is None
    assert slim.conv1.bn is not None
    assert slim.conv1.bn.eps == 0.001
    assert sum(isinstance(module, LocalResponseNorm) for module in paper.modules()) == 2
    assert not any(isinstance(module, LocalResponseNorm) for module in slim.modules())
    for model in (paper, slim):
        assert all(pool.ceil_mode for pool in (model.maxpool1, model.maxpool2, model.maxpool3, model.maxpool4))


def test_state_dict_has_torchvisions_names() -> None:
    names = set(GoogLeNet(ARCHITECTURES["torchvision"], auxiliary=True).state_dict())
    assert {
        "conv1.conv.weight",
        "conv1.bn.running_mean",
        "inception3a.branch1.conv.weight",
        "inception4c.branch2.1.bn.bias",
        "inception5b.branch4.1.conv.weight",
        "aux1.conv.conv.weight",
        "aux2.fc1.bias",
        "fc.weight",
    } <= names


@pytest.mark.parametrize("arguments", [{"num_classes": 1}, {"width": 0.0}, {"in_channels": 0}])
def test_impossible_sizes_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        GoogLeNet(ARCHITECTURES["bvlc"], **arguments)  # type: ignore[arg-type]


def test_unknown_architecture_is_named() -> None:
    with pytest.raises(UsageError, match="inception"):
        get_architecture("inception")


@pytest.mark.parametrize(("channels", "width", "scaled"), [(64, 1.0, 64), (24, 1.0, 24), (64, 0.25, 16), (16, 0.1, 8)])
def test_scaled_channels_are_multiples_of_eight(channels: int, width: float, scaled: int) -> None:
    assert scale_channels(channels, width) == scaled


def test_lrn_is_the_formula() -> None:
    x = torch.randn(1, 7, 3, 3) * 50
    squares = torch.nn.functional.pad(x**2, (0, 0, 0, 0, 2, 2))
    window = sum(squares[:, i : i + 7] for i in range(5))
    expected = x / (1 + 1e-4 / 5 * window) ** 0.75
    torch.testing.assert_close(LocalResponseNorm()(x), expected)
    torch.testing.assert_close(local_response_norm(x, 5, 1e-4, 0.75, 1.0), expected)
