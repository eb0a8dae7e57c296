"""Takes an image classifier from PyTorch to an NVIDIA Jetson, and proves every step.

The names below are imported when they are first used: `Classifier` needs NumPy and Pillow, the other ones the extra of
their step.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from googlenet_deploy.device.classifier import Classifier
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.device.stream.answers import Answer, RankedClass

__version__ = "0.1.0"
__all__ = ["Answer", "Classifier", "Preprocessing", "RankedClass", "__version__"]

_HOMES = {
    "Answer": "device.stream.answers",
    "Classifier": "device.classifier",
    "Preprocessing": "device.specification",
    "RankedClass": "device.stream.answers",
}


def __getattr__(name: str) -> object:
    """Imports a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
