"""Architectures and what they cost by closed formulas; published weights: listed, downloaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from vitrail.checkpoints.catalogue.meant import way_out
from vitrail.checkpoints.catalogue.weights import CATALOGUE, ROWS, Weights
from vitrail.checkpoints.hub.download import Progress, cached_path, verify
from vitrail.checkpoints.hub.resolve import address_of, catalogue_entry, resolve_weights
from vitrail.errors import UsageError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.cost import activation_bytes, macs, parameters
from vitrail.models.names import ModelConfig, known_names, parse_name, resolve_model
from vitrail.models.resnet.config import ResNetConfig
from vitrail.notebook import Shown, show, table
from vitrail.setting_values import parse_size
from vitrail.spelling import count

BATCH = 32
ImageSize: TypeAlias = int | tuple[int, int] | str


class Records(list[dict[str, Any]]):
    """Objects of `vitrail models --json`, one for each architecture or file of weights."""

    columns: tuple[str, ...] = ()
    what = "record"

    def show(self) -> None:
        """Show the table in the notebook; elsewhere print a line a record."""
        lines = [list(map(str, self._cells(one))) for one in self]
        told = [(name, ", ".join(rest)) for name, *rest in lines]
        show(self, [(count(len(self), self.what), ", ".join(self.columns[1:])), *told])

    def __repr__(self) -> str:
        head = ", ".join(self.columns)
        lines = (", ".join(map(str, self._cells(one))) for one in self)
        return "\n".join([f"{count(len(self), self.what)}: {head}", *lines])

    def _repr_html_(self) -> str:
        rows = [self._cells(one) for one in self]
        return table(rows, head=self.columns, title=count(len(self), self.what))

    def _cells(self, record: dict[str, Any]) -> list[object]:
        return [record[name] for name in self.columns]


class Models(Records):
    """Architectures: name, family, image_size (height, width), tokens, depth, width, parameters,
    macs (multiply-adds of an image) and what else `vitrail models --json` has.
    """

    columns = ("name", "image_size", "tokens", "depth", "width", "parameters", "macs")
    what = "model"


class PublishedWeights(Records):
    """Published weights: name, model, origin, address, image_size, num_classes, trained_on, top1
    (percent, as published), licence, sha256, downloaded (the file, or None).
    """

    columns = ("name", "origin", "image_size", "num_classes", "top1", "licence")
    what = "file of weights"


@dataclass(frozen=True)
class Downloaded(Shown):
    """Weights in the cache. path: a file, or the folder of several; sha256: of a file."""

    name: str
    address: str
    path: Path
    bytes: int
    sha256: str | None
    licence: str | None

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        found = [("weights", self.name), ("from", self.address)]
        found.append(("file", f"{self.path}, {self.bytes / 1e6:,.1f} MB"))
        more = {"sha256": self.sha256, "licence": self.licence}
        return found + [(name, value) for name, value in more.items() if value is not None]

    def to_json(self) -> dict[str, Any]:
        """The object of `vitrail models --get --json`."""
        return {**asdict(self), "path": str(self.path)}


def models(
    name: str | None = None, *, image_size: ImageSize | None = None, classes: int = 1000
) -> Models:
    """Parameters, multiply-adds and tokens of every architecture, or of one.

    name: in any spelling, vit_b16 or ViT-B/16. image_size: px of a side, or (height, width); that
    of the architecture unless given. classes: outputs of the head, 0 for none.

    Raises UsageError VIT-202, VIT-214, VIT-221.
    """
    names = known_names() if name is None else [name]
    return Models(cost_record(one, image_size, classes) for one in names)


def weights(name: str | None = None) -> PublishedWeights:
    """Published weights: of every architecture, of one, or one file by its name in the catalogue.

    Raises UsageError VIT-221 for an unknown name. Nothing is downloaded.
    """
    if name in CATALOGUE:
        return PublishedWeights([weights_record(CATALOGUE[name])])
    return PublishedWeights(map(weights_record, rows_of(name)))


def download(name: str, *, progress: Progress | None = None) -> Downloaded:
    """Published weights in the cache, downloaded unless they are there, and checked.

    name: one of the catalogue, google:FILE or hf:OWNER/NAME. progress: hears (what, bytes so far,
    bytes in all or None).

    Raises UsageError VIT-202 for a path; ModelError VIT-460 to VIT-467; EnvironmentFault VIT-520,
    VIT-530 to VIT-535.
    """
    address = address_of(name)
    if not address:
        raise UsageError(
            "VIT-202",
            f"--get {name}: expected a name of the catalogue, google:FILE or hf:OWNER/NAME.",
            hint=way_out(name) or "All weights: vitrail models --weights",
        )
    row = catalogue_entry(address)
    place = resolve_weights(name, progress=progress)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    expected = row.sha256_start if row else ""
    sha256 = None if place.is_dir() else verify(place, expected)
    size = sum(file.stat().st_size for file in files)
    return Downloaded(name, address, place, size, sha256, row.licence if row else None)


def rows_of(model: str | None) -> list[Weights]:
    """Published weights of an architecture in any of its spellings, or all of them."""
    wanted = parse_name(model) if model else None
    return [row for row in ROWS if model is None or parse_name(row.model) == wanted]


def weights_record(row: Weights) -> dict[str, Any]:
    """One row as plain values. downloaded: the file, where it is in the cache; null where it is
    not, or lies in the hub's own cache.
    """
    is_hub = row.address.startswith("hf:")
    place = None if is_hub else cached_path(row.address)
    return {
        "name": row.name,
        "model": row.model,
        "origin": row.origin,
        "address": row.address,
        "image_size": list(row.image_size),
        "num_classes": row.num_classes,
        "trained_on": row.trained_on,
        "top1": row.top1,
        "reported_by": row.reported_by or None,
        "licence": row.licence,
        "sha256": row.sha256_start or None,
        "preprocess": row.preprocess.to_json() if row.preprocess else None,
        "downloaded": str(place) if place and place.is_file() else None,
    }


def cost_record(name: str, image_size: ImageSize | None, classes: int) -> dict[str, Any]:
    """One architecture as numbers. Raises UsageError VIT-202, VIT-214, VIT-221."""
    size = parse_size(image_size) if image_size else None
    if image_size and not isinstance(size, tuple):
        raise UsageError(
            "VIT-202",
            f"--image-size {image_size}: expected 224 or 192x256 (height first).",
            hint="For instance --image-size 224",
        )
    if classes < 0:
        raise UsageError(
            "VIT-202",
            f"--classes {classes}: expected a number from 0.",
            hint="0 is a model without a head",
        )
    config = resolve_model(name, num_classes=classes, image_size=size)  # type: ignore[arg-type]
    return {
        "name": name,
        "family": config.family,
        "image_size": list(config.image_size),
        **shape_of(config),
        "num_classes": classes,
        "parameters": parameters(config),
        "macs": macs(config),
        "activation_bytes": activation_bytes(config, BATCH),
        "activation_batch": BATCH,
    }


def shape_of(config: ModelConfig) -> dict[str, Any]:
    """Sizes inside the network; None for what a family does not have. `grid` of a ResNet is its
    last feature map, `depth` its number of layers, `width` that of its root."""
    if isinstance(config, BiTConfig):
        none = dict.fromkeys(("patch_size", "tokens", "num_heads", "mlp_dim"))
        depth = 3 * sum(config.depths) + 2
        sizes = {"stem": list(config.depths), "grid": list(config.map_size)}
        return none | sizes | {"depth": depth, "width": config.stem_width}
    if isinstance(config, ResNetConfig):
        none = dict.fromkeys(("patch_size", "tokens", "num_heads", "mlp_dim"))
        sizes = {"stem": list(config.depths), "grid": list(config.map_size)}
        return none | sizes | {"depth": len(config.convs) + 1, "width": config.stem_width}
    stems = {
        "residual": list(config.stem_depths),
        "none": None,
        "resnet": list(config.stem_stages),
        "conv": [config.stem_convs],
    }
    return {
        "stem": stems[config.stem],
        "patch_size": list(config.patch_size),
        "grid": list(config.grid),
        "tokens": config.num_tokens,
        **({} if config.max_patches is None else {"max_patches": config.max_patches}),
        "depth": config.depth,
        "width": config.width,
        "num_heads": config.num_heads,
        "mlp_dim": config.mlp_dim,
    }
