"""`vitrail models [NAME]`: what an architecture costs, from closed formulas, and which published
weights there are for it, without loading torch; or what a file holds (`inspect_file.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output, table
from vitrail.cli.read_as import ReadAs
from vitrail.errors import refuse_without_effect
from vitrail.spelling import count

if TYPE_CHECKING:
    pass

app = app_of("vitrail models")
CLASSES = 1000
BATCH = 32


@app.default
def models(
    name: str | None = None,
    /,
    *,
    image_size: str | None = None,
    classes: int = CLASSES,
    weights: Annotated[bool, Parameter(negative=())] = False,
    get: str | None = None,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Parameters, multiply-adds and tokens of every architecture, or of one; published weights.

    Parameters
    ----------
    name
        For instance vit_b16, ViT-B/16, vit_ti4, r50_vit_b16, bit_r50x1, cct_7_3x1; the name of
        weights; or a file or folder: what it holds and how it would be read (exit 4: not as it is).
    image_size
        Pixels: 224, or 192x256 (height first). Default: that of the architecture.
    classes
        Outputs of the head.
    weights
        List published weights instead: of every architecture, or of one.
    get
        Download weights, or check those that are here: a name of the list, google:FILE,
        hf:OWNER/NAME.
    """
    from vitrail.api.model_list import cost_record, rows_of, weights_record
    from vitrail.checkpoints.catalogue.weights import CATALOGUE
    from vitrail.cli import weights as published
    from vitrail.models.names import known_names

    is_file = get is None and name is not None and _is_place(name)
    is_list = get is not None or weights or name in CATALOGUE
    use = "with --get" if get is not None else "with --weights" if weights else f"with {name}"
    use = use if is_list or name is not None else "without a FILE"
    hint = "Leave it out; vitrail models --help says what it belongs to."
    if not is_file:
        refuse_without_effect((read_as or ReadAs()).given(), use, hint)
    if is_file or is_list:
        cost = {"--image-size": image_size is not None, "--classes": classes != CLASSES}
        refuse_without_effect(cost, use, hint)
    if get is not None:
        refuse_without_effect({"NAME": name is not None, "--weights": weights}, use, hint)
    if is_file:
        refuse_without_effect({"--weights": weights}, use, hint)
    if get is not None:
        record = published.get(get, output)
        output.result(record, published.get_lines(record))
        return 0
    if name is not None and _is_place(name):
        from vitrail.cli.inspect_file import inspect_file

        return inspect_file(Path(name), read_as or ReadAs(), output)
    if name in CATALOGUE:
        row = CATALOGUE[name]
        output.result(weights_record(row), published.weights_lines(row))
        return 0
    if name is not None:
        record = cost_record(name, image_size, classes)
        rows = rows_of(name)
        record["weights"] = [weights_record(row) for row in rows]
        sources = published.weights_table(rows) if rows else ["no published weights are known"]
        lines = sources if weights else [*detail_lines(record), "", *sources]
        output.result(record["weights"] if weights else record, lines)
        return 0
    if weights:
        rows = rows_of(None)
        listed = [weights_record(row) for row in rows]
        output.result(listed, published.weights_table(rows))
        return 0
    records = [cost_record(variant, image_size, classes) for variant in known_names()]
    head = [*"model image stem patch tokens layers width heads".split(), "M params", "GMACs"]
    output.result(records, table([head, *(row_of(record) for record in records)]))
    return 0


def _is_place(name: str) -> bool:
    """Whether a file or folder is meant: it exists, or ends as a checkpoint does."""
    endings = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".safetensors", ".npz")
    return Path(name).exists() or name.endswith(endings)


def by(pair: list[int] | None) -> str:
    """16 for (16, 16), 16x32 for (16, 32)."""
    if pair is None:
        return "-"
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def stem_text(stem: list[int] | None) -> str:
    """Units of each residual stage, or the number of convolutions."""
    if stem is None:
        return "-"
    return "+".join(map(str, stem)) or "root"


def network_rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    """What the network is, for people."""
    grid = f"{record['grid'][0]} x {record['grid'][1]}"
    if record["family"] in ("bit", "resnet"):
        stages = (
            f"{count(record['depth'], 'layer')}, units of the stages {stem_text(record['stem'])}"
        )
        return [
            ("network", f"{stages}, root of {count(record['width'], 'channel')}"),
            ("last map", grid),
        ]
    stem = [] if record["stem"] is None else [("stem", stem_text(record["stem"]))]
    heads = count(record["num_heads"], "head")
    encoder = f"{count(record['depth'], 'layer')}, width {record['width']}, {heads}"
    return [
        *stem,
        ("patch", f"{by(record['patch_size'])}, grid {grid}"),
        ("tokens", str(record["tokens"])),
        ("encoder", f"{encoder}, mlp {record['mlp_dim']}"),
    ]


def row_of(record: dict[str, Any]) -> list[str]:
    """One row of the table."""
    sizes = [by(record["image_size"]), stem_text(record["stem"]), by(record["patch_size"])]
    counts = [str(record[name] or "-") for name in ("tokens", "depth", "width", "num_heads")]
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
        ("image", f"{by(record['image_size'])} pixels, {count(record['num_classes'], 'class')}"),
        *network_rows(record),
        ("parameters", f"{record['parameters']:,}"),
        ("multiply-adds", f"{record['macs'] / 1e9:,.3f} G an image"),
        (
            "training",
            f"about {record['activation_bytes'] / 1e9:,.2f} GB of activations at batch {BATCH}",
        ),
    ]
    return [f"{key:<14} {value}" for key, value in rows]
