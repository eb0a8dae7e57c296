"""Options declared once: dataclass fields with their help text, range and command-line syntax.

A command adds them with `add_options` and reads them back with `read_options`, or with `given_options`, which has only
the given values, so that a configuration file, defaults and the command line can be distinguished. `check_options`,
called by the dataclass itself, checks values from every source against the declared range, with the same message.
`option_words` writes the command line that sets the same values again.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
    get_type_hints,
)

from googlenet_deploy.errors import UsageError

# Titles of the groups of ``--help``, in the one order that every command has them in.
GROUPS = (
    *("source", "content", "for a file", "for --model and --weights", "details"),
    *("images", "network", "optimisation", "distillation", "pruning", "quantisation-aware training"),
    *("objective", "candidates", "search"),
    *("layers to quantise", "calibration", "TensorRT calibration cache", "refinement", "mixed precision"),
    *("format", "graph", "precision", "shape, memory and speed of the build", "where the engine runs"),
    *("serving", "measuring", "power", "running", "engines", "preprocessing"),
    *("for Triton", "for DeepStream"),
    *("check", "gates", "verification and report", "report"),
)
_KEY = "option"
_Options = TypeVar("_Options")


@dataclass(frozen=True)
class OptionSpec:
    """How a field appears on the command line, and which values it accepts.

    Attributes:
        help: One sentence; the default is appended unless `shown_default` is empty.
        group: Heading in ``--help``; "" is the command's own list.
        flag: Its name on the command line; by default the field's, and ``--no-NAME`` for a switch that is on.
        metavar: Placeholder for the value in ``--help``.
        choices: Allowed values; empty for any.
        least: Smallest allowed number.
        above: Number that the value must exceed.
        most: Largest allowed number.
        below: Number that the value must not reach.
        parse: Converts the text on the command line; by default according to the field's type.
        shown_default: The default as ``--help`` shows it; None shows the value itself.
        repeated: The option may be given several times; each adds one element to the field's tuple or frozenset.
    """

    help: str
    group: str = ""
    flag: str = ""
    metavar: str = ""
    choices: Tuple[str, ...] = ()
    least: Optional[float] = None
    above: Optional[float] = None
    most: Optional[float] = None
    below: Optional[float] = None
    parse: Optional[Callable[[str], Any]] = None
    shown_default: Optional[str] = None
    repeated: bool = False


def option(default: Any, help: str, **spec: Any) -> Any:  # noqa: A002, ANN401 - as dataclasses.field and argparse
    """A dataclass field that is also an option; see `OptionSpec` for the keywords.

    Args:
        default: The field's default; a callable makes a new one for each instance.
        help: One sentence for ``--help``.
        spec: Further attributes of `OptionSpec`.
    """
    metadata = {_KEY: OptionSpec(help, **spec)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def declared(options: Any) -> Iterator[Tuple[Field[Any], OptionSpec]]:  # noqa: ANN401 - a dataclass or an instance
    """The fields that are options, in order."""
    for item in fields(options):
        if _KEY in item.metadata:
            yield item, item.metadata[_KEY]


def flag_of(options: Any, name: str) -> str:  # noqa: ANN401 - a dataclass or an instance
    """The option's name on the command line: ``--learning-rate``, or ``--no-tf32`` for a switch that is on."""
    item, spec = next(pair for pair in declared(options) if pair[0].name == name)
    return _flag(item, spec)


def add_options(
    parser: argparse.ArgumentParser, options: type, *, leave_out: Sequence[str] = (), prefix: str = ""
) -> None:
    """Adds the options that a dataclass declares, in groups as it declares them.

    Args:
        parser: The parser; groups with the same title are shared.
        options: The dataclass.
        leave_out: Fields that this command does not offer.
        prefix: Prefix of each name in the namespace, if two dataclasses have fields of the same name.
    """
    kinds = get_type_hints(options)
    for item, spec in declared(options):
        if item.name not in leave_out:
            target = option_group(parser, spec.group) if spec.group else parser
            target.add_argument(_flag(item, spec), dest=prefix + item.name, **_keywords(item, spec, kinds[item.name]))


