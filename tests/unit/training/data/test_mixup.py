"""Mixup and the loss of mixtures."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from googlenet_deploy.training.data.mixup import Targets, cross_entropy, mix


def test_neighbours_are_mixed_by_the_share_of_the_first() -> None:
    inputs = torch.tensor([[0.0], [10.0], [20.0], [40.0]]).view(4, 1, 1, 1)
    mixed, targets = mix(inputs, torch.tensor([0, 1, 2, 3]), torch.tensor([0.75, 0.1, 1.0, 0.3]))
    assert mixed.flatten().tolist() == [2.5, 7.5, 20.0, 40.0]
    assert targets.partners is not None
    assert targets.partners.tolist() == [1, 0, 3, 2]
    assert targets.shares is not None
    assert targets.shares.tolist() == [0.75, 0.75, 1.0, 1.0]


def test_mixing_features_works_as_mixing_images() -> None:
    features = torch.rand(4, 8)
    mixed, _ = mix(features, torch.arange(4), torch.full((4,), 0.5))
    torch.testing.assert_close(mixed[0], (features[0] + features[1]) / 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses(smoothing: float) -> None:
    logits, labels, partners = torch.randn(6, 5), torch.randint(5, (6,)), torch.randint(5, (6,))
    shares = torch.rand(6)
    own, other = (
        functional.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
        for target in (labels, partners)
    )
    expected = (shares * own + (1 - shares) * other).mean()
    torch.testing.assert_close(cross_entropy(logits, Targets(labels, partners, shares), smoothing), expected)


def test_without_a_mixture_it_is_plain_cross_entropy() -> None:
    logits, labels = torch.randn(6, 5), torch.randint(5, (6,))
    expected = functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert torch.equal(cross_entropy(logits, labels, 0.1), expected)
    assert torch.equal(cross_entropy(logits, Targets(labels), 0.1), expected)
