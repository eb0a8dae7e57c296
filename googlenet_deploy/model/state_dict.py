"""Loading tensors into a model, with words for whatever does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from googlenet_deploy.errors import BadWeightsError, requires

with requires("export"):
    import torch

    from googlenet_deploy.model.googlenet import GoogLeNet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

AUXILIARY_PREFIXES = ("aux1.", "aux2.")
SHOWN = 3


def load_state_dict(model: GoogLeNet, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Copies `tensors` into `model`, in place.

    Tensors of auxiliary classifiers are left out where the model has none; where the model has them and the
    file does not, they keep their fresh values. BatchNorm's batch counter may be missing, since nothing reads it.

    Args:
        model: The model that receives the tensors.
        tensors: By torchvision's state-dict names, any floating-point dtype.
        path: The file that they come from, for the error message.

    Raises:
        BadWeightsError: Tensors are missing, extra, wrongly shaped or not finite; the message names them.
    """
    wanted = model.state_dict()
    if model.aux1 is None:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(AUXILIARY_PREFIXES)}
    file_has_auxiliary = any(name.startswith(AUXILIARY_PREFIXES) for name in tensors)
    required = [
        name
        for name in wanted
        if not name.endswith("num_batches_tracked") and (file_has_auxiliary or not name.startswith(AUXILIARY_PREFIXES))
    ]
    _raise_for(path, "lacks", [name for name in required if name not in tensors])
    _raise_for(path, "has the unknown", [name for name in tensors if name not in wanted])
    _raise_for_shapes(path, wanted, tensors)
    _raise_for(
        path, "has values that are not finite in", [n for n, t in tensors.items() if not bool(torch.isfinite(t).all())]
    )
    model.load_state_dict(dict(tensors), strict=False)


def _raise_for(path: str | Path, what: str, names: Iterable[str]) -> None:
    names = list(names)
    if names:
        noun = "tensor" if len(names) == 1 else f"{len(names)} tensors"
        more = ", ..." if len(names) > SHOWN else ""
        raise BadWeightsError(
            path,
            f"{what} {noun} {', '.join(names[:SHOWN])}{more}",
            "is it a GoogLeNet of the architecture that was asked for?",
        )


def _raise_for_shapes(path: str | Path, wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    wrong = [
        f"{name} is {tuple(tensor.shape)} instead of {tuple(wanted[name].shape)}"
        for name, tensor in tensors.items()
        if tensor.shape != wanted[name].shape
    ]
    if wrong:
        more = f" (and {len(wrong) - SHOWN} more)" if len(wrong) > SHOWN else ""
        raise BadWeightsError(path, f"has tensors of the wrong shape: {'; '.join(wrong[:SHOWN])}{more}")