def option_group(parser: argparse.ArgumentParser, title: str) -> argparse._ArgumentGroup:
    """The parser's group of this title, added if missing."""
    for group in parser._action_groups:
        if group.title == title:
            return group
    return parser.add_argument_group(title)


def sort_groups(parser: argparse.ArgumentParser) -> None:
    """Puts the groups of ``--help`` into the order of `GROUPS`, after the positional arguments and general options."""
    places = {title: place for place, title in enumerate(GROUPS)}
    parser._action_groups.sort(key=lambda group: places.get(group.title or "", -1))


def given_options(arguments: argparse.Namespace, options: type, *, prefix: str = "") -> Dict[str, Any]:
    """The values that were given on the command line, by field name."""
    names = [item.name for item, _ in declared(options)]
    return {name: getattr(arguments, prefix + name) for name in names if hasattr(arguments, prefix + name)}


def read_options(
    arguments: argparse.Namespace,
    options: Type[_Options],
    *,
    prefix: str = "",
    **others: Any,  # noqa: ANN401
) -> _Options:
    """Makes the dataclass from the given values; `others` are fields from other sources.

    Raises:
        UsageError: A value is out of range.
    """
    return options(**{**given_options(arguments, options, prefix=prefix), **others})


def refuse_given(
    arguments: argparse.Namespace, options: type, why: str, *, prefix: str = "", only: Sequence[str] = ()
) -> None:
    """Rejects options that would have no effect, instead of ignoring them silently.

    Args:
        arguments: The command line.
        options: The dataclass that declares them.
        why: Ends the sentence that begins with the option.
        prefix: Of `add_options`.
        only: The fields that are rejected; if empty, all.

    Raises:
        UsageError: One of them was given.
    """
    for name in given_options(arguments, options, prefix=prefix):
        if only and name not in only:
            continue
        raise UsageError(f"{flag_of(options, name)} {why}")


def check_options(options: Any) -> None:  # noqa: ANN401 - any dataclass
    """Checks every value against its declared range; None, if a field allows it, is always in range.

    Raises:
        UsageError: A value is out of range; the message begins with the option's name.
    """
    for item, spec in declared(options):
        value = getattr(options, item.name)
        if value is not None and spec.choices and value not in spec.choices:
            raise UsageError(f"{_flag(item, spec)} is {value!r}, must be one of {', '.join(spec.choices)}")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not _in_range(number, spec):
                raise UsageError(f"{_flag(item, spec)} must be {_range_text(spec)}, is {number:g}")


def option_words(options: Any, *, leave_out: Sequence[str] = ()) -> List[str]:  # noqa: ANN401 - any dataclass
    """The words of a command line that sets these values again; values equal to the default are left out."""
    words: List[str] = []
    for item, spec in declared(options):
        value = getattr(options, item.name)
        if item.name in leave_out or value == default_of(item):
            continue
        flag = _flag(item, spec)
        if isinstance(value, bool):
            words.append(flag)
        elif isinstance(value, Mapping):
            words += [word for name, limit in value.items() for word in (flag, f"{name}={limit:g}")]
        elif spec.repeated:
            words += [word for part in value for word in (flag, _item_text(part))]
        elif isinstance(value, (tuple, list, frozenset)):
            words += [flag, ",".join(_item_text(part) for part in value)]
        else:
            words += [flag, str(value)]
    return words


def _item_text(part: object) -> str:
    """One element of a list; a pair such as a compute capability is written with a point."""
    return ".".join(map(str, part)) if isinstance(part, tuple) else str(part)


def default_of(item: Field[Any]) -> Any:  # noqa: ANN401 - whatever the field holds
    """A field's default value; `dataclasses.MISSING` if it must be given."""
    return item.default_factory() if item.default_factory is not MISSING else item.default


def named_number(text: str) -> Tuple[str, float]:
    """``NAME=VALUE`` for options such as --require, for argparse."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.strip(), float(value)


def words(text: str) -> Tuple[str, ...]:
    """The parts between commas, without blanks; empty parts are left out."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def on_off(text: str) -> bool:
    """``on`` or ``off``, for argparse."""
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{text!r} is not on or off")
    return text == "on"


def auto_on_off(text: str) -> Optional[bool]:
    """``auto``, which is None, ``on`` or ``off``, for argparse."""
    if text not in ("auto", "on", "off"):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, on or off")
    return None if text == "auto" else text == "on"


