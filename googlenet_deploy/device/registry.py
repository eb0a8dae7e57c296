"""Registry members by name, so that a table of members imports none before it is used.

A registry is a table from a name to a path, such as ``"googlenet_deploy.device.power.rapl:open_rapl"``, alone or in a
named tuple with what must be known before the import. To add a member, add one file and one line in the table.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load_member(place: str) -> Any:  # noqa: ANN401 - the registry's own types say what its members are
    """Imports a member by its path.

    Args:
        place: ``"package.module:attribute"``.

    Raises:
        MissingExtraError: The module needs a package that is not installed.
    """
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)
