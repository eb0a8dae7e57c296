"""Fits what is left of a network to what the whole one computed, before any training.

Every layer's weights are fitted by least squares so that it computes, from the channels that are left, what it computed
from all of them (He et al. 2017, "Channel Pruning for Accelerating Very Deep Neural Networks", section 3.1, the second
step). Layers are fitted in the network's order, each on what the fitted layers before it compute, so that errors do not
add up. It needs no labels and few images: 100 of them hold thousands of positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from googlenet_deploy.errors import requires

with requires("train"):
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    from googlenet_deploy.model.blocks import ConvBlock
    from googlenet_deploy.model.googlenet import STAGES
    from googlenet_deploy.model.widths import convolution_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch.utils.hooks import RemovableHandle

    from googlenet_deploy.model.googlenet import GoogLeNet

POSITIONS = 64  # of a layer's output, per image
# Weight of the squared change of the weights, relative to the mean variance of the inputs: what few images do not
# determine stays as it was.
RIDGE = 1e-1
# Convolutions of an Inception module that read others of the module.
SECOND = ("conv3x3", "conv5x5")


class Regression:
    """A linear least-squares problem, gathered batch by batch: targets from inputs, with an intercept.

    Args:
        inputs: Number of inputs.
        targets: Number of targets.
    """

    def __init__(self, inputs: int, targets: int) -> None:
        self.inputs = inputs
        # One more input, which is always 1: its products are the sums of the others, and their number.
        self.products = torch.zeros(inputs + 1, inputs + 1 + targets, dtype=torch.float64)
        self.device = self.products.device

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """Adds rows: (rows, inputs) and (rows, targets)."""
        self.device = inputs.device
        given = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
        self.products += (given.T @ torch.cat([given, targets], dim=1)).double().cpu()

    def solve(self, ridge: float, join: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Factors (targets, inputs) and intercepts (targets,), float32, on the device of the rows.

        Args:
            ridge: Weight of the squared factors, relative to the mean variance of the inputs.
            join: Sums a tensor over the processes of the run.
        """
        products = join(self.products.to(self.device)).cpu()
        count, rows = self.inputs, products[self.inputs, self.inputs].clamp_min(1.0)
        sums = products[count]
        centred = products[:count] - torch.outer(sums[:count], sums) / rows
        variances, covariances = centred[:, :count], centred[:, count + 1 :]
        weight = ridge * variances.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
        factors = torch.linalg.solve(variances + weight * torch.eye(count, dtype=torch.float64), covariances)
        intercepts = (sums[count + 1 :] - sums[:count] @ factors) / rows
        return factors.T.float().to(self.device), intercepts.float().to(self.device)


@dataclass(frozen=True)
class BatchPairs:
    """Batches on their way through both networks.

    Attributes:
        ours: What the pruned network has made of each batch so far, float32 (N, C, H, W).
        theirs: What the network before the cut has.
        join: Sums a tensor over the processes of the run.
    """

    ours: Sequence[Tensor]
    theirs: Sequence[Tensor]
    join: Callable[[Tensor], Tensor]


@torch.no_grad()
def reconstruct(
    model: GoogLeNet,
    before: GoogLeNet,
    kept: Mapping[str, Tensor],
    images: Sequence[Tensor],
    join: Callable[[Tensor], Tensor] = torch.clone,
) -> None:
    """Fits a pruned network's convolutions and its classifier to the network before the cut.

    Args:
        model: The pruned network, changed in place; its auxiliary classifiers stay as they are.
        before: The network before the cut.
        kept: By the names of `Widths.channels`, the channels of `before` that are left, int64.
        images: Batches of inputs, float32 (N, C, H, W), on the networks' device.
        join: Sums a tensor over the processes of the run.
    """
    model.eval()
    before.eval()
    pairs = BatchPairs(images, images, join)
    for stage in STAGES:
        pairs = _fit_stage(model, before, stage, kept, pairs)
    fit = Regression(model.fc.in_features, model.fc.out_features)
    for ours, theirs in zip(pairs.ours, pairs.theirs, strict=True):
        features, whole = (network.avgpool(x).flatten(1) for network, x in ((model, ours), (before, theirs)))
        fit.add(features, before.fc(whole) - model.fc(features))
    change, intercepts = fit.solve(RIDGE, join)
    model.fc.weight.add_(change)
    model.fc.bias.add_(intercepts)