def whole_numbers(text: str) -> Tuple[int, ...]:
    """Comma-separated whole numbers."""
    return tuple(int(part) for part in text.split(","))


class _Named(argparse.Action):
    """Collects NAME=VALUE of a repeated option into one mapping."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,  # noqa: ANN401 - as argparse declares it
        option_string: Optional[str] = None,
    ) -> None:
        del parser
        given = getattr(namespace, self.dest, {})
        if values[0] in given:
            raise UsageError(f"{option_string}: each name may be given once, and {values[0]} was given twice")
        setattr(namespace, self.dest, {**given, values[0]: values[1]})


class _Gathered(argparse.Action):
    """Collects the values of a repeated option."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,  # noqa: ANN401 - as argparse declares it
        option_string: Optional[str] = None,
    ) -> None:
        del parser, option_string
        setattr(namespace, self.dest, (*getattr(namespace, self.dest, ()), values))


def _flag(item: Field[Any], spec: OptionSpec) -> str:
    dashed = item.name.replace("_", "-")
    return spec.flag or (f"--no-{dashed}" if item.default is True else f"--{dashed}")


def _keywords(item: Field[Any], spec: OptionSpec, kind: Any) -> Dict[str, Any]:  # noqa: ANN401 - a type
    plain = _without_none(kind)
    shared: Dict[str, Any] = {"default": argparse.SUPPRESS, "help": _help(item, spec)}
    if plain is bool and spec.parse is None:
        return {**shared, "action": "store_false" if item.default is True else "store_true"}
    shared["metavar"] = spec.metavar or (f"{{{','.join(spec.choices)}}}" if spec.choices else None)
    if _is_mapping(plain):
        return {**shared, "type": named_number, "action": _Named}
    if spec.repeated:
        return {**shared, "type": spec.parse or _item_kind(plain), "action": _Gathered}
    return {**shared, "type": spec.parse or _parser_of(plain)}


def _parser_of(kind: Any) -> Callable[[str], Any]:  # noqa: ANN401 - a type
    parsers: Dict[Any, Callable[[str], Any]] = {int: int, float: float, str: str}
    if kind in parsers:
        return parsers[kind]
    return whole_numbers if _item_kind(kind) is int else words


def _item_kind(kind: Any) -> Any:  # noqa: ANN401 - a type
    return (getattr(kind, "__args__", None) or (str,))[0]


def _is_mapping(kind: Any) -> bool:  # noqa: ANN401 - a type
    origin = getattr(kind, "__origin__", None)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _without_none(kind: Any) -> Any:  # noqa: ANN401 - a type
    """``int`` of ``Optional[int]`` and of ``int | None``."""
    arguments = getattr(kind, "__args__", ())
    union = getattr(kind, "__origin__", None) is Union or type(kind).__name__ == "UnionType"
    left = [argument for argument in arguments if argument is not type(None)]
    return left[0] if union and len(left) == 1 else kind


def _help(item: Field[Any], spec: OptionSpec) -> str:
    default = default_of(item)
    shown = spec.shown_default
    if shown is None:
        plain = default not in (None, MISSING, "") and not isinstance(default, (bool, Mapping)) and default != ()
        shown = (",".join(map(str, default)) if isinstance(default, tuple) else f"{default}") if plain else ""
    text = f"{spec.help} (default {shown})" if shown else spec.help
    return text.replace("%", "%%")


def _in_range(value: float, spec: OptionSpec) -> bool:
    limits = (
        spec.least is None or value >= spec.least,
        spec.above is None or value > spec.above,
        spec.most is None or value <= spec.most,
        spec.below is None or value < spec.below,
    )
    bounded = (spec.least, spec.above, spec.most, spec.below) != (None,) * 4
    return all(limits) and (math.isfinite(value) or not bounded)


def _range_text(spec: OptionSpec) -> str:
    if spec.least is not None and spec.most is not None:
        return f"from {spec.least:g} to {spec.most:g}"
    limits = (("at least", spec.least), ("above", spec.above), ("at most", spec.most), ("below", spec.below))
    parts = [f"{bound} {limit:g}" for bound, limit in limits if limit is not None]
    return " and ".join(parts)
