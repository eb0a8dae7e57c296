"""PyTorch or ONNX to a verified, simplified ONNX model; `googlenet_deploy.export(...)` calls `export_model.export`.

The package has the same name as that function, so it is callable: the name works the same whichever of its modules is
imported first.
"""

from __future__ import annotations

import sys
from inspect import Signature, signature
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """The package, which forwards a call to the function."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as the function declares them
        """See `export_model.export`."""
        from googlenet_deploy.export.export_model import export  # noqa: PLC0415 - needs the extra "export"

        return export(*arguments, **options)

    @property
    def __signature__(self) -> Signature:
        from googlenet_deploy.export.export_model import export  # noqa: PLC0415

        return signature(export)


sys.modules[__name__].__class__ = _CallablePackage
