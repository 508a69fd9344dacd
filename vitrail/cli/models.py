"""`vitrail models [NAME]`: what an architecture costs, from closed formulas; no torch is loaded."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.output import Output, table

app = app_of("vitrail models")
BATCH = 32


@app.default
def models(
    name: str | None = None,
    /,
    *,
    image_size: str | None = None,
    classes: int = 1000,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Parameters, multiply-adds and tokens of every architecture, or of one.

    Parameters
    ----------
    name
        A size and patch: vit_b16, ViT-B/16, vit_ti4.
    image_size
        Pixels: 224, or 192x256 (height first). Default: that of the architecture.
    classes
        Outputs of the head.
    """
    from vitrail.models.configs import known_names

    if name is not None:
        record = cost_record(name, image_size, classes)
        output.result(record, detail_lines(record))
        return 0
    records = [cost_record(variant, image_size, classes) for variant in known_names()]
    head = ("model", "image", "patch", "tokens", "layers", "width", "heads", "M params", "GMACs")
    output.result(records, table([head, *(row_of(record) for record in records)]))
    return 0


def cost_record(name: str, image_size: str | None, classes: int) -> dict[str, Any]:
    """One architecture as numbers. Raises UsageError VIT-202, VIT-214, VIT-221."""
    from vitrail.config import parse_size
    from vitrail.errors import UsageError
    from vitrail.models.configs import resolve_model
    from vitrail.models.cost import activation_bytes, macs, parameters

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
        "image_size": list(config.image_size),
        "patch_size": list(config.patch_size),
        "grid": list(config.grid),
        "tokens": config.num_tokens,
        "depth": config.depth,
        "width": config.width,
        "num_heads": config.num_heads,
        "mlp_dim": config.mlp_dim,
        "num_classes": classes,
        "parameters": parameters(config),
        "macs": macs(config),
        "activation_bytes": activation_bytes(config, BATCH),
        "activation_batch": BATCH,
    }


def by(pair: list[int]) -> str:
    """16 for (16, 16), 16x32 for (16, 32)."""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def row_of(record: dict[str, Any]) -> list[str]:
    """One row of the table."""
    sizes = [by(record["image_size"]), by(record["patch_size"])]
    counts = [str(record[name]) for name in ("tokens", "depth", "width", "num_heads")]
    return [
        record["name"],
        *sizes,
        *counts,
        f"{record['parameters'] / 1e6:,.2f}",
        f"{record['macs'] / 1e9:,.2f}",
    ]


def detail_lines(record: dict[str, Any]) -> list[str]:
    """One architecture, a number a line."""
    rows = [
        ("model", record["name"]),
        ("image", f"{by(record['image_size'])} pixels, {record['num_classes']} classes"),
        ("patch", f"{by(record['patch_size'])}, grid {record['grid'][0]} x {record['grid'][1]}"),
        ("tokens", str(record["tokens"])),
        (
            "encoder",
            f"{record['depth']} layers, width {record['width']}, {record['num_heads']} heads, "
            f"mlp {record['mlp_dim']}",
        ),
        ("parameters", f"{record['parameters']:,}"),
        ("multiply-adds", f"{record['macs'] / 1e9:,.3f} G a picture"),
        (
            "training",
            f"about {record['activation_bytes'] / 1e9:,.2f} GB of activations at batch {BATCH}",
        ),
    ]
    return [f"{key:<14} {value}" for key, value in rows]
