"""A drawing: marks of a kind at their places, written as SVG for a page or a file, or as PNG.

In a page the style sheet of the page gives marks their colours; a file has them as attributes, for
programs that know no style sheets, and those of the dark as a style sheet. Words from outside pass
through `printable` and the escaping of ElementTree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, SubElement, tostring

from vitrail.figures.palette import file_style, light, look
from vitrail.spelling import printable

Place = float | str  # px, or a share of the width as "12.5%"
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Shape:
    """An element: its tag, its kinds (`palette.KINDS`), its geometry, its text, and what is said
    when one points at it.
    """

    tag: str
    kind: str
    geometry: dict[str, str]
    content: str = ""
    hint: str = ""


@dataclass
class Svg:
    """width x height px, which scale with their place; 0 x 0 px: as large as the style sheet says.
    title: what a screen reader says. is_fixed: as wide in a page as it is drawn.
    """

    width: float
    height: float
    title: str
    kind: str = ""
    is_fixed: bool = False
    marks: list[Shape] = field(default_factory=list)

    def line(self, kind: str, x1: Place, y1: Place, x2: Place, y2: Place) -> None:
        """A straight line."""
        self._add("line", kind, {"x1": x1, "x2": x2, "y1": y1, "y2": y2})

    def rect(
        self,
        kind: str,
        x: Place,
        y: Place,
        width: Place,
        height: Place,
        *,
        opacity: float | None = None,
        hint: str = "",
    ) -> None:
        """A rectangle."""
        geometry = {"x": x, "y": y, "width": width, "height": height}
        if opacity is not None:
            geometry["fill-opacity"] = f"{opacity:.2f}"
        self._add("rect", kind, geometry, hint=hint)

    def circle(self, kind: str, x: Place, y: Place, radius: float) -> None:
        """A disc or a ring."""
        self._add("circle", kind, {"cx": x, "cy": y, "r": radius})

    def path(self, kind: str, points: Points, *, is_area: bool = False) -> None:
        """A line through points, or the area that they surround."""
        text = " ".join(f"{_text(x)},{_text(y)}" for x, y in points)
        self._add("polygon" if is_area else "polyline", kind, {"points": text})

    def text(self, kind: str, x: Place, y: Place, content: str, *, turn: float = 0) -> None:
        """A line of text on its baseline, turned by `turn` degrees around its place."""
        geometry = {"x": x, "y": y}
        if turn:
            geometry["transform"] = f"rotate({_text(turn)} {_text(x)} {_text(y)})"
        self._add("text", kind, geometry, printable(content))

    def _add(
        self, tag: str, kind: str, geometry: dict[str, Place], content: str = "", hint: str = ""
    ) -> None:
        own = {key: _text(value) for key, value in geometry.items()}
        self.marks.append(Shape(tag, kind, own, content, printable(hint)))

    def __html__(self) -> str:
        """The element as a part of a page."""
        root = self._root()
        if self.is_fixed:
            root.set("width", _text(self.width))
        for mark in self.marks:
            _append(root, mark, {})
        return tostring(root, encoding="unicode")

    def file(self) -> str:
        """A whole SVG document on a ground of its own."""
        root = self._root()
        size = {"width": _text(self.width), "height": _text(self.height)}
        for key, value in {"xmlns": "http://www.w3.org/2000/svg", **size}.items():
            root.set(key, value)
        SubElement(root, "style").text = file_style()
        ground = Shape("rect", "ground", {"x": "0", "y": "0", **size})
        for mark in (ground, *self.marks):
            _append(root, mark, light(look(mark.tag, mark.kind)))
        return tostring(root, encoding="unicode") + "\n"

    def _root(self) -> Element:
        box = f"0 0 {_text(self.width)} {_text(self.height)}"
        kind = {"class": self.kind} if self.kind else {}
        shape = {"viewBox": box} if self.width else {}
        label = {"role": "img", "aria-label": printable(self.title)}
        return Element("svg", {**kind, **shape, **label})


def _append(root: Element, mark: Shape, properties: dict[str, str]) -> None:
    kind = {"class": mark.kind} if mark.kind else {}
    element = SubElement(root, mark.tag, {**kind, **properties, **mark.geometry})
    if mark.hint:
        SubElement(element, "title").text = mark.hint
    elif mark.content:
        element.text = mark.content


def _text(value: Place) -> str:
    return value if isinstance(value, str) else f"{round(value, 1):g}"