def _fit_stage(
    model: GoogLeNet, before: GoogLeNet, stage: tuple[str, ...], kept: Mapping[str, Tensor], pairs: BatchPairs
) -> BatchPairs:
    """Fits the convolutions of a stage; returns what both networks have after it."""
    names = [name for name in kept if name.split(".")[0] == stage[0]]
    second = [name for name in names if name.endswith(SECOND)]
    theirs, wanted = _run(before, stage, names, pairs.theirs)
    for level in ([name for name in names if name not in second], second):
        if level:
            _, given = _run(model, stage, level, pairs.ours)
            for name in level:
                targets = [seen.outputs[:, kept[name]] for seen in wanted[name]]
                _fit_layer(model, name, given[name], targets, pairs.join)
    ours, _ = _run(model, stage, [], pairs.ours)
    return BatchPairs(ours, theirs, pairs.join)


@dataclass(frozen=True)
class Seen:
    """A convolution at some positions of a batch.

    Attributes:
        inputs: What its kernel sees, (rows, inputs).
        outputs: What it computes there, before BatchNorm and ReLU, (rows, outputs).
    """

    inputs: Tensor
    outputs: Tensor


def _run(
    network: GoogLeNet, stage: tuple[str, ...], names: list[str], batches: Sequence[Tensor]
) -> tuple[list[Tensor], dict[str, list[Seen]]]:
    """What a stage makes of every batch, and what the convolutions named see and compute on the way."""
    layers = network.convolutions()
    seen: dict[str, list[Seen]] = {name: [] for name in names}

    def noting(name: str) -> RemovableHandle:
        def note(layer: nn.Conv2d, inputs: tuple[Tensor], outputs: Tensor) -> None:
            seen[name].append(_at_some_positions(layer, inputs[0], outputs, len(seen[name])))

        return layers[name].register_forward_hook(note)

    steps = nn.Sequential(*(network.get_submodule(step) for step in stage))
    hooks = [noting(name) for name in names]
    try:
        return [steps(x) for x in batches], seen
    finally:
        for hook in hooks:
            hook.remove()


def _at_some_positions(layer: nn.Conv2d, inputs: Tensor, outputs: Tensor, batch: int) -> Seen:
    """The same positions for both networks, others in every batch."""
    height, width = outputs.shape[2:]
    places = torch.randperm(height * width, generator=torch.Generator().manual_seed(batch))[:POSITIONS]
    rows, columns = (places // width).to(inputs.device), (places % width).to(inputs.device)
    kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
    patches = functional.pad(inputs, [padding] * 4).unfold(2, kernel, stride).unfold(3, kernel, stride)
    chosen = patches[:, :, rows, columns].transpose(1, 2)  # (N, positions, C, kernel, kernel)
    return Seen(chosen.flatten(2).flatten(0, 1), outputs[:, :, rows, columns].transpose(1, 2).flatten(0, 1))


def _fit_layer(
    model: GoogLeNet, name: str, given: list[Seen], wanted: list[Tensor], join: Callable[[Tensor], Tensor]
) -> None:
    layer = model.convolutions()[name]
    fit = Regression(layer.weight[0].numel(), layer.out_channels)
    for seen, outputs in zip(given, wanted, strict=True):
        fit.add(seen.inputs, outputs - seen.outputs)
    change, intercepts = fit.solve(RIDGE, join)
    layer.weight.add_(change.view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.add_(intercepts)
        return
    block = model.get_submodule(convolution_paths(model.architecture)[name])
    assert isinstance(block, ConvBlock)
    assert block.bn is not None
    assert block.bn.running_mean is not None
    block.bn.running_mean.sub_(intercepts)
