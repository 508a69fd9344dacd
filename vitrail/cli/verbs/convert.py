"""`vitrail convert IN OUT --to FORMAT`: a checkpoint of one library becomes one of another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitrail.api.options import Format
from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output, table
from vitrail.cli.engine_options import read_patch
from vitrail.cli.read_as import ReadAs

if TYPE_CHECKING:
    from vitrail.checkpoints.mapping.rules import MappingReport

app = app_of("vitrail convert")


@app.default
def convert(
    source: Annotated[Path, Parameter(name="IN")],
    out: Path,
    /,
    *,
    to: Format,
    head: Path | None = None,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
    allow_unused: Annotated[bool, Parameter(negative=())] = False,
    patch: str | None = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Convert a model from one library's format to another's.

    Parameters
    ----------
    source
        A run or model directory, or a checkpoint: .npz, .safetensors, .pth, .pt, .bin, a folder of
        timm or Hugging Face, hf:OWNER/NAME, google:FILE.
    out
        What is written, a file or a folder by format; must not exist.
    to
        The library whose format is written.
    head
        A second file with the linear head of a DINOv2 backbone.
    allow_unused
        Leave out heads that the model is read without.
    patch
        Patch, px (8, or 8x4: height first), of a ViT that was trained for several sizes: what is
        written has one. Default: the model's patch_size, in other formats than vitrail's.
    """
    read_as = read_as or ReadAs()
    how = read_as.load_options()
    from vitrail.api.conversion import convert
    from vitrail.cli.display.progress import progress_of

    done = convert(
        source,
        out,
        to=to,
        head=head,
        allow_unused=allow_unused,
        patch=None if patch is None else read_patch(patch),
        progress=progress_of(output),
        **how,
    )
    output.result(done.to_json(), table(done.rows(), left=2))
    if output.verbose and done.report is not None and not output.json:
        for line in mapping_lines(done.report):
            output.line(line)
    return 0


def mapping_lines(report: MappingReport) -> list[str]:
    """Their tensors and ours, a rule a line."""
    rows = [(" ".join(theirs) or "-", " ".join(ours)) for theirs, ours in report.mapping]
    return table([("theirs", "ours"), *rows], left=2)
