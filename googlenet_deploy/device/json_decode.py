"""Converts dataclasses to plain JSON values and back, using their annotations."""

from __future__ import annotations

import collections.abc
import math
import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Type, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_UNIONS = (Union, getattr(types, "UnionType", Union))  # Python 3.8 has no ``X | None``
_OBJECTS = (dict, collections.abc.Mapping)
LARGEST_INTEGER = 2**63 - 1


def encode(value: object) -> Any:  # noqa: ANN401 - any JSON
    """Plain JSON values of dataclasses, mappings, sequences and scalars; infinities and NaN, unknown to JSON, are null.

    A dataclass may list properties in a class attribute ``DERIVED``, such as an interval's ends: they are written
    beside its fields for readers of the file, and `decode` recomputes them instead of reading them.
    """
    if is_dataclass(value):
        names = (*(item.name for item in fields(value)), *getattr(value, "DERIVED", ()))
        return {name: encode(getattr(value, name)) for name in names}
    if isinstance(value, collections.abc.Mapping):
        return {str(key): encode(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def decode(kind: Type[T], value: object, where: str = "results") -> T:
    """Converts a value from ``json.loads`` to the type `kind`.

    Understands dataclasses, ``tuple[X, ...]``, ``tuple[X, Y]``, ``Mapping[str, X]``, ``Dict[str, X]``, ``X | None``,
    Any, str, int, float and bool.

    Args:
        kind: The type.
        value: The value.
        where: Its place, for error messages.

    Raises:
        ValueError: The value does not fit; the message names the place.
    """
    result: T = _decode(kind, value, where)
    return result


def _decode(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - any annotation, any JSON
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in _UNIONS:
        inner = next(option for option in get_args(kind) if option is not type(None))
        return None if value is None else _decode(inner, value, where)
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin is tuple:
        return _tuple(get_args(kind), value, where)
    if origin in _OBJECTS:
        _require(isinstance(value, dict), where, "an object")
        return {str(key): _decode(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    return _scalar(kind, value, where)


def _tuple(kinds: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    _require(isinstance(value, (list, tuple)), where, "a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    _require(len(value) == len(kinds), where, f"a list of {len(kinds)}")
    return tuple(_decode(kind, item, f"{where}[{index}]") for index, (kind, item) in enumerate(zip(kinds, value)))


def _dataclass(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    _require(isinstance(value, dict), where, "an object")
    derived = getattr(kind, "DERIVED", ())
    value = {name: entry for name, entry in value.items() if name not in derived}
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise ValueError(f"{where} has an unknown entry {unknown[0]!r}")
    for name, item in known.items():
        if name not in value and item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{where}.{name} is missing")
    return kind(**{name: _decode(hints[name], entry, f"{where}.{name}") for name, entry in value.items()})


def _scalar(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return _float(value, where)
    is_number_as_flag = isinstance(value, bool) and kind is not bool
    _require(isinstance(value, kind) and not is_number_as_flag, where, kind.__name__)
    if kind is int and abs(value) > LARGEST_INTEGER:  # JSON integers are unbounded
        raise ValueError(f"{where} is too large a number")
    return value


def _float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError as error:  # JSON integers are unbounded
        raise ValueError(f"{where} is too large a number") from error


def _require(holds: bool, where: str, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{where} is not {wanted}")
