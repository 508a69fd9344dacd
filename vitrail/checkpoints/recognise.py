"""Which model a file holds: every origin is asked about the file and about each part of it.

The part that leaves least over is the model; the whole file comes first, and of two parts that are
a model each, as a student and its teacher, one is taken only by a rule that is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from vitrail.checkpoints.mapping.head_beside import head_beside, joined_with, with_head
from vitrail.checkpoints.mapping.origin import Origin, Recognised
from vitrail.checkpoints.mapping.rules import Header, ignored
from vitrail.checkpoints.mapping.tensor_tables import TABLE, is_named, no_table
from vitrail.checkpoints.mapping.unsupported import why_unknown
from vitrail.checkpoints.mapping.wrappers import View, left_beside, views
from vitrail.checkpoints.origins.registry import ORIGINS
from vitrail.errors import ModelError, UsageError, VitrailError, nearest
from vitrail.spelling import count

FAULTS = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
# Of two models side by side, the one that their authors evaluate.
PREFERRED = (("teacher", "student"), ("base_encoder", "momentum_encoder"))
TOWER = re.compile(r"(|.*\.)visual\.(trunk\.)?")  # the image tower of OpenCLIP


class Match(NamedTuple):
    """A recognised model. left_out: names outside the view and why; unknown: those that nobody
    knows; others: prefixes of models beside it that were not taken; head: names of the classifier
    that stood beside it.
    """

    view: View
    found: Recognised
    origin: str
    left_out: dict[str, str]
    unknown: tuple[str, ...]
    others: tuple[str, ...] = ()
    head: tuple[str, ...] = ()

    @property
    def num_open(self) -> int:
        """How many tensors of either side have no place."""
        known = {name for rule in self.found.rules for name in rule.theirs}
        missing = [rule for rule in self.found.rules if not self._has(rule.theirs)]
        return len(set(self.view.header.shapes) - known) + len(self.unknown) + len(missing)

    def _has(self, names: Sequence[str]) -> bool:
        return all(name in self.view.header.shapes for name in names)


def recognise(header: Header, wanted: str | None) -> Match:
    """What the file holds. Raises ModelError VIT-418, VIT-422, VIT-427."""
    if wanted is not None and wanted not in ORIGINS:
        raise UsageError("VIT-202", f"unknown origin {wanted!r}. {nearest(wanted, ORIGINS)}")
    origins = (ORIGINS[wanted],) if wanted else tuple(ORIGINS.values())
    matches: list[Match] = []
    errors: list[ModelError] = []
    for view in views(header):
        try:
            match = _match(view, origins, header)
        except ModelError as error:
            errors += [] if matches else [error]  # below a model that fits there is no other
            continue
        if match is not None:
            matches.append(match)
            if not match.num_open:
                break
    if not matches:
        raise errors[0] if errors else _unknown(header, wanted)
    if errors and all(match.num_open for match in matches):
        raise errors[0]  # what is nearly right below a model that is refused
    return _chosen(header, matches)


def _match(view: View, origins: Sequence[Origin], whole: Header) -> Match | None:
    """The first origin that knows the view. whole: of the file. Raises ModelError VIT-418 and what
    origins raise.
    """
    for origin in origins:
        found = ask(origin, view.header)
        if found is None:
            continue
        tower = TOWER.fullmatch(view.prefix)
        known = {name for rule in found.rules for name in rule.theirs}
        inner = left_beside(name for name in view.header.shapes if name not in known)
        outer = left_beside(view.beside, tower[1] if tower else None)
        rules = [*found.rules, *(ignored(name, reason) for name, reason in inner.items())]
        unknown = tuple(name for name in view.beside if name not in outer)
        match = Match(view, replace(found, rules=rules), origin.name, outer, unknown)
        return _with_head(match, origin, whole)
    return None


def _with_head(match: Match, origin: Origin, whole: Header) -> Match:
    """The match with the classifier that lies beside it, where it has none of its own and one
    Linear stands there.
    """
    layer = head_beside(match.view, match.unknown, whole) if match.unknown else ""
    if not layer or match.found.config.num_classes:
        return match
    view = with_head(match.view, layer, origin, whole)
    asked = ask(origin, view.header) if view else None
    if view is None or asked is None:
        return match
    found = joined_with(asked, match.found, view.header, whole)
    if found is None:
        return match
    known = {name for rule in found.rules for name in rule.theirs}
    inner = [rule for rule in match.found.rules if not rule.ours and rule.theirs[0] not in known]
    own = (f"{layer}.weight", f"{layer}.bias")
    unknown = tuple(name for name in match.unknown if name not in own)
    found = replace(found, rules=[*found.rules, *inner])
    return match._replace(view=view, found=found, unknown=unknown, head=own)


def ask(origin: Origin, header: Header) -> Recognised | None:
    """What the origin says; a header that no library writes may trip it in any way."""
    try:
        return origin.recognise(header)
    except VitrailError:
        raise
    except FAULTS as error:
        raise ModelError(
            "VIT-418",
            f"{header.name} cannot be understood as a file of {origin.name}: {str(error)[:200]}",
            hint="The file is damaged, or of a kind of model that is not supported.",
        ) from error


def _chosen(header: Header, matches: Sequence[Match]) -> Match:
    """The match that leaves least over. Raises ModelError VIT-427 where two models stand side by
    side and no rule says which is meant.
    """
    best = min(matches, key=lambda match: match.num_open)
    table = header.metadata.get(TABLE, "")
    is_inside = table and is_named(header.metadata.get("torch", {}).get("wrapped") or "", table)
    beside = [
        match
        for match in matches
        if match is not best
        and not match.view.prefix.startswith(best.view.prefix)
        and not best.view.prefix.startswith(match.view.prefix)
    ]
    every = [best, *beside]
    if table and not is_inside:
        named = [match for match in every if is_named(match.view.prefix, table)]
        if not named:
            raise no_table(header, table, [match.view.prefix for match in every])
        return _taken(named[0], every)
    if not beside:
        return best
    taken = next((found for pair in PREFERRED for found in every if _is(found, pair[0])), None)
    if taken is None or len([match for match in every if _is(match, _word(taken))]) > 1:
        raise ModelError(
            "VIT-427",
            f"{header.name} holds {len(every)} models side by side: "
            f"{', '.join(match.view.prefix for match in every)}.",
            hint="Name the one that is meant: --table NAME",
        )
    return _taken(taken, every)


def _taken(taken: Match, every: Sequence[Match]) -> Match:
    """The match, with the tensors of the others left out."""
    others = tuple(match.view.prefix for match in every if match is not taken)
    copies = {
        name: f"of the other model {other}"
        for other in others
        for name in taken.unknown
        if name.startswith(other)
    }
    heads = {name for match in every if match is not taken for name in match.head}
    copies |= {name: "of the other model" for name in taken.unknown if name in heads}
    unknown = tuple(name for name in taken.unknown if name not in copies)
    return taken._replace(left_out=taken.left_out | copies, unknown=unknown, others=others)


def _word(match: Match) -> str:
    return next(word for word, _ in PREFERRED if _is(match, word))


def _is(match: Match, word: str) -> bool:
    return word in match.view.prefix.split(".")


def _unknown(header: Header, wanted: str | None) -> ModelError:
    parts = why_unknown(header)
    if parts:
        hint = "Models with these are not supported."
    else:
        hint = "Vision Transformers, hybrids and BiT-ResNets can be read."
    some = ", ".join(f"{name[:60]} {shape}" for name, shape in list(header.shapes.items())[:3])
    return ModelError(
        "VIT-422",
        f"{header.name} is no image model of {wanted or ', '.join(ORIGINS)}; its "
        f"{count(len(header.shapes), 'tensor')} begin with {some}."
        + (f" It has {parts}." if parts else ""),
        hint=hint,
    )
