"""`vitrail models FILE`: what a checkpoint holds, where every number is from, how to convert it."""

from __future__ import annotations

from pathlib import Path

from vitrail.cli.display.output import Output, table
from vitrail.cli.read_as import ReadAs

NOT_CONVERTIBLE = 4


def inspect_file(path: Path, read_as: ReadAs, output: Output) -> int:
    """Print what is at `path`; 0 where it could be converted as it stands, otherwise 4."""
    from vitrail.api.conversion import inspected
    from vitrail.checkpoints.inspection import ReadingOptions

    found = inspected(path, ReadingOptions(read_as.settings, read_as.origin, read_as.table))
    output.result(found.to_json(), table(found.rows(), left=2))
    return 0 if found.is_convertible else NOT_CONVERTIBLE
