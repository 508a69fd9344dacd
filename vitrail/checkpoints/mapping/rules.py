"""How tensors of another library's file become ours, and back: rules as data.

An origin (one file each: `google.py`, `timm.py` ...) lists rules; this file applies, inverts and
reports them. A rule names tensors of both sides and how the values are rearranged: only views,
transpositions and concatenations, so that reading and writing are exact inverses, bit for bit.

Tensors are read one rule at a time and then let go, so that reading holds the model and one rule's
tensors, never two copies of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from vitrail.checkpoints.mapping.fill_ahead import fill_ahead, is_finite
from vitrail.checkpoints.mapping.scratch import Memory, Scratch, fresh_floats
from vitrail.errors import ModelError

Shape = tuple[int, ...]
OTHER_SIZE = (
    "The image size that config.json names is not that of the position table (as "
    "ignore_mismatched_sizes leaves it); state that of the weights: --set image_size=HEIGHTxWIDTH"
)
MAX_NAMED = 10  # names in a message


@dataclass(frozen=True)
class Header:
    """What a file says before a value is read. shapes: of each tensor by its name; dtypes: as
    safetensors writes them ("F32", "BF16"); metadata: parsed JSON that stands beside the tensors,
    by file name ("config.json", "preprocessor_config.json", "safetensors").
    """

    name: str  # of the file or folder, for messages and for file-name grammars
    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


class TensorSource(Protocol):
    """An open file of tensors."""

    header: Header

    def read(self, name: str, memory: Memory | None = None) -> Tensor:
        """The values, in the dtype of the file, in fresh memory or in `memory`.

        Raises ModelError where they cannot be read.
        """


class Transform(NamedTuple):
    """A rearrangement and its inverse."""

    name: str
    read: Callable[[Tensor], Tensor]  # theirs to ours
    write: Callable[[Tensor], Tensor]


SAME = Transform("same", lambda x: x, lambda x: x)
DENSE = Transform("(in, out) to (out, in)", lambda x: x.t(), lambda x: x.t())
CONV = Transform("HWIO to OIHW", lambda x: x.permute(3, 2, 0, 1), lambda x: x.permute(2, 3, 1, 0))


def heads_out(num_heads: int) -> Transform:
    """Flax query, key or value kernel (D, heads, head_dim) to (heads * head_dim, D)."""
    return Transform(
        "(D, heads, head_dim) to (out, in)",
        lambda x: _with_axis(x, 1, num_heads).flatten(1).t(),
        lambda x: x.t().reshape(x.shape[1], num_heads, -1),
    )


def heads_in(num_heads: int) -> Transform:
    """Flax output kernel (heads, head_dim, D) to (D, heads * head_dim)."""
    return Transform(
        "(heads, head_dim, D) to (out, in)",
        lambda x: _with_axis(x, 0, num_heads).flatten(0, 1).t(),
        lambda x: x.t().reshape(num_heads, -1, x.shape[0]),
    )


def patch_rows(channels: int, patch: tuple[int, int]) -> Transform:
    """A linear layer on flattened patches, rows, then columns, then channels, (D, ph*pw*C), to a
    convolution's kernel (D, C, ph, pw)."""
    return Transform(
        "(D, ph pw C) to (D, C, ph, pw)",
        lambda x: x.reshape(-1, *patch, channels).permute(0, 3, 1, 2),
        lambda x: x.permute(0, 2, 3, 1).flatten(1),
    )


def reshaped(ours: Shape, theirs: Shape) -> Transform:
    """The same values in another shape, as (heads, head_dim) to (D,). Values of a third shape are
    in another order, so that `read` raises ValueError.
    """

    def read(x: Tensor) -> Tensor:
        if tuple(x.shape) != tuple(theirs):
            raise ValueError(f"shape {tuple(x.shape)}, expected {theirs}")
        return x.reshape(ours)

    return Transform(f"{theirs} to {ours}", read, lambda x: x.reshape(theirs))


def _with_axis(x: Tensor, axis: int, size: int) -> Tensor:
    """A kernel of three axes, one of this size. Raises ValueError."""
    if x.ndim != 3 or x.shape[axis] != size:
        raise ValueError(f"shape {tuple(x.shape)}, expected {size} on axis {axis}")
    return x


