"""Reads checkpoints of other libraries into models of ours, and writes them.

A file is opened without executing anything (`open_tensors.py`), recognised by the names and shapes
of its tensors (`checkpoints/origins/registry.py`), and read by that origin's literal rules, one
rule's tensors at a time. Every tensor of both sides must find its place: one that is missing, or
that nobody knows, ends the reading, because a model that is nearly right is wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Literal

from vitrail.checkpoints.adapt.fixed_patch import is_flexible
from vitrail.checkpoints.adapt.request import tensor_shapes
from vitrail.checkpoints.catalogue.weights import Weights
from vitrail.checkpoints.formats.limits import too_much
from vitrail.checkpoints.formats.open_tensors import SUFFIXES, OpenTensors, open_tensors, weights_of
from vitrail.checkpoints.formats.shards import INDEX, parts_of
from vitrail.checkpoints.formats.tensor_writing import write_folder, write_npz, write_safetensors
from vitrail.checkpoints.hub.resolve import catalogue_entry_at
from vitrail.checkpoints.joined import Joined
from vitrail.checkpoints.mapping.complete import check_complete
from vitrail.checkpoints.mapping.evaluation_crops import shown_by
from vitrail.checkpoints.mapping.fact import Fact, Said, facts_of, prepared, with_given
from vitrail.checkpoints.mapping.metadata import NOTE, embedded_metadata, read_note
from vitrail.checkpoints.mapping.origin import ExportLayout, cannot_hold
from vitrail.checkpoints.mapping.rules import (
    Header,
    MappingReport,
    Shape,
    TensorSource,
    read_state,
    write_state,
)
from vitrail.checkpoints.mapping.tensor_tables import TABLE, table_facts
from vitrail.checkpoints.mapping.wrappers import Unwrapped, View
from vitrail.checkpoints.origins.name_map import NAME as MAP
from vitrail.checkpoints.origins.name_map import Mapped, NameMap, check_over, recognise_mapped
from vitrail.checkpoints.origins.registry import ORIGINS
from vitrail.checkpoints.recognise import Match, recognise
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import UsageError, nearest
from vitrail.model_folder.bundle import MAX_BYTES, sha256_of
from vitrail.models.create import Model, build
from vitrail.models.names import ModelConfig, known_names, parse_name
from vitrail.models.resnet.config import ResNetConfig
from vitrail.models.vit.config import ViTConfig

DEIT = "deit"
STATE_DICTS = (DEIT, "dinov2", "torchvision")  # origins whose files are state dicts alone


@dataclass
class ExternalCheckpoint:
    """A checkpoint of another library, read. model: filled, in evaluation mode; name: of the size
    ("vit_b16"), or the family; resample: the rule for its position embeddings; notes: what the file
    does not say and was assumed; facts: every number with its source.
    """

    path: Path
    model: Model
    config: ModelConfig
    preprocess: Preprocess
    classes: tuple[str, ...]
    origin: str
    report: MappingReport
    name: str
    resample: str
    notes: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    scores: Literal["softmax", "sigmoid"] = "softmax"
    weights: Path = field(default=Path())

    @cached_property
    def sha256(self) -> str:
        """Of the file of weights, 64 hex digits, read again for it; of an index and its parts the
        sha256 of all of theirs.
        """
        if not self.weights.name.endswith(INDEX):
            return sha256_of(self.weights)
        each = [sha256_of(path) for path in (self.weights, *parts_of(self.weights))]
        return hashlib.sha256("".join(each).encode()).hexdigest()


def read_external(
    path: Path,
    *,
    origin: str | None = None,
    given: Mapping[str, Any] | None = None,
    head: Path | None = None,
    table: str | None = None,
    allow_unused: bool = False,
    name_map: NameMap | None = None,
    max_bytes: int = MAX_BYTES,
) -> ExternalCheckpoint:
    """The model in a file or folder of another library.

    origin: its name in ORIGINS, where the file should be read as that and no other. given: fields
    of the architecture that the file does not tell, as num_heads, or that should be others. head: a
    second file with the linear head of a DINOv2 backbone. table: which weights of a training file
    that holds several. allow_unused: leave out heads that are not read. name_map: of a home-made
    model, in place of the origins.

    Raises ModelError: what `open_tensors` raises, VIT-413 and VIT-414 tensors that do not fit,
    VIT-418 to VIT-420 an architecture that is not told, VIT-422 not recognised, VIT-424 tensors
    missing or unknown, VIT-425 values that are not finite, VIT-427 several models.
    """
    opened = open_tensors(path, max_bytes=max_bytes, table=table or "")
    with closing(_with_head(opened, head, max_bytes)) as source:
        header, note = _with_given(source.header, path, given or {}, origin)
        header = replace(header, metadata={**header.metadata, TABLE: table or ""})
        match, tensors = _matched(source, header, origin or note.get("origin"), name_map)
        found, name = match.found, match.origin
        model = found.model or build(found.config)
        shapes = tensor_shapes(model)
        _check_size(header, shapes, max_bytes)
        state, report = read_state(tensors, found.rules, shapes)
        _with_beside(report, match)
        has_head = bool(found.config.num_classes)
        check_complete(header, name, report, allow_unused=allow_unused, has_head=has_head)
    model.load_state_dict(state, strict=True, assign=True)
    told = _told(note.get("preprocess"), found.config)
    preprocess = shown_by(told or found.preprocess, found.config)
    is_one = found.config.num_classes == 1  # the softmax of one number is 1
    facts = table_facts(header, match.view.prefix, match.others)
    facts += facts_of(header, found.config, found.said) + found.more
    if is_one:
        facts += (Fact("scores", "sigmoid", "assumed", "one output, whose softmax is always 1"),)
    return ExternalCheckpoint(
        path=path,
        model=model.eval(),
        config=found.config,
        preprocess=preprocess,
        classes=found.classes or _fitting(note.get("classes", ()), found.config.num_classes),
        origin=name,
        report=report,
        name=name_of(found.config),
        resample=found.resample or ORIGINS[name].resample,
        notes=found.notes,
        facts=(*facts, prepared(preprocess, note["said"] if told else found.prepared)),
        scores="sigmoid" if is_one else found.scores,
        weights=weights_of(path) if path.is_dir() else path,
    )


def write_foreign(
    model: Model, preprocess: Preprocess, classes: Sequence[str], to: str, out: Path
) -> list[Path]:
    """Write a model as a file or folder of another library; what was written, weights first.

    Raises UsageError VIT-202 for an OUT of another kind than the format, ModelError VIT-415 to
    VIT-417 where the format cannot hold the model, VIT-440 where OUT exists, EnvironmentFault
    VIT-506.
    """
    written = plan_writing(model.config, preprocess, classes, to)
    check_out(written, to, out)
    tensors = write_state(model.state_dict(), written.rules)
    if written.files:
        write_folder(out, written.weights, tensors, written.files)
        return [out / written.weights, *(out / name for name in written.files)]
    if written.container == "npz":
        write_npz(out, tensors)
    else:
        write_safetensors(
            out, tensors, {NOTE: embedded_metadata(model.config, preprocess, classes, to)}
        )
    return [out]


def plan_writing(
    config: ModelConfig, preprocess: Preprocess, classes: Sequence[str], to: str
) -> ExportLayout:
    """How the format `to` holds the model. Raises UsageError VIT-202, ModelError VIT-417."""
    if to not in ORIGINS:
        raise UsageError("VIT-202", f"unknown format {to!r}. {nearest(to, ORIGINS)}")
    if isinstance(config, ResNetConfig) or (
        isinstance(config, ViTConfig) and config.stem == "residual"
    ):
        raise cannot_hold(to, "its residual network for small images is vitrail's own")
    if is_flexible(config):
        raise cannot_hold(to, "it has patches of several sizes, of which --patch takes one")
    return ORIGINS[to].write(config, preprocess, classes)


def check_out(written: ExportLayout, to: str, out: Path) -> None:
    """Raise UsageError VIT-202 where OUT does not look like what is written."""
    suffix = out.suffix.lower()
    if suffix in (".pth", ".pt", ".bin", ".ckpt", ".pkl"):
        raise UsageError(
            "VIT-202",
            f"{out}: pickles are not written, because opening one can run code.",
            hint=f"{out.with_suffix('.safetensors')} can be read by safetensors.torch.load_file.",
        )
    if written.files and suffix in SUFFIXES:
        raise UsageError(
            "VIT-202",
            f"{out}: {to} is a folder with {written.weights} and {', '.join(written.files)}.",
            hint=f"Name a folder: {out.with_suffix('')}",
        )
    if not written.files and suffix != f".{written.container}":
        raise UsageError(
            "VIT-202",
            f"{out}: {to} is one file that ends in .{written.container}.",
            hint=f"Name it {out}.{written.container}",
        )


def name_of(config: ModelConfig) -> str:
    """The published size with these numbers, "vit_b16", or the family."""
    sizes = config.model_dump(exclude={"image_size", "num_classes", "channels"})
    if isinstance(config, ViTConfig) and (config.block != "pre" or not config.final_norm):
        return config.family  # the size of a published model, but another function
    for name in known_names():
        named = parse_name(name)
        if named and named.family == config.family:
            said = {key: named.fields[key] for key in named.fields if key in sizes}
            if all(_same(sizes[key], value) for key, value in said.items()) and (
                sizes.get("stem", "none") == named.fields.get("stem", "none")
                or config.family != "vit"
            ):
                return name
    return config.family


def _same(one: object, other: object) -> bool:
    as_tuple = (list, tuple)
    if isinstance(one, as_tuple) and isinstance(other, as_tuple):
        return tuple(one) == tuple(other)
    return one == other


def _check_size(header: Header, shapes: Mapping[str, Shape], max_bytes: int) -> None:
    """Raise ModelError VIT-411 before a model is filled that cannot be meant."""
    size = 4 * sum(prod(shape) for shape in shapes.values())
    if size > max_bytes:
        raise too_much(header.name, f"a model of {size} bytes", f"{max_bytes}")


def _matched(
    source: OpenTensors, header: Header, wanted: str | None, name_map: NameMap | None
) -> tuple[Match, TensorSource]:
    """The model that the file holds, and its tensors under the names that the rules know."""
    if name_map is None:
        match = recognise(header, wanted)
        return match, Unwrapped(source, match.view)
    mapped = Mapped(source, header, name_map)
    found, beside, over = recognise_mapped(mapped)
    check_over(name_map, over)
    view = View("", mapped.header, {}, ())
    return Match(view, found, MAP, beside, ()), mapped


def _with_beside(report: MappingReport, match: Match) -> None:
    """What lies outside of the model is accounted for too."""
    report.prefix = match.view.prefix
    report.unused = sorted({*report.unused, *match.unknown})
    report.left_out += match.left_out.items()
    said = match.view.header.metadata.get("torch", {})
    report.left_out += [(name, "lies next to the weights") for name in said.get("beside", ())]


def _with_given(
    header: Header, path: Path, given: Mapping[str, Any], origin: str | None
) -> tuple[Header, dict[str, Any]]:
    """The header with what is known beside the file: vitrail's own note in it, the catalogue's row
    of a download, and what the user states, which comes first.
    """
    header = with_given(header, given, Said("stated"))
    note = read_note(header, ORIGINS)
    source = Said("file", "vitrail's note")
    header = with_given(header, note.get("numbers", {}), source)
    row = catalogue_entry_at(path)
    if row is not None:
        source = Said("row", f"row of {row.name}")
        header = with_given(header, _numbers_of(row), source)
        note = {"origin": row.origin, "preprocess": row.preprocess, **note}
    if (origin or note.get("origin")) == DEIT:  # which has no model with rotary positions
        said = Said("stated", "--origin deit") if origin else source
        header = with_given(header, {"posemb": "learned"}, said)
    metadata = {**header.metadata, "origin": note.get("origin")}
    return replace(header, metadata=metadata), {"said": source, **note}


def with_known(header: Header, path: Path, given: Mapping[str, Any], origin: str | None) -> Header:
    """The header with what is stated and known beside the file."""
    return _with_given(header, path, given, origin)[0]


def _numbers_of(row: Weights) -> dict[str, Any]:
    """What a row of the catalogue says that a state dict of torch does not."""
    numbers: dict[str, Any] = {"image_size": row.image_size}
    named = parse_name(row.model)
    if named and row.origin in STATE_DICTS:
        numbers["num_heads"] = named.fields["num_heads"]
    return numbers


def _fitting(classes: tuple[str, ...], num_classes: int) -> tuple[str, ...]:
    return classes if len(classes) == num_classes == len(set(classes)) else ()


def _told(preprocess: Preprocess | None, config: ModelConfig) -> Preprocess | None:
    """What was told beside the tensors, where it makes images of the model's size."""
    size = (config.channels, *config.image_size)
    made = preprocess and (preprocess.channels, preprocess.height, preprocess.width)
    return preprocess if made == size else None


def _with_head(source: OpenTensors, head: Path | None, max_bytes: int) -> OpenTensors:
    return source if head is None else Joined(source, open_tensors(head, max_bytes=max_bytes))
