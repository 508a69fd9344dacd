"""What a format can hold, and the forms of equal value in which it holds positions.

Adding a row of zeros, or adding the class token's row beforehand, gives the very sums that the
model computes; so does a computed table that is stored. Everything else that a format has no place
for is refused, with the field that stands in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from vitrail.checkpoints.mapping.origin import cannot_hold
from vitrail.checkpoints.mapping.rules import Rule, renamed
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.posemb import sincos_2d

COMPUTED = ("none", "learned_2d", "sincos_2d")  # positions that a table of all patches can hold
TOKENS = ("cls_token", "dist_token")
# What no format but timm's can hold otherwise.
ORDINARY: dict[str, object] = {"map_heads": None, "map_mlp_dim": None, "map_prefix": True}
# What every layout but timm's has, and what one has that knows the paper's encoder alone.
ENCODER: dict[str, object] = ORDINARY | {
    "final_norm": True,
    "block": "pre",
    "posemb_at": "stem",
    "qk_norm": False,
    "pre_norm": False,
}
PAPER: dict[str, object] = ENCODER | {
    "posemb": ("learned", *COMPUTED),
    "num_registers": 0,
    "layer_scale": None,
    "mlp": "gelu",
    "distillation_token": False,
}
ANYTHING = object()  # of `require`: every value is held


def require(name: str, config: ModelConfig, expected: Mapping[str, object]) -> None:
    """Raises ModelError VIT-417 for the first field that is not as the format has it. No format
    has images of variable resolution unless it expects `ANYTHING` of max_patches.
    """
    one_size: dict[str, object] = {"max_patches": None} if isinstance(config, ViTConfig) else {}
    for field, value in (one_size | dict(expected)).items():
        have = getattr(config, field)
        if value is ANYTHING:
            continue
        if isinstance(value, tuple) and not isinstance(have, tuple):
            if have not in value:
                one_of = ", ".join(map(repr, value))
                raise cannot_hold(name, f"{field} is {have!r}; the format has {one_of}")
        elif have != value:
            raise cannot_hold(name, f"{field} is {have!r}; the format has {value!r} only")


def position_rules(
    config: ViTConfig, tokens: Sequence[str], table: str, bias: Rule, *, has_rows: bool
) -> list[Rule]:
    """Rules for the prefix tokens, the positions and the bias of the patches.

    tokens: their names of cls and dist, as many as the model has; table: of their position table;
    has_rows: whether it has rows for these tokens; bias: the rule of the patches' bias, which takes
    along a table that is no tensor of ours.
    """
    names = TOKENS[: len(tokens)]
    plain = [renamed(*pair) for pair in zip(names, tokens, strict=True)]
    num_rows = len(tokens) if has_rows else 0
    own_rows = len(tokens) if config.posemb_prefix else 0
    if config.posemb == "learned" and own_rows == num_rows:
        return [*plain, renamed("pos_embed", table), bias]
    if config.posemb == "learned" and num_rows:
        return [*plain, _padded(("pos_embed",), table, num_rows), bias]
    if config.posemb == "learned":
        return [_summed(names, tokens, table), bias]
    if config.posemb == "learned_2d":
        return [*plain, _padded(("pos_embed_x", "pos_embed_y"), table, num_rows), bias]
    zeros = torch.zeros(1, num_rows, config.width)
    return [*plain, with_constant(bias, table, torch.cat([zeros, fixed_table(config)], dim=1))]


def fixed_table(config: ViTConfig) -> Tensor:
    """Positions (1, P, D) float32 that the model computes, or zeros where it has none."""
    if config.posemb == "sincos_2d":
        return torch.from_numpy(sincos_2d(config.grid, config.width)).float().unsqueeze(0)
    return torch.zeros(1, config.num_patches, config.width)


def _padded(ours: tuple[str, ...], table: str, num_rows: int) -> Rule:
    """Rows of zeros before the positions of the patches; x and y tables side by side."""

    def write(tensors: list[Tensor]) -> list[Tensor]:
        patches = tensors[0]
        if len(tensors) == 2:
            (x, y), (h, w) = tensors, (tensors[1].shape[1], tensors[0].shape[1])
            columns = [x.unsqueeze(1).expand(-1, h, -1, -1), y.unsqueeze(2).expand(-1, -1, w, -1)]
            patches = torch.cat(columns, dim=-1).flatten(1, 2)  # (1, P, D)
        zeros = patches.new_zeros(1, num_rows, patches.shape[-1])
        return [torch.cat([zeros, patches], dim=1)]

    return Rule(ours, (table,), lambda tensors: [tensors[0][:, num_rows:]], write)


def _summed(names: Sequence[str], tokens: Sequence[str], table: str) -> Rule:
    """Each token with its row added, then the positions of the patches."""
    count = len(names)

    def write(tensors: list[Tensor]) -> list[Tensor]:
        *given, positions = tensors
        rows = [token + positions[:, i : i + 1] for i, token in enumerate(given)]
        return [*rows, positions[:, count:]]

    def read(tensors: list[Tensor]) -> list[Tensor]:
        *given, positions = tensors
        return [*given, torch.cat([torch.zeros_like(given[0])] * count + [positions], dim=1)]

    return Rule((*names, "pos_embed"), (*tokens, table), read, write)


def with_constant(rule: Rule, name: str, values: Tensor) -> Rule:
    """For writing: the rule, and beside its tensors one of theirs that is always `values`."""

    def write(tensors: list[Tensor]) -> list[Tensor]:
        return [*rule.write(tensors), values.to(tensors[0], copy=True)]

    return Rule(rule.ours, (*rule.theirs, name), lambda tensors: rule.read(tensors[:-1]), write)


def changed_output(
    rules: Sequence[Rule], name: str, change: Callable[[Tensor], Tensor]
) -> list[Rule]:
    """For writing: the rules, with what they write as `name` changed once more."""

    def changed(rule: Rule) -> Rule:
        index = rule.theirs.index(name)

        def write(tensors: list[Tensor]) -> list[Tensor]:
            values = rule.write(tensors)
            values[index] = change(values[index])
            return values

        return Rule(rule.ours, rule.theirs, rule.read, write)

    return [changed(rule) if name in rule.theirs else rule for rule in rules]
