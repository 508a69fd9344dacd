"""The runs of a folder, as a list that a notebook shows as a table."""

from __future__ import annotations

from pathlib import Path

from vitrail.errors import UsageError
from vitrail.notebook import show, table
from vitrail.runs.listing import RunEntry, list_runs
from vitrail.spelling import count

DEFAULT = Path("runs")
UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
HEAD = ("run", "status", "data", "model", "top-1", "changed")


class Runs(list[RunEntry]):
    """Entries, newest first."""

    def rows(self) -> list[list[str]]:
        """A row of texts for each, as `HEAD` names them."""
        return [
            [one.name, one.status, one.data, one.model, figure_of(one), ago(one.age_secs)]
            for one in self
        ]

    def show(self) -> None:
        """Show the table in the notebook; elsewhere print a line a run."""
        told = [(row[0], ", ".join(row[1:])) for row in self.rows()]
        show(self, [(count(len(self), "run"), ", ".join(HEAD[1:])), *told])

    def __repr__(self) -> str:
        lines = [", ".join(row) for row in self.rows()]
        return "\n".join([count(len(self), "run"), *lines])

    def _repr_html_(self) -> str:
        return table(self.rows(), head=HEAD, title=count(len(self), "run"))


def runs(folder: str | Path = DEFAULT) -> Runs:
    """The runs of a folder, newest first; `folder` itself where it is a run. Each has `name`,
    `path`, `status` (finished, running, interrupted, stopped, failed, damaged), `data`, `model`,
    `best` (top-1, 0 to 1, on the split `judged`), `age_secs` and `note`.

    Raises UsageError VIT-202 where there is no such folder; "runs" itself may be missing.
    """
    try:
        return Runs(list_runs(Path(folder)))
    except FileNotFoundError as error:
        if Path(folder) != DEFAULT:
            raise UsageError("VIT-202", str(error), hint="List those here: vitrail runs") from error
        return Runs()


def figure_of(entry: RunEntry) -> str:
    """Its best top-1 and the split that was judged, or a dash."""
    return "-" if entry.best is None else f"{entry.best:.4f} {entry.judged}"


def ago(seconds: float) -> str:
    """3 h ago."""
    unit, size = next((one for one in UNITS if seconds >= one[1]), UNITS[-1])
    return f"{int(seconds // size)} {unit} ago"
