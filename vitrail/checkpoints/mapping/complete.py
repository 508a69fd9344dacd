"""Every tensor of both sides must find its place; what may be left out has a name for it.

A tensor that is neither read nor known may change what the model computes, so that it is never left
out, whatever is asked for. `--allow-unused` leaves out heads that are none of this model: those of
a model whose own head is not read, and auxiliary ones.
"""

from __future__ import annotations

import re

from vitrail.checkpoints.mapping.head_beside import HEAD_WORDS
from vitrail.checkpoints.mapping.rules import Header, MappingReport, listed
from vitrail.checkpoints.mapping.unsupported import part_of
from vitrail.errors import ModelError

AUXILIARY = re.compile(r"(.*\.)?aux\w*(\.\w+)*")
HEADS = re.compile(rf"(.*\.)?({HEAD_WORDS})(\.\w+)*")


def head_kind(name: str, *, has_head: bool) -> str:
    """Which head a tensor of this name belongs to, "" where it is none that may be left out."""
    if AUXILIARY.fullmatch(name):
        return "an auxiliary head"
    return "a head, to be replaced" if HEADS.fullmatch(name) and not has_head else ""


def check_complete(
    header: Header, origin: str, report: MappingReport, *, allow_unused: bool, has_head: bool
) -> None:
    """Move what may be left out to `left_out`; raise ModelError VIT-424 for what has no place.

    has_head: whether the model that was read has one.
    """
    heads = {name: kind for name in report.unused if (kind := head_kind(name, has_head=has_head))}
    if allow_unused:
        report.left_out += heads.items()
        report.unused = [name for name in report.unused if name not in heads]
    if report.missing or report.unused:
        raise _incomplete(header, origin, report, heads)


def _incomplete(
    header: Header, origin: str, report: MappingReport, heads: dict[str, str]
) -> ModelError:
    lines = [f"{header.name}, read as {origin}, does not fit the model:"]
    if report.missing:
        lines.append(f"  missing for the model: {listed(sorted(report.missing))}")
    kinds: dict[str, list[str]] = {}
    for name in report.unused:
        kinds.setdefault(heads.get(name) or part_of(name) or "unknown", []).append(name)
    lines += [f"  {kind}: {', '.join(names)}" for kind, names in kinds.items()]
    hint = "The file is not whole, or of another architecture."
    if not report.missing and set(report.unused) <= set(heads):
        hint = "To leave them out: --allow-unused"
    elif not report.missing:
        hint = "They may change what the model computes, so they are never left out."
    details = {"missing": sorted(report.missing), "unused": report.unused, "kinds": kinds}
    return ModelError("VIT-424", "\n".join(lines), hint=hint, details=details)
