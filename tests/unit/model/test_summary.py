from __future__ import annotations

import pytest
import torch

from googlenet_deploy.errors import UsageError
from googlenet_deploy.model.architecture import ARCHITECTURES
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.model.summary import summarize


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [("bvlc", 6_998_552, 1_582_671_872), ("torchvision", 6_624_904, 1_498_376_192)],
)
def test_published_totals(name: str, parameters: int, multiply_adds: int) -> None:
    summary = summarize(GoogLeNet(ARCHITECTURES[name]))
    assert (summary.parameters, summary.multiply_adds) == (parameters, multiply_adds)


def test_totals_do_not_depend_on_the_grouping() -> None:
    summary = summarize(GoogLeNet(ARCHITECTURES["bvlc"], 10, width=0.25), 64)
    for field in ("parameters", "weights", "multiply_adds", "activation_bytes"):
        assert sum(getattr(layer, field) for layer in summary.layers) == sum(
            getattr(layer, field) for layer in summary.by_module()
        )
    assert max(layer.live_bytes for layer in summary.by_module()) == summary.peak.live_bytes


def test_output_sizes_are_those_of_a_real_run() -> None:
    model = GoogLeNet(ARCHITECTURES["torchvision"], 7, width=0.125).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, o, name=name: shapes.update({name: tuple(o.shape[1:])}))
        for name, module in model.named_modules()
    ]
    model(torch.zeros(1, 3, 96, 96))
    for hook in hooks:
        hook.remove()
    for layer in summarize(model, 96).layers:
        assert layer.output == shapes[layer.name.removesuffix(".concat")]


def test_live_memory_by_hand() -> None:
    """conv1 holds the input and its output; norm2 its input and output; an Inception module all its branches."""
    layers = {layer.name: layer for layer in summarize(GoogLeNet(ARCHITECTURES["bvlc"])).layers}
    assert layers["conv1"].live_bytes == 4 * (3 * 224 * 224 + 64 * 112 * 112)
    assert layers["norm2"].live_bytes == 2 * 4 * 192 * 56 * 56
    # Behind 3a's concat only the branches and their concatenation are left: the module's input is no longer read.
    assert layers["inception3a.concat"].live_bytes == 2 * 4 * 256 * 28 * 28
    # The classifier's input is the pooled tensor itself: dropout and flatten copy nothing.
    assert layers["fc"].live_bytes == 4 * (1024 + 1000)


def test_the_model_is_left_as_it_was() -> None:
    model = GoogLeNet(ARCHITECTURES["bvlc"], 5, width=0.125, auxiliary=True).train()
    summarize(model, 64)
    assert model.training
    assert model.aux1 is not None
    assert next(model.parameters()).device.type == "cpu"


def test_an_input_that_is_too_small_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 32"):
        summarize(GoogLeNet(ARCHITECTURES["bvlc"], 5, width=0.125), 16)
