"""torchvision's googlenet state dict, as ``torch.save`` wrote it: a zip archive or, before 2020, a bare pickle.

torchvision's model applies ``transform_input`` to ImageNet-normalised images, which undoes that normalisation. A
state dict does not say so, hence the trap; our preprocessing holds the whole of it (`specification.TORCHVISION`).
"""

from __future__ import annotations

import pickle
import warnings
from typing import TYPE_CHECKING

from googlenet_deploy.errors import BadWeightsError, requires

with requires("export"):
    import torch
    from torch import Tensor

if TYPE_CHECKING:
    from pathlib import Path

# Wrappers that training scripts put around a state dict.
WRAPPERS = ("state_dict", "model_state_dict", "model")
DATA_PARALLEL_PREFIX = "module."


def read_torchvision(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file by their state-dict names.

    A state dict inside a dictionary under "state_dict" or "model" is found, and DataParallel's "module." taken off.

    Raises:
        BadWeightsError: The file is damaged, holds anything but tensors, or would run code when unpickled.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadWeightsError(
            path,
            "is damaged, or would run code when it is loaded, which is refused",
            "save the state dict alone: torch.save(model.state_dict(), path)",
        ) from error
    except Exception as error:  # torch's three readers raise whatever they stumble over, AssertionError included
        first_line = str(error).partition("\n")[0] or type(error).__name__
        raise BadWeightsError(path, f"is not a PyTorch checkpoint, or is damaged: {first_line}") from error
    return _state_dict(content, path)


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise BadWeightsError(path, "does not hold a state dict: a dictionary of tensors")
    return {str(name).removeprefix(DATA_PARALLEL_PREFIX): tensor for name, tensor in content.items()}
