"""One explanation of one image: a map of the image's size, the numbers behind it, and files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitrail.data.images.preprocess import Preprocess
from vitrail.data.images.rgb import Pixels
from vitrail.errors import UsageError
from vitrail.explain import overlay
from vitrail.explain.methods.maps import Array, Layer
from vitrail.explain.placing import numbers_on_image, on_input, to_image
from vitrail.explain.sheet import Column, ends_of, sheet
from vitrail.files import whole_file
from vitrail.notebook import image, show
from vitrail.spelling import printable

SUFFIXES = (".png", ".npz")


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `Classifier.explain` gives.

    map: (H, W), the image's own size; 0 where preprocessing crops the image. grid: the values
    themselves, (h, w) by patch or cell, or by pixel of the model's input. layers: grids (h, w) by
    layer, where the method has them. target and label: the class explained, None and "" for methods
    without one. top: (label, score) of the best classes. facts: settings as resolved, and measures.
    matrix: (P, P), what each patch takes from each patch; see `tokens`. area: px of the input that
    the model sees, where that is not all; the whole input's of a model of variable resolution.
    groups: (h, w), the number of the token that each patch was merged into, where tokens are.
    """

    source: str
    method: str
    picture: Pixels
    preprocess: Preprocess
    map: Array
    grid: Array
    layers: Mapping[Layer, Array] = field(default_factory=dict)
    target: int | None = None
    label: str = ""
    top: tuple[tuple[str, float], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    matrix: Array | None = None
    area: tuple[int, int] = (0, 0)
    groups: Array | None = None

    def tokens(self, row: int, column: int) -> Array:
        """What the token of the patch at (row, column) attends to, (h, w): its own row of the
        attention, rollout or relevance. Raises UsageError VIT-275 where there is none.
        """
        if self.matrix is None:
            raise UsageError(
                "VIT-275",
                f"{self.method} has no values from token to token.",
                hint="Methods that have: attention (of a block), rollout, relevance.",
            )
        h, w = self.grid.shape
        if not (0 <= row < h and 0 <= column < w):
            raise UsageError(
                "VIT-275",
                f"token {row},{column}: expected ROW,COLUMN of {h} x {w} patches, counted from 0.",
                hint=f"The last one is {h - 1},{w - 1}.",
            )
        values: Array = self.matrix[row * w + column].reshape(h, w)
        return values

    @property
    def is_signed(self) -> bool:
        """Whether values below 0 speak against the class."""
        return bool(self.grid.min() < 0)

    def overlay(self, style: str = "heat") -> Image.Image:
        """The image with its map as a Pillow image; merged tokens in their mean colours, with lines
        around them. style: "heat" (colours), or "spotlight": the paper's Figure 6, black where the
        model does not look. Raises UsageError VIT-278.
        """
        overlay.check_style(style)
        if self.groups is not None:
            return overlay.grouped(self.picture, self._placed_groups(self.groups))
        if style == "heat":
            return overlay.heat(self.picture, self.map, float(self.grid.min()))
        variable = self.preprocess.is_variable
        size = self.area if variable else (self.preprocess.height, self.preprocess.width)
        area = size if self.grid.shape == size or not min(self.area) else self.area
        values = on_input(overlay.spotlight_values(self.grid, area), area, size)
        placed = to_image(values, self.preprocess, self.picture.shape[:2])
        return overlay.spotlight(self.picture, placed)

    def _placed_groups(self, groups: Array) -> Array:
        """(H, W): the token of each pixel of the image, -1 where it is cropped away."""
        size = (self.preprocess.height, self.preprocess.width)
        area = self.area if min(self.area) else size
        return numbers_on_image(groups, area, self.preprocess, self.picture.shape[:2])

    @property
    def said(self) -> list[str]:
        """What the model answers, a line each: the image's name, the best three classes, and the
        class explained where it is another one.
        """
        best = [f"{label} {score:.1%}" for label, score in self.top[:3]]
        other = self.label if self.label and self.label != (self.top or (("", 0.0),))[0][0] else ""
        lines = [self.source, *best, f"explained: {other}" if other else ""]
        return [printable(line) for line in lines if line]

    def column(self, style: str = "heat") -> Column:
        """What this method shows, for a sheet (`explain/sheet.py`)."""
        low, high = ends_of(self.map, float(self.grid.min()))
        of = f" of {printable(self.label)}" if self.label else ""
        return Column(f"{self.method}{of}", self.overlay(style), self.map, low, high)

    def sheet(self) -> Image.Image:
        """Image, overlay, map and scale side by side, with the classes, as a Pillow image."""
        return sheet(self.picture, self.said, [self.column()])

    def show(self) -> None:
        """Show the sheet in the notebook; elsewhere print what the model answers and how the map is
        written: `save`.
        """
        h, w = self.grid.shape
        answers = [("answer" if not n else "", one) for n, one in enumerate(self.said)]
        rows = [*answers, ("method", f"{self.method}, {h} x {w} values")]
        show(self, [*rows, ("to see it", 'save("map.png"), or sheet(), a Pillow image')])

    def __repr__(self) -> str:
        h, w = self.grid.shape
        best = f"{self.top[0][0]} {self.top[0][1]:.3f}" if self.top else "no classes"
        of = f" of {self.label}" if self.label else ""
        return f"Explanation({self.method}{of}, {h} x {w} values, {best}, {self.source})"

    def _repr_html_(self) -> str:
        stream = io.BytesIO()
        self.sheet().save(stream, "PNG")
        return image(stream.getvalue(), "png", f"{self!r}")

    def save(self, path: str | Path, *, style: str = "heat", replace: bool = False) -> Path:
        """Write the overlay (.png) or the numbers (.npz: map, grid, layers, matrix, facts).

        Raises UsageError VIT-206 where the file exists (unless `replace`), VIT-278 for another
        ending or style.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise UsageError(
                "VIT-278",
                f"{path}: expected a name ending in .png (overlay) or .npz (numbers).",
                hint=f"For instance {path.with_suffix('.png')}",
            )
        overlay.check_style(style)
        with whole_file(path, replace=replace) as temporary, temporary.open("wb") as stream:
            if suffix == ".png":
                self.overlay(style).save(stream, "PNG")
            else:
                np.savez_compressed(stream, **self.arrays())
        return path

    def arrays(self) -> dict[str, Any]:
        """What `.npz` holds; groups of merged tokens; facts as JSON text, layers as layer_NAME."""
        found: dict[str, Any] = {"map": self.map, "grid": self.grid}
        found |= {f"layer_{name}": values for name, values in self.layers.items()}
        if self.matrix is not None:
            found["matrix"] = self.matrix
        if self.groups is not None:
            found["groups"] = self.groups
        return found | {"facts": np.array(json.dumps(self.to_json()))}

    def to_json(self) -> dict[str, Any]:
        """Plain facts: source, method, target, label, top, grid size, settings."""
        return {
            "source": self.source,
            "method": self.method,
            "target": self.target,
            "label": self.label,
            "top": [{"label": label, "score": score} for label, score in self.top],
            "grid": list(self.grid.shape),
            "facts": dict(self.facts),
        }
