"""Where every number of a model that was read came from, and how that is said.

What a file does not say is certain from the row of a published model, stated by the user, or
assumed; what none of these tells is asked for. Each is a `Fact`, which `convert`, `predict` and the
other verbs print as one line, and `--json` as one object:

    certain  num_heads 12 (row of vit_base_patch16_224)
    stated   num_heads 12
    assumed  gelu gelu: as timm's own models (--set gelu=...)
    unknown  num_heads, one of 1, 2, 3, 4, 6 (--set num_heads=...)
    file     width 192 (shapes)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from vitrail.data.images.preprocess import Preprocess
from vitrail.models.names import ModelConfig

if TYPE_CHECKING:  # an export answers without torch
    from vitrail.checkpoints.mapping.rules import Header

Source = Literal["file", "row", "stated", "assumed", "unknown"]
WORDS: dict[Source, str] = {
    "file": "file",
    "row": "certain",
    "stated": "stated",
    "assumed": "assumed",
    "unknown": "unknown",
}
GIVEN = "given"  # Header.metadata: values of fields that come from elsewhere than the shapes
SAID = "said"  # Header.metadata: for fields of GIVEN, their Said; the user's where it is absent
# Printed of every model, in this order; fields of one family only where the model has them.
FIELDS = tuple(
    """
    image_size patch_size channels width depth num_heads mlp_dim depths width_factor
    num_classes pool posemb gelu ln_eps
    """.split()
)


@dataclass(frozen=True)
class Said:
    """Who says a value. where: "config.json", "row of vit_s16", a reason."""

    source: Source
    where: str = ""


@dataclass(frozen=True)
class Fact:
    """One number or choice of a model. field: as `--set` takes it, or a word ("block"); where: as
    of `Said`; possible: values that would fit, where it is unknown; option: how to state another
    value, "" where that cannot be done.
    """

    field: str
    value: Any
    source: Source
    where: str = ""
    possible: tuple[Any, ...] = ()
    option: str = ""

    @property
    def word(self) -> str:
        """The first word of its line."""
        return WORDS[self.source]

    def text(self) -> str:
        """The rest of its line."""
        if self.source == "unknown":
            choices = ", ".join(map(shown, self.possible))
            return f"{self.field}" + (f", one of {choices}" if choices else "") + self._way()
        said = f"{self.field} {shown(self.value)}"
        if self.source == "assumed":
            return said + (f": {self.where}" if self.where else "") + self._way()
        return said + (f" ({self.where})" if self.where else "")

    def _way(self) -> str:
        return f" ({self.option})" if self.option else ""

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        return {
            "field": self.field,
            "value": value,
            "source": self.source,
            "where": self.where,
            "possible": list(self.possible),
            "option": self.option,
        }


def with_given(header: Header, values: Mapping[str, Any], said: Said) -> Header:
    """The header with values of fields that come from elsewhere than the shapes; a value that is
    there already stays.
    """
    have: Mapping[str, Any] = header.metadata.get(GIVEN, {})
    new = {field: value for field, value in values.items() if field not in have}
    who = {**dict.fromkeys(new, said), **header.metadata.get(SAID, {})}
    return replace(header, metadata={**header.metadata, GIVEN: {**new, **have}, SAID: who})


def facts_of(
    header: Header, config: ModelConfig, said: Mapping[str, Said] | None = None
) -> tuple[Fact, ...]:
    """Every number of the architecture with its source: first what was given, then as `said` has
    it by field; all others are in the file's shapes.
    """
    sources = {**(said or {}), **sources_of(header)}
    names = [name for name in dict.fromkeys((*FIELDS, *sources)) if hasattr(config, name)]
    return tuple(
        fact(name, getattr(config, name), sources.get(name, Said("file", "shapes")))
        for name in names
    )


def sources_of(header: Header) -> dict[str, Said]:
    """Who says the fields that come from elsewhere than the shapes."""
    who: Mapping[str, Said] = header.metadata.get(SAID, {})
    return {field: who.get(field, Said("stated")) for field in header.metadata.get(GIVEN, {})}


def assumed(why: str, *fields: str) -> dict[str, Said]:
    """These fields, assumed for one reason."""
    return dict.fromkeys(fields, Said("assumed", why))


def fact(field: str, value: Any, said: Said) -> Fact:
    """A field of the architecture, which `--set` can change."""
    return Fact(field, value, said.source, said.where, option=f"--set {field}=...")


def unknown(field: str, possible: Iterable[Any] = ()) -> Fact:
    """A field that nothing tells."""
    return Fact(field, None, "unknown", "", tuple(possible), f"--set {field}=...")


def prepared(preprocess: Preprocess, said: Said) -> Fact:
    """How images are prepared, with its numbers."""
    return Fact("preprocess", described(preprocess), said.source, said.where)


def described(preprocess: Preprocess) -> str:
    """A preprocessing in one line."""
    p = preprocess
    if p.is_variable:
        return f"own aspect ratio, {p.max_patches} patches at most, {p.interpolation}, {_scaled(p)}"
    resize = p.resize if isinstance(p.resize, int) else f"{p.resize[0]} x {p.resize[1]}"
    crop = "no crop" if p.crop == "none" else f"{p.crop} crop {p.height} x {p.width}"
    by = "" if p.resizer == "pillow" else f" by {p.resizer}"
    return f"resize {resize} {p.interpolation}{by}, {crop}, {_scaled(p)}"


def _scaled(p: Preprocess) -> str:
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (p.mean, p.std))
    return f"mean {mean}, std {std}"


def elsewhere(facts: Iterable[Fact]) -> list[Fact]:
    """What the file itself does not say."""
    return [item for item in facts if item.source != "file"]


def fact_rows(facts: Iterable[Fact]) -> list[tuple[str, str]]:
    """A row for each that the file does not say, and one for each part of the file that says
    others.
    """
    parts: dict[str, list[str]] = {}
    rows = []
    for fact in facts:
        if fact.source == "file" and fact.field != "preprocess":
            parts.setdefault(fact.where, []).append(fact.text().removesuffix(f" ({fact.where})"))
        else:
            rows.append((fact.word, fact.text()))
    return [*(("file", f"{', '.join(said)} ({where})") for where, said in parts.items()), *rows]


def shown(value: Any) -> str:
    """A value as `--set` takes it: 32x48, 1e-06, gelu."""
    if isinstance(value, tuple | list):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
