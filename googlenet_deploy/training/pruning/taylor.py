"""Importance by Taylor expansion: how much the loss would change, to first order, without a channel.

Each channel has a gate of value 1 at its output; the derivative of the loss with respect to the gate is the sum over
all positions of activation times gradient, and its square, averaged over the images, is the importance (Molchanov et
al. 2019, "Importance Estimation for Neural Network Pruning", section 3.2). It is comparable across layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from googlenet_deploy.errors import requires

with requires("train"):
    import torch
    from torch import Tensor, nn

    from googlenet_deploy.model.widths import convolution_paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from googlenet_deploy.model.googlenet import GoogLeNet


def score_channels(model: GoogLeNet, losses: Iterator[Tensor]) -> dict[str, Tensor]:
    """The importance of every channel.

    Args:
        model: The network, in eval mode; its gradients are cleared.
        losses: Runs the network over some images, lazily; yields the mean loss of each batch.

    Returns:
        By the names of `Widths.channels`, float64 (channels,), at least 0.
    """
    outputs: dict[str, Tensor] = {}

    def noted(name: str) -> Any:  # noqa: ANN401 - a hook as torch types it
        def note(_module: nn.Module, _inputs: Any, output: Tensor) -> None:  # noqa: ANN401 - torch's own
            output.retain_grad()
            outputs[name] = output

        return note

    paths = convolution_paths(model.architecture)
    hooks = [model.get_submodule(path).register_forward_hook(noted(name)) for name, path in paths.items()]
    sums = {name: torch.zeros(count, dtype=torch.float64) for name, count in model.widths.channels.items()}
    try:
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]
            for name, output in outputs.items():
                assert output.grad is not None
                # The mean over n images divides each one's gradient by n.
                gates = (output.detach() * output.grad).sum(dim=(2, 3)).double() * len(output)
                sums[name] += gates.square().sum(dim=0).cpu()
            outputs.clear()
    finally:
        for hook in hooks:
            hook.remove()
        model.zero_grad(set_to_none=True)
    return sums
