"""The types allowed besides tensors in a checkpoint, for torch's weights-only unpickler.

torch itself allows tensors and Python's containers. Training scripts also store NumPy scalars and arrays (a best
accuracy), `argparse.Namespace` (their options) and paths. None of these runs code when it is unpickled. Settings of
well-known configuration libraries become ordered dictionaries: their own classes are never imported. Anything else
is refused.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import types
from typing import TYPE_CHECKING, Any

from googlenet_deploy.errors import requires

with requires("export"):
    import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

# Classes of settings, by their pickled names.
SETTINGS = (
    "collections.defaultdict",
    "addict.addict.Dict",
    "easydict.EasyDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.ConfigDict",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.BooleanNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.StringNode",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "yacs.config.CfgNode",
)
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


class Settings:
    """Makes an ordered dictionary in place of an object of a configuration library, whose class is not loaded."""

    def __new__(cls, *_arguments: object, **_named: object) -> collections.OrderedDict[Any, Any]:  # type: ignore[misc]
        """Creates an empty one; the unpickler fills it as it would have filled the object."""
        return collections.OrderedDict()


class PathName(pathlib.PurePosixPath):
    """A path of any operating system, kept as a name only."""


def allowed_types() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """The argument of `torch.serialization.safe_globals`: types, or pairs of a type and its pickled name."""
    plain: list[Any] = [
        argparse.Namespace, types.SimpleNamespace, int, float, str, bool, list, set, dict, np.dtype, np.ndarray,
        *(getattr(np.dtypes, name) for name in np.dtypes.__all__),
    ]  # fmt: skip
    paths = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
    named: list[Any] = [(PathName, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name in paths]
    for module in _NUMPY_MODULES:
        named += [(_numpy_scalar, f"{module}.scalar"), (_numpy_array, f"{module}._reconstruct")]
    return [*plain, *named, *((Settings, name) for name in SETTINGS)]


def _numpy_scalar(dtype: object, data: object = b"") -> object:
    """NumPy's own function to unpickle a scalar, restricted to numbers."""
    content = data.encode("latin-1") if isinstance(data, str) else data
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(content, bytes):
        raise ValueError("a NumPy scalar that is not a number")
    return np.frombuffer(content, dtype, 1)[0]


def _numpy_array(kind: object, shape: object, dtype: object) -> np.ndarray[Any, Any]:
    """NumPy's own function to unpickle an array, whose content follows afterwards."""
    if kind is not np.ndarray or shape != (0,) or not isinstance(dtype, bytes | str):
        raise ValueError("a NumPy array of an unusual kind")
    return np.empty(0, np.uint8)
