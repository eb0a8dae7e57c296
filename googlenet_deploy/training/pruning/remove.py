"""Takes channels out of a network, in place, with everything that depends on them.

torch-pruning traces which BatchNorms and which inputs of later layers belong to a channel, through concatenations and
into the auxiliary classifiers as well (Fang et al. 2023, "DepGraph: Towards Any Structural Pruning").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from googlenet_deploy.errors import GoogLeNetDeployError, requires

with requires("train"):
    import torch
    import torch_pruning
    from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from googlenet_deploy.model.googlenet import GoogLeNet, TrainingOutputs


def remove_channels(model: GoogLeNet, kept: Mapping[str, Tensor], input_size: int) -> None:
    """Removes all but the channels that are kept.

    Args:
        model: The network, changed in place: its modules are kept, their parameters are replaced.
        kept: Channels by the names of `Widths.channels`, int64, in their order; a layer that is not listed keeps all.
        input_size: Height and width of the input, in pixels.

    Raises:
        GoogLeNetDeployError: The resulting network is not the expected one.
    """
    wanted = model.widths.with_channels({name: len(channels) for name, channels in kept.items()})
    image = torch.zeros(1, model.in_channels, input_size, input_size, device=model.fc.weight.device)
    learning = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(True)  # the graph is traced through gradients
    graph = torch_pruning.DependencyGraph().build_dependency(model, image, forward_fn=_with_auxiliary)
    layers = model.convolutions()
    for name, channels in kept.items():
        layer = layers[name]
        gone = sorted(set(range(layer.out_channels)) - set(channels.tolist()))
        if gone:
            graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, gone).prune()
    for parameter, learns in zip(model.parameters(), learning, strict=True):
        parameter.requires_grad_(learns)
    model.update_widths()
    if model.widths != wanted or model.fc.in_features != wanted.input_channels(model.in_channels)["fc"]:
        raise GoogLeNetDeployError(f"pruning left other channels than it should: {model.widths.to_json()}")


def _with_auxiliary(model: GoogLeNet, image: Tensor) -> Tensor | TrainingOutputs:
    """The outputs of all classifiers, with BatchNorm and dropout in eval mode."""
    model.eval()
    model.training = True  # of the network alone, not of its layers
    outputs: Tensor | TrainingOutputs = model(image)
    model.training = False
    return outputs
