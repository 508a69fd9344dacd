"""The classification head of a checkpoint for other classes.

Which rows stay (heads are `head`, DeiT's `head_dist`, BiT's 1x1 convolution `head.fc`):

- classes of the same name keep their row, in whatever order, where both sides have names;
- a head of equal size stays as it is where nobody asks for other classes: a fine-tuned checkpoint
  that is only evaluated, or resized, keeps its answers;
- everything else starts as in a new model: weights zero, biases `head_bias_init`. So does a head
  of equal size whose classes have no names, when other classes are asked for, and any head whose
  inputs change because `pre_logits` comes or goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vitrail.checkpoints.adapt.request import AdaptRequest, State
from vitrail.checkpoints.mapping.rules import listed
from vitrail.errors import ModelError
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.spelling import count

HEADS = ("head", "head_dist", "head.fc")
PARTS = ("weight", "bias")


def adapt_pre_logits(change: AdaptRequest, new: State) -> list[str]:
    """Keeps, drops or starts the tanh layer before the head; the sentence of what changed."""
    has, wants = (_representation(config) for config in (change.config, change.target))
    if has == wants:
        return []
    for name in (f"pre_logits.{part}" for part in PARTS):
        new.pop(name, None)
        if wants:
            new[name] = change.fresh(name)
    if not wants:
        return [f"pre_logits: the layer of {count(has or 0, 'output')} is left out."]
    before = f"instead of one of {has}" if has else "where the checkpoint has none"
    return [f"pre_logits: a new layer of {count(wants, 'output')}, {before}."]


def adapt_head(change: AdaptRequest, new: State) -> list[str]:
    """Gives `new` the heads of the target; a sentence for each that changed.

    Raises ModelError VIT-454 where names are given for another number of classes.
    """
    _check_names(change.config, change.classes)
    _check_names(change.target, change.target_classes)
    return [sentence for head in HEADS if (sentence := _adapt_one(change, new, head))]


def _adapt_one(change: AdaptRequest, new: State, head: str) -> str:
    """ "" where nothing changed."""
    has, wants = (f"{head}.weight" in names for names in (new, change.shapes))
    num_classes = change.target.num_classes
    if not wants:
        for part in PARTS:
            new.pop(f"{head}.{part}", None)
        return f"{head}: left out: no classes are asked for." if has else ""
    if not has:
        _start(change, new, head)
        return f"{head}: new, for {count(num_classes, 'class')}, starting at zero."
    if _representation(change.config) != _representation(change.target):
        _start(change, new, head)
        return f"{head}: reset to zero for {count(num_classes, 'class')}: its inputs are others."
    if _is_same(change):
        return ""
    kept = _kept_rows(change)
    _start(change, new, head, kept)
    if not kept:
        return f"{head}: reset to zero for {count(num_classes, 'class')}: {_why(change)}."
    names = [change.target_classes[row] for row, _ in kept]
    others = [name for name in change.target_classes if name not in set(names)]
    of = f"{len(kept)} of {count(num_classes, 'class')}"
    text = f"{head}: {of} keep the row of their name ({listed(names)})"
    return f"{text}; {len(others)} start at zero ({listed(others)})." if others else f"{text}."


def _why(change: AdaptRequest) -> str:
    if not change.target_classes:
        return f"they were {change.config.num_classes}"
    if not change.classes:
        return "the checkpoint does not name its own"
    return "none has the name of an old one"


def _is_same(change: AdaptRequest) -> bool:
    """Whether the rows mean what they meant."""
    if change.target_classes:
        return change.classes == change.target_classes
    return change.config.num_classes == change.target.num_classes


def _kept_rows(change: AdaptRequest) -> list[tuple[int, int]]:
    """(new row, old row) of each class named once on both sides."""
    before, after = (
        {name: row for row, name in enumerate(names) if Counter(names)[name] == 1}
        for names in (change.classes, change.target_classes)
    )
    return [(row, before[name]) for name, row in after.items() if name in before]


def _start(
    change: AdaptRequest, new: State, head: str, kept: Sequence[tuple[int, int]] = ()
) -> None:
    """The head of a new model, with the rows `kept` (new row, old row) of the checkpoint."""
    for name in (f"{head}.{part}" for part in PARTS):
        value = change.fresh(name)
        for row, old_row in kept:
            value[row] = new[name][old_row]
        new[name] = value


def _check_names(config: ModelConfig, names: Sequence[str]) -> None:
    if names and len(names) != config.num_classes:
        raise ModelError(
            "VIT-454",
            f"{count(len(names), 'class name')} for a head of {count(config.num_classes, 'row')}.",
            hint="Give one name for each row of the head, in their order, or none.",
        )


def _representation(config: ModelConfig) -> int | None:
    return config.representation_size if isinstance(config, ViTConfig) else None