@dataclass(frozen=True)
class Rule:
    """Tensors `theirs` make tensors `ours` and the other way round.

    No `ours`: known and left out, with the reason in `note`. No `theirs`: the file has no such
    tensor, `read` makes the value it stands for, and `write` refuses any other. keeps: `read`
    gives the tensors as they are, which then are not read into memory that is used again. adds:
    `read` makes sums, so that finite tensors may become others.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Callable[[list[Tensor]], list[Tensor]]
    write: Callable[[list[Tensor]], list[Tensor]]
    note: str = ""
    keeps: bool = False
    adds: bool = False


def renamed(ours: str, theirs: str, transform: Transform = SAME) -> Rule:
    """One tensor for one."""
    return Rule(
        (ours,),
        (theirs,),
        lambda t: [transform.read(t[0])],
        lambda t: [transform.write(t[0])],
        keeps=transform is SAME,
    )


def joined(ours: str, theirs: Sequence[str], transform: Transform = SAME) -> Rule:
    """Several of theirs, each transformed, one below the other: query, key and value as qkv."""
    count = len(theirs)

    def read(tensors: list[Tensor]) -> list[Tensor]:
        parts = [transform.read(part) for part in tensors]
        rows = [part.shape[0] for part in parts]
        whole = fresh_floats((sum(rows), *parts[0].shape[1:]))
        for place, part in zip(torch.split(whole, rows), parts, strict=True):
            if place.shape != part.shape:
                raise ValueError("parts of several shapes")
            place.copy_(part)  # torch.cat takes three times as long for transposed parts
        return [whole]

    return Rule(
        (ours,),
        tuple(theirs),
        read,
        lambda t: [transform.write(part) for part in t[0].chunk(count)],
    )


def stacked(ours: Rule | Sequence[Rule], theirs: Sequence[str]) -> Rule:
    """Rules of equal form, one a layer, whose tensors `theirs` holds stacked along a first axis."""
    rules = [ours] if isinstance(ours, Rule) else list(ours)
    width = len(rules[0].ours)

    def read(tensors: list[Tensor]) -> list[Tensor]:
        layers = zip(*(tensor.unbind(0) for tensor in tensors), strict=True)
        return [
            value
            for rule, layer in zip(rules, layers, strict=True)
            for value in rule.read(list(layer))
        ]

    def write(tensors: list[Tensor]) -> list[Tensor]:
        layers = [rule.write(tensors[i * width : (i + 1) * width]) for i, rule in enumerate(rules)]
        return [torch.stack(parts) for parts in zip(*layers, strict=True)]

    return Rule(tuple(name for rule in rules for name in rule.ours), tuple(theirs), read, write)


def ignored(theirs: str, reason: str) -> Rule:
    """A tensor of theirs that no classifier needs, as DINOv2's mask token."""
    return Rule((), (theirs,), lambda _: [], lambda _: [], reason)


def implied(ours: str, value: Tensor, reason: str) -> Rule:
    """A tensor of ours that their format does not store because it is always `value`."""

    def write(tensors: list[Tensor]) -> list[Tensor]:
        if not torch.equal(tensors[0].cpu(), value.to(tensors[0].dtype)):
            raise ModelError(
                "VIT-415",
                f"{ours} is not {reason}, and the format has no tensor for it.",
                hint="Choose another format: vitrail convert IN OUT --to vitrail",
            )
        return []

    return Rule((ours,), (), lambda _: [value], write, reason)


