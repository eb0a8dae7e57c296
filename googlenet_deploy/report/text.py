"""Human-readable numbers and times."""

from __future__ import annotations

import math

from googlenet_deploy.device.text import counted

MINUS = "\N{MINUS SIGN}"
THIN = "\N{NARROW NO-BREAK SPACE}"


def number(value: float, digits: int = 3) -> str:
    """A number with N significant digits, without an exponent from a millionth to a billion.

    Negative numbers have a true minus sign; thousands are separated.
    """
    if math.isinf(value) or math.isnan(value):
        return "\N{INFINITY}" if value > 0 else f"{MINUS}\N{INFINITY}" if value < 0 else "not a number"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -6 <= magnitude < 9:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    places = max(0, digits - 1 - magnitude)
    return f"{value:,.{places}f}".replace(",", THIN).replace("-", MINUS)


def fixed(value: float, places: int = 1) -> str:
    """A number with a fixed number of decimals."""
    return f"{value:,.{places}f}".replace(",", THIN).replace("-", MINUS)


def plain(value: float) -> str:
    """A number without trailing zeros: ``7`` W, ``7.5`` W."""
    return f"{value:g}".replace("-", MINUS)


def signed(value: float, places: int = 1) -> str:
    """A difference: always with its sign."""
    text = fixed(abs(value), places)
    if float(f"{value:.{places}f}") == 0:
        return f"\N{PLUS-MINUS SIGN}{text}"
    return f"{'+' if value > 0 else MINUS}{text}"


def count(value: int) -> str:
    """A whole number with thousands separated."""
    return f"{value:,}".replace(",", THIN).replace("-", MINUS)


def size(value: float) -> str:
    """Bytes in decimal units."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{number(value / factor)}{THIN}{unit}"
    return f"{value:.0f}{THIN}bytes"


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds."""
    if seconds < 10:
        return f"{seconds:.1f}{THIN}s"
    if seconds < 90:
        return f"{seconds:.0f}{THIN}s"
    return f"{int(seconds // 60)}{THIN}min {int(seconds % 60)}{THIN}s"


def precision(name: str) -> str:
    """A precision as text: INT8."""
    return name.upper()


def plural(amount: int, word: str) -> str:
    """``1 image``, ``2 images``, with thousands separated."""
    return counted(amount, word).replace(str(amount), count(amount), 1)
