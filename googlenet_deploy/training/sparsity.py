"""2:4 structured sparsity: two of every four weights along the input channels are zero, and stay so.

The recipe is that of Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks" (arXiv:2104.08378, section 4.1):
the two of largest magnitude in every four trained weights are kept, the others become zero, and training continues with
that mask for as many epochs as fine-tuning takes. The gradient of a masked weight is zeroed, so that neither SGD nor
Adam moves it from zero, and the averaged weights and INT8 codes have the same zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from googlenet_deploy.analysis.sparsity import GROUP, KEPT, PATTERN, fits_pattern, holds_pattern
from googlenet_deploy.errors import UsageError, requires

with requires("train"):
    import torch
    from torch import Tensor, nn
    from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from googlenet_deploy.training.options import TrainingOptions

CLASSIFIER = "fc"


class Masks:
    """Which weights of a network may be non-zero.

    Args:
        model: The network, already pruned by `prune`.

    Attributes:
        tensors: By layer: true where the weight is kept.
    """

    def __init__(self, model: nn.Module | None = None) -> None:
        self._weights = {} if model is None else dict(prunable(model))
        self.tensors = {name: mask_of(weight) for name, weight in self._weights.items()}

    def mask_gradients(self) -> None:
        """Zeroes the gradients of masked weights; called before the optimiser's step."""
        for name, weight in self._weights.items():
            if weight.grad is not None:
                weight.grad.masked_fill_(~self.tensors[name], 0.0)


def choose_sparsity(options: TrainingOptions, model: nn.Module, *, trained: bool) -> tuple[str, tuple[str, ...]]:
    """Decides whether a network is trained with the pattern, and prunes it if so; weights that have it keep it.

    Args:
        options: The run's options.
        model: The network, changed in place.
        trained: Whether its weights have been trained.

    Returns:
        The pattern or "none", and notes to report.

    Raises:
        UsageError: The pattern was requested and there is nothing to prune, or nothing that could recover.
    """
    has_it = follows(model)
    chosen = options.sparsity or (PATTERN if has_it and options.freeze == "none" else "none")
    if chosen != PATTERN:
        return chosen, (f"layers that learn lose the weights' {PATTERN} pattern of zeros",) if has_it else ()
    if not trained:
        raise UsageError(f"--sparsity {PATTERN} prunes trained weights", "train without it first, then pass --weights")
    if options.freeze != "none":
        raise UsageError(f"--sparsity {PATTERN} and --freeze exclude each other: every layer must adapt")
    return PATTERN, (prune(model),)


@torch.no_grad()
def prune(model: nn.Module) -> str:
    """Sets the smaller two of every four weights to zero, in place; returns a description of how much was pruned.

    Raises:
        UsageError: No layer has a multiple of 4 input channels.
    """
    pruned = list(prunable(model))
    if not pruned:
        raise UsageError(f"--sparsity {PATTERN}: no layer has input channels in fours", "use a wider network")
    before = sum(float(weight.square().sum()) for _, weight in pruned)
    for _, weight in pruned:
        weight.masked_fill_(~mask_of(weight), 0.0)
    after = sum(float(weight.square().sum()) for _, weight in pruned)
    lost = 100.0 * (1.0 - after / before) if before else 0.0
    dense = len(list(weights_of(model))) - len(pruned)
    rest = f"; {dense} layers stay dense: their input channels do not come in fours" if dense else ""
    return f"{PATTERN} sparsity: half of the weights in {len(pruned)} layers, {lost:.1f} % of their squares{rest}"


def mask_of(weight: Tensor) -> Tensor:
    """True for the two of largest magnitude in every four along the input channels; ties go to the first.

    Args:
        weight: Float (outputs, inputs, ...), inputs a multiple of 4.
    """
    magnitudes = weight.detach().abs().transpose(1, -1)
    groups = magnitudes.reshape(*magnitudes.shape[:-1], -1, GROUP)
    kept = groups.argsort(dim=-1, descending=True, stable=True)[..., :KEPT]
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, kept, True)
    return mask.flatten(-2).transpose(1, -1).contiguous()


def follows(model: nn.Module) -> bool:
    """Whether a network has the pattern in every layer that allows it, and at least one does.

    The classifier does not count: it may be a fresh one.
    """
    found = [holds_pattern(weight.detach().cpu().numpy()) for name, weight in prunable(model) if name != CLASSIFIER]
    return bool(found) and all(found)


def prunable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Layers whose number of input channels is a multiple of 4, with their trainable weights."""
    return ((name, weight) for name, weight in weights_of(model) if fits_pattern(weight.shape[1]))


def weights_of(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and weights of the exported convolutions and linear layers, before fake quantisation."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and not name.startswith("aux"):
            if parametrize.is_parametrized(module, "weight"):
                yield name, module.get_submodule("parametrizations.weight").get_parameter("original")
            elif isinstance(module.weight, nn.Parameter):
                yield name, module.weight
