"""What the row of a published model says of a file that has its shapes and its names.

Attention heads, activation, eps, pooling, the order of a block and rotary positions are in no
tensor. A row is certain where width, depth, mlp_dim, patch size and form (which tensors there are)
fit one published model and no other has them with another function; where two do (ViT-S/16 of DeiT
has 6 heads, of MoCo v3 12) the user decides. Sizes that nobody publishes have no row: then heads
are asked for, and what most models have is assumed, with its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from vitrail.checkpoints.catalogue.published_row import ROWS, PublishedViT
from vitrail.checkpoints.mapping.fact import GIVEN, Fact, Said, unknown
from vitrail.checkpoints.mapping.origin import no_number
from vitrail.checkpoints.mapping.rules import Header, Shape
from vitrail.errors import ModelError

FIELDS = ("num_heads", "gelu", "ln_eps", "pool", "posemb", "block", "final_norm", "map_prefix")
# Flags of a form, by the tensor (our names) that is there, or is not.
PRESENT = {
    "cls": "cls_token",
    "dist": "dist_token",
    "reg": "reg_token",
    "ls": "blocks.0.ls1.gamma",
    "pre": "norm_pre.weight",
    "fc": "fc_norm.weight",
    "map": "attn_pool.latent",
    "qk": "blocks.0.attn.q_norm.weight",
}
ABSENT = {
    "-qkvb": "blocks.0.attn.qkv.bias",
    "-patchb": "patch_embed.proj.bias",
    "-norm": "norm.weight",
    "-normb": "blocks.0.norm1.bias",
    "-pos": "pos_embed",
}


class Size(NamedTuple):
    """What the shapes of an encoder say."""

    width: int
    depth: int
    mlp_dim: int
    patch: int


@dataclass(frozen=True)
class Decision:
    """values: of FIELDS that rows, statements or custom decide; said: who; asked: what nothing
    tells, with the values that would fit; rows: of the published models with this size and form.
    """

    values: dict[str, Any]
    said: dict[str, Said]
    asked: tuple[Fact, ...]
    rows: tuple[PublishedViT, ...]


def form_of(shapes: Mapping[str, Shape], *, style: str = "") -> str:
    """Which tensors of a ViT there are, as words. shapes: under our names; style: of the names, ""
    for timm's.
    """
    words = [word for word, name in PRESENT.items() if name in shapes]
    words += [word for word, name in ABSENT.items() if name not in shapes]
    first, second = (shapes.get(f"blocks.0.mlp.fc{n}.weight", (0, 0)) for n in (1, 2))
    words += ["swiglu"] if first[0] == 2 * second[-1] else []
    words += ["stem"] if any(name.startswith("patch_embed.backbone.") for name in shapes) else []
    return " ".join([*([style] if style else []), *words])


def rows_of(size: Size, form: str) -> tuple[PublishedViT, ...]:
    """The published models of this size and form."""
    return tuple(row for row in ROWS if (row.size, row.form) == (tuple(size), form))


def _plain(form: str) -> str:
    """The form under timm's names: a published size that was trained in another library's classes
    keeps its heads. The rest is that library's.
    """
    return " ".join(word for word in form.split() if word in (*PRESENT, *ABSENT, "swiglu", "stem"))


def decide(
    header: Header, size: Size, form: str, custom: Mapping[str, Any], why: str = "as most models"
) -> Decision:
    """Every field that no tensor shows. custom: values of FIELDS that most models of this form
    have, for sizes without a row.
    """
    given: Mapping[str, Any] = header.metadata.get(GIVEN, {})
    check_heads(header, given)
    published = rows_of(size, form)
    others = () if published else rows_of(size, _plain(form))
    rows = tuple(row for row in published if row.agrees(given))
    values = dict(custom)
    said = {field: Said("assumed", why) for field in custom}
    asked = []
    for field in FIELDS:
        found = {row.function[field]: row for row in reversed(rows)}
        if field in given:
            continue
        if len(found) == 1:
            (values[field], row) = next(iter(found.items()))
            said[field] = _said(field, row)
        elif found:
            asked.append(unknown(field, sorted(found, key=str)))
        elif field == "num_heads":
            heads = {row.function[field]: row for row in reversed(others)}
            if len(heads) == 1:
                (values[field], row) = next(iter(heads.items()))
                said[field] = _said(field, row)
            else:
                asked.append(unknown(field, sorted(heads) or divisors(size.width)))
    return Decision(values, said, tuple(asked), rows)


def check_heads(header: Header, given: Mapping[str, Any]) -> None:
    """Raise ModelError VIT-418 where what is given as num_heads is no number."""
    stated = given.get("num_heads")
    if stated is not None and (type(stated) is not int or stated < 1):
        raise no_number(header, "num_heads", stated)


def check_decided(header: Header, size: Size, decision: Decision) -> None:
    """Raise ModelError VIT-418 where every model with these shapes computes what ours does not,
    VIT-419 where something has to be stated.
    """
    reasons = {row.more: row for row in decision.rows}
    if reasons and "" not in reasons:
        why, row = next(iter(reasons.items()))
        raise ModelError(
            "VIT-418",
            f"{header.name} has the shapes and names of {row.names[0]}, which has {why}: not "
            "supported.",
            hint="Models of timm, DeiT, DINOv2 and torchvision with other blocks can be read.",
        )
    if decision.asked:
        raise _asked(header, size, decision)


def _asked(header: Header, size: Size, decision: Decision) -> ModelError:
    fields = ", ".join(fact.field for fact in decision.asked)
    numbers = f"width {size.width}, depth {size.depth}, mlp_dim {size.mlp_dim}, patch {size.patch}"
    lines = [f"{header.name}: {fields} cannot be told from the file."]
    if decision.rows:
        lines[0] += f" Several published models have its shapes ({numbers}):"
        for row in decision.rows:
            said = ", ".join(f"{fact.field} {row.function[fact.field]}" for fact in decision.asked)
            lines.append(f"  {row.names[0]}: {said}")
    else:
        choices = ", ".join(map(str, divisors(size.width)))
        lines[0] += f" No published model has its shapes ({numbers})."
        lines.append(f"  num_heads is a divisor of the width: {choices}")
    way = " ".join(f"--set {fact.field}=..." for fact in decision.asked)
    return ModelError(
        "VIT-419",
        "\n".join(lines),
        hint=f"State it, here or with vitrail convert: {way}",
        details={"asked": [fact.to_json() for fact in decision.asked]},
    )


def _said(field: str, row: PublishedViT) -> Said:
    """Heads are certain: nobody changes them in a fine-tune. The rest is the model's, assumed."""
    if field == "num_heads":
        return Said("row", f"row of {row.names[0]}")
    return Said("assumed", f"as {row.names[0]}")


def heads_of(header: Header, size: Size) -> int:
    """The heads that are given. Raises ModelError VIT-418 for no number, VIT-419 where none are."""
    given: Mapping[str, Any] = header.metadata.get(GIVEN, {})
    check_heads(header, given)
    if "num_heads" not in given:
        asked = (unknown("num_heads", divisors(size.width)),)
        raise _asked(header, size, Decision({}, {}, asked, ()))
    return int(given["num_heads"])


def divisors(width: int) -> tuple[int, ...]:
    """Numbers of heads that a width can have: every head at least one channel, 64 heads at most."""
    return tuple(count for count in range(1, min(width, 64) + 1) if width % count == 0)


def architecture(name: str) -> PublishedViT | None:
    """The row of timm's entry with this name."""
    return next((row for row in ROWS if name in row.names), None)


def names_of(rows: Iterable[PublishedViT]) -> str:
    """The first name of each."""
    return ", ".join(row.names[0] for row in rows)
