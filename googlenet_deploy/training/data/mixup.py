"""Mixup: pairs of images and of their classes, mixed (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization").

Neighbours in a batch are mixed with each other; shuffling makes them random pairs, and a pair never spans two
processes. The first of a pair draws its share from a beta distribution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from googlenet_deploy.errors import requires

with requires("train"):
    import torch
    from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


class Targets(NamedTuple):
    """The targets of a batch.

    Attributes:
        labels: int64 class indices (N,).
        partners: int64 classes of the images mixed in (N,); None without mixup.
        shares: float32 share of `labels` in each mixture (N,).
    """

    labels: Tensor
    partners: Tensor | None = None
    shares: Tensor | None = None


def mix(inputs: Tensor, labels: Tensor, shares: Tensor) -> tuple[Tensor, Targets]:
    """Mixes each image with its neighbour.

    Args:
        inputs: float32 (N, ...), N even.
        labels: int64 (N,).
        shares: float32 (N,); those of the first of each pair count.
    """
    order = torch.arange(len(labels), device=labels.device) ^ 1
    first = shares.view(-1, 2)[:, :1].expand(-1, 2).reshape(-1)
    weight = first.view(-1, *[1] * (inputs.dim() - 1))
    return torch.lerp(inputs[order], inputs, weight), Targets(labels, labels[order], first)


def cross_entropy(logits: Tensor, targets: Tensor | Targets, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats; for a mixture, the mean over both classes weighted by their shares.

    Args:
        logits: (N, classes).
        targets: int64 (N,), or the targets of a mixture.
        label_smoothing: Share of the target that is spread over all classes.
    """
    if not isinstance(targets, Targets):
        targets = Targets(targets)
    if targets.partners is None or targets.shares is None:
        return functional.cross_entropy(logits, targets.labels, label_smoothing=label_smoothing)
    own, other = (
        functional.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
        for labels in (targets.labels, targets.partners)
    )
    return torch.lerp(other, own, targets.shares).mean()
