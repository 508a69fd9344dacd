"""What the shapes of a PyTorch ViT say about its architecture, and rules that rename its tensors.

timm, DeiT, DINOv2 and torchvision keep the same tensors in the same layout as ours; only names
differ. So an origin is a literal list of pairs (ours, theirs), where # stands for a block's number;
names that are in no pair are the same on both sides. Nothing is rearranged in either direction.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints.adapt.request import shapes_of, tensor_shapes
from vitrail.checkpoints.catalogue.published import Size, check_decided, decide, form_of
from vitrail.checkpoints.mapping.fact import Fact, Said, assumed, sources_of, unknown
from vitrail.checkpoints.mapping.head_beside import is_layer
from vitrail.checkpoints.mapping.origin import given_size, square
from vitrail.checkpoints.mapping.rules import (
    Header,
    Rule,
    Shape,
    ignored,
    implied,
    renamed,
    reshaped,
)
from vitrail.checkpoints.mapping.unsupported import check_parts, size_without_table
from vitrail.checkpoints.mapping.wrappers import reason_beside
from vitrail.errors import ModelError
from vitrail.models.create import Model, build
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.spelling import count

Pairs = tuple[tuple[str, str], ...]
STEM = "patch_embed.backbone."
BIT_HEAD = "head.fc.weight"  # a convolution of 1 x 1 px, or the Linear of a fine-tune
BIASES = ("attn.qkv.bias", "attn.proj.bias")  # absent in every block where a model has none


def translate(pairs: Pairs, name: str) -> str:
    """`name` by the first pair whose left side it matches, or as it is."""
    for left, right in pairs:
        if found := _pattern(left).fullmatch(name):
            numbers = iter(found.groups())
            return re.sub("#", lambda _, n=numbers: str(next(n)), right)  # type: ignore[misc]
    return name


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\#", r"(\d+)"))


def to_ours(pairs: Pairs) -> Callable[[str], str]:
    """Their name to ours."""
    turned = tuple((theirs, ours) for ours, theirs in pairs)
    return lambda name: translate(turned, name)


class Layout:
    """Tensors of a file under our names. theirs: their name by ours; said: who says what the
    shapes do not, by field; more: facts that are no field; register_rows: rows of the position
    table that are of registers.
    """

    def __init__(
        self,
        header: Header,
        ours: Callable[[str], str],
        heads: Sequence[str] = ("head",),
        *,
        style: str = "",
        like: str = "timm",
    ) -> None:
        """heads: where their classifier is; style: of the names, for `published.form_of`; like:
        whose models are the usual ones. Raises ModelError VIT-418 for a head of several layers.
        """
        self.header, self.style, self.like = header, style, like
        self.said: dict[str, Said] = {}
        self.more: list[Fact] = []
        self.register_rows = 0
        self.theirs: dict[str, str] = {}
        for name in header.shapes:
            self.theirs.setdefault(ours(name), name)
        marks = {"blocks.0.norm1.weight", "patch_embed.proj.weight"}
        is_bare = marks <= set(self.theirs) and "head.weight" not in self.theirs
        for name in heads if is_bare else ():
            self.theirs |= linear_head(header, name)
        is_bit = {"stem.conv.weight", "stages.0.blocks.0.conv1.weight"} <= set(self.theirs)
        for name in ("head", "fc") if is_bit and BIT_HEAD not in self.theirs else ():
            found = linear_head(header, name)
            self.theirs |= {f"head.fc.{own.partition('.')[2]}": found[own] for own in found}
        self.shapes = {ours: header.shapes[theirs] for ours, theirs in self.theirs.items()}

    def shape(self, name: str, rank: int) -> Shape:
        """The shape of a tensor that must be there. Raises ModelError VIT-418."""
        shape = self.shapes.get(name, ())
        if len(shape) != rank or 0 in shape:
            found = f"has shape {shape}" if name in self.shapes else "is missing"
            raise ModelError(
                "VIT-418",
                f"{self.header.name}: {self.theirs.get(name, name)} {found}; expected an array of "
                f"{rank} axes.",
                hint="The file is not whole, or of another kind of model.",
            )
        return shape

    def fields(self) -> dict[str, Any]:
        """Everything of a ViTConfig that the shapes and the rows of published models tell.

        Raises ModelError VIT-418 to VIT-420.
        """
        check_parts(self.header, self.shapes)
        width = self.shape("blocks.0.norm1.weight", 1)[0]
        depth = num_blocks(self.shapes)
        has_cls = "cls_token" in self.shapes
        mlp_dim, kind = self._mlp()
        fields: dict[str, Any] = {
            "patch_size": self.shape("patch_embed.proj.weight", 4)[2:],
            "channels": self.shape("patch_embed.proj.weight", 4)[1],
            "width": width,
            "depth": depth,
            "mlp_dim": mlp_dim,
            "mlp": kind,
            "num_classes": self.shape("head.weight", 2)[0] if "head.weight" in self.shapes else 0,
            "cls_token": has_cls,
            "norm_after_pool": "fc_norm.weight" in self.shapes,
            "layer_scale": 1e-5 if "blocks.0.ls1.gamma" in self.shapes else None,
            "qk_norm": "blocks.0.attn.q_norm.weight" in self.shapes,
            "pre_norm": "norm_pre.weight" in self.shapes,
            "distillation_token": "dist_token" in self.shapes,
        }
        if "reg_token" in self.shapes:
            fields["num_registers"] = self.shape("reg_token", 3)[1]
        if "attn_pool.mlp.fc1.weight" in self.shapes:
            hidden = self.shape("attn_pool.mlp.fc1.weight", 2)[0]
            fields["map_mlp_dim"] = None if hidden == mlp_dim else hidden
        if "pre_logits.weight" in self.shapes:
            fields["representation_size"] = self.shape("pre_logits.weight", 2)[0]
        stem = self._stem()
        positions = self._positions(fields, stem)
        return fields | stem | self._decided(fields) | positions

    def _decided(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What no tensor shows: heads, activation, eps, pooling.

        Raises ModelError VIT-418 for a published model that is not supported, VIT-419.
        """
        is_gamma = any(name.endswith("blocks.0.gamma_1") for name in self.header.shapes)
        form = form_of(self.shapes, style=self.style or ("gamma" if is_gamma else ""))
        size = Size(fields["width"], fields["depth"], fields["mlp_dim"], fields["patch_size"][0])
        eps = 1e-5 if "norm_pre.weight" in self.shapes else 1e-6
        has_norm = "norm.weight" in self.shapes or "fc_norm.weight" in self.shapes
        custom = {
            "gelu": "gelu",
            "ln_eps": eps,
            "pool": self._pool(),
            "block": "pre",
            "final_norm": has_norm,
        }
        decision = decide(self.header, size, form, custom, f"as most models of {self.like}")
        pools_prefix = "attn_pool.latent" in self.shapes and (
            fields["cls_token"] or "reg_token" in self.shapes
        )
        if pools_prefix and not {"map_prefix"} & {*decision.values, *sources_of(self.header)}:
            asked = (*decision.asked, unknown("map_prefix", (True, False)))
            decision = replace(decision, asked=asked)
        is_told = {"final_norm", "block"} & set(sources_of(self.header))  # by entry or --map too
        if not has_norm and not decision.rows and not is_told:
            asked = (*decision.asked, unknown("final_norm", (False,)))
            decision = replace(decision, asked=asked)
        check_decided(self.header, size, decision)
        self.said |= decision.said | sources_of(self.header)
        if not fields["cls_token"] or "attn_pool.latent" in self.shapes:
            self.said["pool"] = Said("file", "shapes")
        self.said["final_norm"] = Said("file", "shapes")
        if not decision.rows and is_gamma:
            self.more += [Fact("rotary positions", "none", "assumed", "as in DeiT III")]
        values = decision.values
        for name in ("posemb",) if pools_prefix else ("posemb", "map_prefix"):
            values.pop(name, None)
            if name not in sources_of(self.header):
                self.said.pop(name, None)
        return values

    def _mlp(self) -> tuple[int, str]:
        """Width between the two layers, and whether the first makes gate and value."""
        first = self.shape("blocks.0.mlp.fc1.weight", 2)[0]
        second = self.shape("blocks.0.mlp.fc2.weight", 2)[1]
        return second, "swiglu" if first == 2 * second else "gelu"

    def _pool(self) -> str:
        if "attn_pool.latent" in self.shapes:
            return "map"
        has_cls = "cls_token" in self.shapes
        return "gap" if "fc_norm.weight" in self.shapes or not has_cls else "cls"

    def _stem(self) -> dict[str, Any]:
        """A ResNet before the patches."""
        roots = [f"{STEM}{at}conv.weight" for at in ("", "stem.")]
        found = [name for name in roots if name in self.shapes]
        if not found:
            return {}
        width, channels, side = self.shape(found[0], 4)[:3]
        return {
            "stem": "resnet",
            "stem_stages": stages(self.shapes, f"{STEM}stages."),
            "stem_width": width,
            "stem_root": "small" if side == 3 else "imagenet",
            "channels": channels,
        }

    def _positions(self, fields: Mapping[str, Any], stem: Mapping[str, Any]) -> dict[str, Any]:
        """Image size and kind of positions."""
        stride = 2 ** max(0, len(stem["stem_stages"]) - 1) if stem else 1
        stride *= 4 if stem and stem["stem_root"] == "imagenet" else 1
        patch = tuple(size * stride for size in fields["patch_size"])
        if "pos_embed" not in self.shapes:
            return {"image_size": size_without_table(self.header, self.shapes), "posemb": "none"}
        rows = self.shape("pos_embed", 3)[1]
        num_rows = int(fields["cls_token"]) + int(fields["distillation_token"])
        num_prefix = num_rows + fields.get("num_registers", 0)
        prefix = self._prefix_rows(rows, (0, num_rows, num_prefix), (patch[0], patch[1]))
        self.register_rows = fields["num_registers"] if prefix == num_prefix > num_rows else 0
        if given_size(self.header) is None:
            self.said |= assumed("a square grid of patches", "image_size")
        size = square(self.header, rows, prefix, (patch[0], patch[1]))
        return {"image_size": size, "posemb": "learned", "posemb_prefix": prefix > 0 < num_rows}

    def _prefix_rows(self, rows: int, options: Sequence[int], patch: tuple[int, int]) -> int:
        """How many of `rows` are not of patches: none, those of cls and dist, or those of the
        registers too. Raises ModelError VIT-420 where more than one leaves a square.
        """
        stated = given_size(self.header)
        if stated is not None:
            num_patches = (stated[0] // patch[0]) * (stated[1] // patch[1])
            return next((n for n in options if rows - n == num_patches), options[1])
        left = {n: rows - n for n in options if rows > n}
        fitting = [n for n, patches in left.items() if math.isqrt(patches) ** 2 == patches]
        if len(fitting) > 1:
            sizes = [
                f"{math.isqrt(left[n]) * patch[0]}x{math.isqrt(left[n]) * patch[1]}"
                for n in fitting
            ]
            raise ModelError(
                "VIT-420",
                f"{self.header.name}: the position table of {count(rows, 'row')} may be of "
                "images of "
                f"{' or '.join(sizes)} px.",
                hint="Name it in pixels: vitrail convert IN OUT --to vitrail "
                f"--set image_size={sizes[0]}",
            )
        return fitting[0] if fitting else options[1]

    def model_and_rules(
        self, config: ModelConfig, unused: Mapping[str, str]
    ) -> tuple[Model, list[Rule]]:
        """The model without values; a rule for each of its tensors, zeros for biases that the file
        leaves out; and one for each of theirs that is known and not needed: `unused` are patterns
        and the reasons.
        """
        model = build(config)
        shapes = tensor_shapes(model)
        absent = [bias for bias in BIASES if not any(name.endswith(bias) for name in self.shapes)]
        left_out = [name for name in shapes if name.endswith(tuple(absent))]
        rules = [
            renamed(name, self.theirs.get(name, name)) for name in shapes if name not in left_out
        ]
        head = self.shapes.get(BIT_HEAD, ())
        if len(head) == 2 and BIT_HEAD in shapes:
            turn = reshaped((*head, 1, 1), head)
            rules = [rule for rule in rules if rule.ours != (BIT_HEAD,)]
            rules += [renamed(BIT_HEAD, self.theirs[BIT_HEAD], turn)]
        if self.register_rows and isinstance(config, ViTConfig):
            rules = [rule for rule in rules if rule.ours not in (("reg_token",), ("pos_embed",))]
            names = (self.theirs["reg_token"], self.theirs["pos_embed"])
            rules += [rows_into_tokens(config, *names)]
        rules += [
            implied(name, torch.zeros(shapes[name]), "zero, as the model has no such bias")
            for name in left_out
        ]
        return model, rules + [
            ignored(theirs, reason)
            for ours, theirs in self.theirs.items()
            if ours not in shapes
            for reason in [_reason(unused, ours)]
            if reason
        ]


def linear_head(header: Header, name: str) -> dict[str, str]:
    """Their names by ours of a classifier that fine-tuning put at `name`: a Linear, or one in a
    Sequential behind Dropout. Raises ModelError VIT-418 where it has more layers.
    """
    inside = re.compile(rf"{re.escape(name)}(?:\.\w+)*\.\w+")
    found = [
        theirs for theirs in header.shapes if inside.fullmatch(theirs) and not reason_beside(theirs)
    ]
    layers = sorted({theirs.rpartition(".")[0] for theirs in found})
    is_linear = len(layers) == 1 and is_layer(header.shapes.get(f"{layers[0]}.weight", ()))
    if not is_linear:
        if any(theirs.endswith(".weight") for theirs in found):
            raise ModelError(
                "VIT-418",
                f"{header.name}: its classifier {name} has more layers than one Linear: "
                f"{', '.join(f'{layer}.weight' for layer in layers)[:300]}.",
                hint="Fold them into one Linear, or save the model without them and train a head: "
                "vitrail train DATA --from FILE",
            )
        return {}
    return {
        f"head.{part}": f"{layers[0]}.{part}"
        for part in ("weight", "bias")
        if f"{layers[0]}.{part}" in header.shapes
    }


def rows_into_tokens(config: ViTConfig, token: str, table: str) -> Rule:
    """A position table with rows for registers: each is added to its register.

    The sum is rounded to float32 here, once, as the model itself rounds it in a float32 pass.
    """
    first, count = config.num_prefix - config.num_registers, config.num_registers

    def read(tensors: list[Tensor]) -> list[Tensor]:
        registers, rows = tensors
        own = rows[:, first : first + count]
        return [registers + own, torch.cat([rows[:, :first], rows[:, first + count :]], dim=1)]

    def write(tensors: list[Tensor]) -> list[Tensor]:
        registers, rows = tensors
        parts = [rows[:, :first], torch.zeros_like(registers), rows[:, first:]]
        return [registers, torch.cat(parts, dim=1)]

    return Rule(("reg_token", "pos_embed"), (token, table), read, write, adds=True)


def num_blocks(names: Iterable[str]) -> int:
    """How many different blocks the names have."""
    return len({found[1] for name in names if (found := re.match(r"blocks\.(\d+)\.", name))})


def stages(names: Iterable[str], prefix: str) -> tuple[int, ...]:
    """Units of each stage, from names like `stages.0.blocks.1.conv1.weight`."""
    pattern = re.compile(re.escape(prefix) + r"(\d{1,2})\.blocks\.(\d{1,3})\.")
    units = {(int(found[1]), int(found[2])) for name in names if (found := pattern.match(name))}
    count = len({stage for stage, _ in units})
    return tuple(len({unit for stage, unit in units if stage == i}) for i in range(count))


def write_rules(config: ModelConfig, pairs: Pairs) -> list[Rule]:
    """A rule for each of our tensors under their names."""
    return [renamed(name, translate(pairs, name)) for name in shapes_of(config)]


def _reason(unused: Mapping[str, str], name: str) -> str:
    return next((why for pattern, why in unused.items() if re.fullmatch(pattern, name)), "")
