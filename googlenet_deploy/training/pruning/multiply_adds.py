"""Multiply-adds per image as a function of a network's widths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from googlenet_deploy.errors import requires

with requires("train"):
    import torch
    from torch import Tensor, nn

if TYPE_CHECKING:
    from googlenet_deploy.device.targets.target import Target
    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.model.widths import Widths
    from googlenet_deploy.training.pruning.select import Measure


def open_measure(model: GoogLeNet, input_size: int, target: Target | None) -> Measure:
    """Multiply-adds of the convolutions and the classifier for one image.

    Args:
        model: The network, whose kernels and strides do not change with its widths.
        input_size: Height and width of its input, in pixels.
        target: Not used; multiply-adds do not depend on the target.
    """
    del target
    places = _work_per_pair(model, input_size)
    image_channels, classes = model.in_channels, model.num_classes

    def measure(widths: Widths) -> float:
        inputs = widths.input_channels(image_channels)
        convolutions = sum(count * inputs[name] * places[name] for name, count in widths.channels.items())
        return float(convolutions + inputs["fc"] * classes)

    return measure


def _work_per_pair(model: GoogLeNet, input_size: int) -> dict[str, int]:
    """Multiply-adds of every convolution for one input channel and one output channel: kernel area times outputs."""
    found: dict[str, int] = {}
    hooks = []
    for name, layer in model.convolutions().items():

        def note(module: nn.Module, _inputs: Any, output: Tensor, name: str = name) -> None:  # noqa: ANN401 - torch's
            assert isinstance(module, nn.Conv2d)
            found[name] = module.weight[0, 0].numel() * output[0, 0].numel()

        hooks.append(layer.register_forward_hook(note))
    training = model.training
    with torch.inference_mode():
        model.eval()(torch.zeros(1, model.in_channels, input_size, input_size, device=model.fc.weight.device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return found
