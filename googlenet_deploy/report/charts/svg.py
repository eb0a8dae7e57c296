"""A small writer of SVG."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

WIDTH = 410
# Of the charts' text, in units of the drawing: accurate enough to decide whether a label fits.
CHARACTER, WIDE = 6.9, 9.2


class Svg:
    """One drawing, of `WIDTH` by `height` units; it scales to the width available on the page.

    Args:
        height: Height in units.
        label: What the drawing shows, for screen readers.
        width: Width in units.
    """

    def __init__(self, height: float, label: str, width: float = WIDTH) -> None:
        self.width, self.height, self.label = width, height, label
        self.parts: list[str] = []

    def line(self, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
        """A straight line."""
        self.parts.append(
            f'<line class="{style}" x1="{_n(start[0])}" y1="{_n(start[1])}" x2="{_n(end[0])}" y2="{_n(end[1])}"/>'
        )

    def rectangle(
        self, corner: tuple[float, float], size: tuple[float, float], style: str, tip: str = "", radius: float = 1.5
    ) -> None:
        """A rectangle from its upper left corner; `tip` is its tooltip."""
        width, height = max(0.0, size[0]), max(0.0, size[1])
        self.parts.append(
            f'<rect class="{style}" x="{_n(corner[0])}" y="{_n(corner[1])}" width="{_n(width)}" '
            f'height="{_n(height)}" rx="{_n(min(radius, width / 2, height / 2))}">{_tip(tip)}</rect>'
        )

    def circle(self, centre: tuple[float, float], radius: float, style: str, tip: str = "") -> None:
        """A circle."""
        self.parts.append(
            f'<circle class="{style}" cx="{_n(centre[0])}" cy="{_n(centre[1])}" r="{_n(radius)}">{_tip(tip)}</circle>'
        )

    def path(self, points: list[tuple[float, float]], style: str, tip: str = "", *, closed: bool = False) -> None:
        """Straight lines through points."""
        steps = " ".join(f"{'M' if index == 0 else 'L'}{_n(x)} {_n(y)}" for index, (x, y) in enumerate(points))
        self.parts.append(f'<path class="{style}" d="{steps}{"Z" if closed else ""}">{_tip(tip)}</path>')

    def text(self, place: tuple[float, float], text: str, style: str = "", anchor: str = "start") -> None:
        """Text whose baseline starts, is centred or ends at a point."""
        names = f"t {style}".strip()
        self.parts.append(
            f'<text class="{names}" x="{_n(place[0])}" y="{_n(place[1])}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def render(self) -> str:
        """The element."""
        body = "".join(self.parts)
        return (
            f'<svg class="chart" viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="img" '
            f"aria-label={quoteattr(self.label)}>{body}</svg>"
        )


def shortened(text: str, units: float) -> str:
    """Text shortened in the middle to fit a width in units."""
    if text_width(text) <= units:
        return text
    room = max(4, int(units / CHARACTER))
    tail = (room - 1) * 2 // 3
    return f"{text[: room - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{text[-tail:]}"


def text_width(text: str) -> float:
    """Approximate width of a text, in units."""
    return sum(WIDE if character.isupper() or character in "_mwMW%@" else CHARACTER for character in text)


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


_STYLES = {"fp32": "c-fp32", "fp16": "c-fp16", "bf16": "c-fp16", "int8": "c-int8"}


def style_of(name: str) -> str:
    """The class of a precision's marks."""
    return _STYLES.get(name, "c-main")