@dataclass
class MappingReport:
    """What became of every tensor. used: how many of theirs; mapping: names of theirs and of ours
    by rule; missing: of ours, not in the file; unused: of theirs, without a rule; left_out: known
    and not needed, with the reason; implied: of ours, always the same value there; changed: what
    was adapted, one sentence each; prefix: taken off all of their names.
    """

    used: int = 0
    mapping: list[tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    implied: list[tuple[str, str]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    prefix: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether every tensor of both sides found its place."""
        return not self.missing and not self.unused


def read_state(
    source: TensorSource, rules: Iterable[Rule], shapes: Mapping[str, Shape]
) -> tuple[dict[str, Tensor], MappingReport]:
    """Our state dict, float32 and contiguous, of the tensors in `source`.

    shapes: of each tensor of the model to be filled. A rule whose tensors are all absent is
    reported as missing. Raises ModelError VIT-413 for a tensor of another shape, VIT-414 where a
    part of a rule's tensors is absent, VIT-425 for values that are not finite.
    """
    state: dict[str, Tensor] = {}
    report = MappingReport()
    broken: list[str] = []
    header = source.header

    def fill(rule: Rule, scratch: Scratch) -> list[Filled]:
        return _filled(source, rule, shapes, scratch)

    def size_of(rule: Rule) -> int:
        return sum(4 * prod(header.shapes[name]) for name in rule.theirs)

    for rule, found in fill_ahead(_wanted(header, rules, report), fill, size_of):
        state.update((name, value) for name, value, _ in found)
        broken += [name for name, _, finite in found if not finite]
        report.used += len(rule.theirs)
        report.mapping.append((rule.theirs, rule.ours))
    if broken:
        raise ModelError(
            "VIT-425",
            f"{header.name} holds values that are not finite, in {listed(broken)}.",
            hint="Training diverged or the file is damaged; get another one.",
        )
    report.missing += [name for name in shapes if name not in state and name not in report.missing]
    return state, report


class Filled(NamedTuple):
    """A tensor of ours, float32 and contiguous, and whether all its values are finite."""

    name: str
    value: Tensor
    is_finite: bool


def _filled(
    source: TensorSource, rule: Rule, shapes: Mapping[str, Shape], scratch: Scratch
) -> list[Filled]:
    """What one rule makes. Values are checked as they were read, while the processor's cache has
    them, unless they change: sums, and float64 or bfloat16 that become float32.
    """
    tensors = []
    finite = not rule.adds
    for name in rule.theirs:
        stays = rule.keeps and source.header.dtypes.get(name) == "F32"
        tensors.append(source.read(name, None if stays else scratch))
        finite = finite and tensors[-1].dtype == torch.float32 and is_finite(tensors[-1])
    filled = []
    for name, made in zip(rule.ours, _rearranged(source.header, rule, tensors), strict=True):
        _check_shape(source.header, rule, name, made, shapes)
        value = scratch.kept(made)
        filled.append(Filled(name, value, finite or is_finite(value)))
    return filled


def _wanted(header: Header, rules: Iterable[Rule], report: MappingReport) -> list[Rule]:
    """The rules whose tensors are read; what is missing, left out or unknown goes to the report."""
    known: set[str] = set()
    wanted = []
    for rule in rules:
        known.update(rule.theirs)
        present = [name for name in rule.theirs if name in header.shapes]
        if present and len(present) < len(rule.theirs):
            raise _partial(header, rule, present)
        if rule.theirs and not present:
            report.missing += rule.ours
        elif not rule.ours:
            report.left_out += [(name, rule.note) for name in rule.theirs]
        else:
            wanted.append(rule)
            report.implied += [(name, rule.note) for name in rule.ours if not rule.theirs]
    report.unused = sorted(set(header.shapes) - known)
    return wanted


def write_state(state: Mapping[str, Tensor], rules: Iterable[Rule]) -> dict[str, Tensor]:
    """Their tensors of our state dict, contiguous, in the order of the rules.

    Raises ModelError VIT-416 for a tensor of ours without a rule: nothing is left out silently.
    """
    theirs: dict[str, Tensor] = {}
    written: set[str] = set()
    for rule in rules:
        if not rule.ours:
            continue
        absent = [name for name in rule.ours if name not in state]
        if absent:
            raise ModelError("VIT-416", f"the model has no tensor {listed(absent)}.")
        values = rule.write([state[name] for name in rule.ours])
        for name, value in zip(rule.theirs, values, strict=True):
            theirs[name] = value.contiguous()
        written.update(rule.ours)
    over = sorted(set(state) - written)
    if over:
        raise ModelError(
            "VIT-416",
            f"the format has no place for {listed(over)}.",
            hint="Choose another format: vitrail convert IN OUT --to vitrail",
        )
    return theirs


def listed(names: Sequence[str]) -> str:
    """At most ten names and the count of the others."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _rearranged(header: Header, rule: Rule, tensors: list[Tensor]) -> list[Tensor]:
    try:
        return rule.read(tensors)
    except (RuntimeError, ValueError, IndexError) as error:  # a rearrangement that cannot be made
        found = ", ".join(f"{name} {header.shapes[name]}" for name in rule.theirs)
        raise ModelError(
            "VIT-413",
            f"{header.name}: {found} cannot become {listed(rule.ours)}.",
            hint="The file is damaged or of another kind of model.",
        ) from error


def _check_shape(
    header: Header, rule: Rule, name: str, value: Tensor, shapes: Mapping[str, Shape]
) -> None:
    if name not in shapes or tuple(value.shape) != tuple(shapes[name]):
        found = ", ".join(f"{theirs} {header.shapes[theirs]}" for theirs in rule.theirs)
        expected = f"{tuple(shapes[name])}" if name in shapes else "no such tensor"
        raise ModelError(
            "VIT-413",
            f"{header.name}: {found} becomes {name} {tuple(value.shape)}; expected {expected}.",
            hint=OTHER_SIZE
            if name == "pos_embed"
            else "The file is damaged or of another kind of model.",
        )


def _partial(header: Header, rule: Rule, present: list[str]) -> ModelError:
    absent = [name for name in rule.theirs if name not in present]
    return ModelError(
        "VIT-414",
        f"{header.name}: {listed(present)} is there, but {listed(absent)} is missing.",
        hint="The file is not whole: get it again.",
    )
