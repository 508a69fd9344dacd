"""What an origin is: a library whose checkpoints are read and written, as data and two functions.

One file an origin (`google.py`, `timm.py` ...) holds its rules; `checkpoints/origins/registry.py`
lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from vitrail.checkpoints.mapping.fact import GIVEN, Fact, Said
from vitrail.checkpoints.mapping.rules import Header, Rule
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import ModelError, VitrailError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.create import Model
from vitrail.models.names import ModelConfig, PublishedConfig
from vitrail.models.vit.config import ViTConfig

T = TypeVar("T", ViTConfig, BiTConfig)


@dataclass(frozen=True)
class Recognised:
    """What a file holds, told by its header. notes: sentences for the mapping report; resample: how
    its position embeddings are resized, where that differs within an origin; model: without values,
    where it was built to know its tensors; said: who says a field of config that is not in the
    shapes; prepared: who says the preprocessing; more: facts that are no field of config.
    """

    config: ModelConfig
    rules: list[Rule]
    preprocess: Preprocess
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    scores: Literal["softmax", "sigmoid"] = "softmax"
    resample: str = ""
    model: Model | None = None
    said: Mapping[str, Said] = field(default_factory=dict)
    prepared: Said = Said("file")
    more: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class ExportLayout:
    """How a model is written. files: what stands beside the tensors, by name: then OUT is a folder
    with `weights`, otherwise one file. notes: what the format cannot hold, a sentence each.
    """

    rules: list[Rule]
    container: Literal["npz", "safetensors"]
    files: Mapping[str, bytes] = field(default_factory=dict)
    weights: str = "model.safetensors"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """recognise: None where the file is another origin's; raises ModelError where it is of this
    origin and refused. write: raises ModelError VIT-417 where the format cannot hold the model.
    resample: the rule by which this origin resizes position embeddings (`posemb_resize.py`). head:
    where the one layer of its classifier is, "" where it has no such layer.
    """

    name: str
    recognise: Callable[[Header], Recognised | None]
    write: Callable[[PublishedConfig, Preprocess, Sequence[str]], ExportLayout]
    resample: str
    head: str = ""


def given(header: Header, key: str, otherwise: Any) -> Any:
    """What the user or vitrail's own note states for a field, or `otherwise`."""
    return header.metadata.get(GIVEN, {}).get(key, otherwise)


def given_size(header: Header) -> tuple[int, int] | None:
    """The image size (height, width) px that is given. Raises ModelError VIT-418 for another kind
    of value.
    """
    stated = given(header, "image_size", None)
    if stated is None:
        return None
    pair = [stated, stated] if isinstance(stated, int) else stated
    if isinstance(pair, list | tuple) and len(pair) == 2:
        if all(type(side) is int and 0 < side < 100_000 for side in pair):
            return pair[0], pair[1]
    raise no_number(header, "image_size", stated)


def no_number(header: Header, name: str, stated: object) -> ModelError:
    return ModelError(
        "VIT-418",
        f"{header.name}: {name} is {str(stated)[:60]!r}; expected whole numbers above 0.",
        hint="The file's config.json is damaged, or --set names something else.",
    )


def check_agrees(header: Header, told: Mapping[str, Any], seen: Mapping[str, Any]) -> None:
    """Raise ModelError VIT-418 for what config.json tells of the tensors otherwise than they are.
    told, seen: by its keys; what it does not tell is left to the tensors.
    """
    for name, value in seen.items():
        said = told.get(name)
        if said is not None and (
            said != value or isinstance(said, bool) != isinstance(value, bool)
        ):
            raise ModelError(
                "VIT-418",
                f"{header.name}: config.json has {name} {str(said)[:60]}, the tensors {value}.",
                hint="One of the two is of another model, and nobody can say which is meant: get "
                "both again, or correct config.json.",
            )


def vit_config(header: Header, **fields: Any) -> ViTConfig:
    """The architecture, with what is given in place of what was found. Of an image that is no
    multiple of the patch the rest is not seen, as a convolution drops it.

    Raises ModelError VIT-418 where no such model can be.
    """
    known = {**fields, **header.metadata.get(GIVEN, {})}
    rest = known.get("stem", "none") == "none" and has_rest(
        known["image_size"], known["patch_size"]
    )
    return _config(header, ViTConfig, {**fields, "drop_rest": rest})


def has_rest(size: Any, patch: Any) -> bool:
    """Whether whole patches leave something of (height, width), one on each side at least."""
    pairs = [(value, value) if type(value) is int else value for value in (size, patch)]
    if any(not isinstance(pair, list | tuple) or len(pair) != 2 for pair in pairs):
        return False
    sides = list(zip(*pairs, strict=True))
    if any(type(number) is not int or number < 1 for side in sides for number in side):
        return False
    return all(a > b for a, b in sides) and any(a % b for a, b in sides)


def bit_config(header: Header, **fields: Any) -> BiTConfig:
    """As `vit_config`, of a BiT-ResNet."""
    return _config(header, BiTConfig, fields)


def _config(header: Header, kind: type[T], fields: Mapping[str, Any]) -> T:
    try:
        return kind(**{**fields, **header.metadata.get(GIVEN, {})})
    except VitrailError as error:
        raise ModelError(
            "VIT-418",
            f"{header.name} describes no model that can be built: {error.message}",
            hint="The file is damaged, or of a kind of model that is not supported.",
        ) from error


def square(header: Header, rows: int, prefix: int, patch: tuple[int, int]) -> tuple[int, int]:
    """Image size (height, width) in px of a position table with `rows`, `prefix` of them not
    patches: as given, else a square grid.

    Raises ModelError VIT-420 where the patches make no square.
    """
    stated = given_size(header)
    if stated is not None:
        return stated
    side = int(max(rows - prefix, 0) ** 0.5 + 0.5)
    if side * side != rows - prefix or side == 0:
        raise ModelError(
            "VIT-420",
            f"{header.name}: {rows - prefix} positions make no square, and the file does not say "
            "how many rows and columns of patches there are.",
            hint="Name it in pixels: vitrail convert IN OUT --to vitrail "
            "--set image_size=HEIGHTxWIDTH",
        )
    return side * patch[0], side * patch[1]


def cannot_hold(name: str, why: str) -> ModelError:
    """VIT-417: the format `name` has no place for something of the model."""
    return ModelError(
        "VIT-417",
        f"{name} files cannot hold this model: {why}.",
        hint="--to vitrail holds everything. Or state what the format has instead, as in "
        "--set gelu=gelu; the model then computes slightly other values.",
    )
