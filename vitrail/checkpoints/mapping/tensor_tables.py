"""Several tables of weights in one file: which is taken, and how that is said.

Training files hold weights twice: the model and its average (`state_dict_ema`, `model_ema`), a
student and its teacher, an encoder and its target. timm and DeiT evaluate the average, PyTorch's
examples have none, and no file says which is meant. So the plain model comes before its average, of
a teacher and a student the one that the authors evaluate, every table is named, and `--table`
chooses another.
"""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.checkpoints.mapping.fact import Fact
from vitrail.checkpoints.mapping.rules import Header
from vitrail.errors import ModelError

TABLE = "table"  # Header.metadata: which one the user wants
RULE = "the first of the usual names"


def table_facts(header: Header, prefix: str, others: Sequence[str]) -> tuple[Fact, ...]:
    """What was taken and what was not; nothing where there is one table only.

    prefix: of the names of the model that was taken; others: of other models beside it.
    """
    torch = header.metadata.get("torch", {})
    taken, rest = torch.get("wrapped"), list(torch.get("more", ()))
    if others:
        taken, rest = prefix.rstrip("."), [name.rstrip(".") for name in others]
    if not rest:
        return ()
    is_stated = bool(header.metadata.get(TABLE))
    also = f"not taken: {', '.join(rest)}"
    if is_stated:
        return (Fact(TABLE, taken, "stated", also),)
    return (Fact(TABLE, taken, "assumed", f"{RULE}; {also}", tuple(rest), "--table NAME"),)


def is_named(path: str, table: str) -> bool:
    """Whether a path as "ckpt/model_ema" or a prefix as "model_ema." is what the user calls
    `table`.
    """
    parts = path.replace("/", ".").strip(".")
    return parts == table.replace("/", ".") or table in parts.split(".")


def no_table(header: Header, table: str, known: Sequence[str]) -> ModelError:
    """VIT-427 for a table that is not in the file."""
    names = ", ".join(name.strip(".") or "(no name)" for name in known) or "none"
    return ModelError(
        "VIT-427",
        f"{header.name} has no weights called {table!r}; it has: {names}.",
        hint="Name one of these: --table NAME",
    )
