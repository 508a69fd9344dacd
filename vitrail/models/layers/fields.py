"""Field types that the architecture records share, and how their mistakes are told. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from vitrail.errors import UsageError, nearest, shortened
from vitrail.setting_values import Size, written

T = TypeVar("T")

Share = Annotated[float, Field(ge=0, lt=1)]
NoneText = BeforeValidator(lambda value: None if value in ("none", "") else value)
OptionalScale = Annotated[Annotated[float, Field(gt=0, le=10)] | None, NoneText]
OptionalSize = Annotated[Annotated[int, Field(ge=1, le=65_536)] | None, NoneText]
OptionalGrid = Annotated[Size | None, NoneText]
Eps = Annotated[float, Field(gt=0, le=1e-2)]
# outside: (w - mean) / (std + eps), Flax; inside: (w - mean) / sqrt(var + eps), BiT and timm.
StdForm = Literal["outside", "inside"]
# imagenet: 7x7 at stride 2, then a pool at stride 2; small: 3x3 at stride 1 and no pool.
Root = Literal["imagenet", "small"]

MAX_WEIGHTS = 30_000_000_000  # ViT-22B is the largest ViT published


def as_numbers(value: object) -> object:
    """A number a stage from "3,4,9", "9" or 9; empty or "none" is no stage."""
    if isinstance(value, str):
        parts = value.strip("()[] ").replace("none", "").split(",")
        return tuple(part.strip() for part in parts if part.strip())
    return (value,) if isinstance(value, int) and not isinstance(value, bool) else value


Depths = Annotated[
    tuple[Annotated[int, Field(ge=1, le=256)], ...],
    Field(max_length=4),
    BeforeValidator(as_numbers),
]


Sizes = Annotated[
    tuple[Size, ...], Field(max_length=16), BeforeValidator(as_numbers), written("4,8,16")
]


def is_true(value: object) -> bool:
    """Whether a field's value, perhaps text, stands for true."""
    return str(value).lower() in ("true", "1", "yes", "on", "t", "y")


def refuse_unknown(values: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raises UsageError VIT-211 for the first key that is no field."""
    unknown = sorted(set(values) - set(known))
    if unknown:
        close = nearest(unknown[0], known)
        raise UsageError("VIT-211", f"unknown field of the model: {unknown[0]}. {close}")


def validated(handler: Callable[[Any], T], values: Any) -> T:
    """What `handler` makes of `values`. Raises UsageError VIT-222 naming each bad field."""
    try:
        return handler(values)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, item['loc']))}: {item['msg']}, got {shortened(item['input'])}"
            for item in error.errors(include_url=False)
        ]
        message = "the model cannot be built:\n" + "\n".join(dict.fromkeys(lines))
        raise UsageError("VIT-222", message) from error


def refuse_first(problems: Mapping[str, object]) -> None:
    """Raises UsageError VIT-222 with the first message whose value is true."""
    for message, is_wrong in problems.items():
        if is_wrong:
            raise UsageError("VIT-222", message)


def refuse_size(weights: int, hint: str) -> None:
    """Raises UsageError VIT-222 where a model of so many weights cannot be meant."""
    if weights > MAX_WEIGHTS:
        message = f"the model has about {weights / 1e9:.0f} billion parameters"
        raise UsageError("VIT-222", f"{message}; at most {MAX_WEIGHTS / 1e9:.0f}", hint=hint)
