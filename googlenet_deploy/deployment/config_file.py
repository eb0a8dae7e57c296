"""``deploy.toml``: the options of a deployment under their own names, ``[budget]`` and ``[gates]``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from googlenet_deploy.deployment.config import DeployConfig
from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.errors import InputError, UsageError

if sys.version_info >= (3, 11):
    from tomllib import loads as parse
else:  # without tomllib; what TOML allows beyond the toolkit's own profiles is refused
    from googlenet_deploy.device.targets.toml_subset import parse_toml as parse

_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "bool": (bool,), "tuple[int, ...]": (list,), "tuple[str, ...]": (list,),
    "Mapping[str, float]": (dict,),
}  # fmt: skip
_TABLES = ("budget", "gates")
_PLACES = ("weights", "images", "labels", "output")  # relative to the file that names them


def read_config(path: PathLike) -> dict[str, Any]:
    """Reads a configuration file; paths in it are relative to the file's own folder.

    Raises:
        InputError: It cannot be read, is no TOML, or has an unknown or unfit entry.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(path, "is not a text file") from error
    try:
        values: dict[str, Any] = parse(text)
    except ValueError as error:
        raise InputError(path, f"is no TOML: {error}") from error
    _check(path, values)
    for name in _PLACES:
        place = values.get(name, "")
        if (place and (file.parent / place).exists()) or (place and name == "output" and not Path(place).is_absolute()):
            values[name] = str(file.parent / place)
    return values


def make_config(values: Mapping[str, Any]) -> DeployConfig:
    """A configuration from values by name; gates given twice are merged by the caller.

    Raises:
        UsageError: Something is missing or out of range.
    """
    known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    for name in ("weights", "images", "target", "output"):
        known.setdefault(name, "")
    return DeployConfig(**known)


def config_text(config: DeployConfig) -> str:
    """The configuration as TOML, everything said, which `read_config` reads back."""
    values = config.to_dict()
    tables = {name: values.pop(name) for name in _TABLES}
    lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
    for name, limits in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(float(limit))}" for key, limit in limits.items())]
    return "\n".join(lines) + "\n"


def _check(path: PathLike, values: Mapping[str, Any]) -> None:
    kinds = {item.name: _KINDS[str(item.type)] for item in fields(DeployConfig)}
    for name, value in values.items():
        if name not in kinds:
            raise InputError(path, f"has an unknown entry {name!r}", f"known are {', '.join(kinds)}")
        fits = isinstance(value, kinds[name]) and (bool in kinds[name] or not isinstance(value, bool))
        if not fits:
            raise InputError(path, f"{name} is not of the right kind: {value!r}")
    limits = {f"{table}.{name}": limit for table in _TABLES for name, limit in values.get(table, {}).items()}
    for name, limit in limits.items():
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise InputError(path, f"{name} is not a number: {limit!r}")
    for name, wanted in (("batch", int), ("compute_capabilities", str)):
        if not all(isinstance(item, wanted) and not isinstance(item, bool) for item in values.get(name, [])):
            raise InputError(path, f"{name} is not a list of {wanted.__name__}: {values[name]!r}")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        if "\\u" in text or "\\b" in text or "\\f" in text:
            raise UsageError(f"{value!r} has control characters, which a configuration file cannot hold")
        return text
    return repr(value)
