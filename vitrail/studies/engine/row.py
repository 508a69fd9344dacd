"""A finished cell of a study as a row of its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from vitrail.documents import checked

Axis = float | int | str
Place = Annotated[str, Field(pattern=r"^(runs/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99})?$")]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one cell came to.

    key: 16 hex digits of everything that decides the cell. arm: its series in the figure. axes: its
    place there, {"pictures": 1000}. values: what was measured, the same whatever computes the cell
    (test/top1, val/top1 ..., macs, parameters, examples). cost: seconds and the like, of this
    machine. run: its run directory, relative to the study's folder, "" where it has none. made:
    versions, machine, date.
    """

    key: str
    study: str
    arm: str
    axes: Mapping[str, Axis]
    seed: int
    values: Mapping[str, float]
    cost: Mapping[str, float]
    run: Place
    made: Mapping[str, str]

    def seen_as(
        self,
        arm: str,
        values: Mapping[str, float] | None = None,
        axes: Mapping[str, Axis] | None = None,
    ) -> Row:
        """The same cell in another figure: its key and seed, its own values unless others are
        given, neither cost nor run.
        """
        values = self.values if values is None else values
        return replace(self, arm=arm, axes=axes or {}, values=values, cost={}, run="", made={})

    def to_json(self) -> dict[str, Any]:
        """One line of rows.jsonl."""
        return asdict(self)

    def flat(self) -> dict[str, Axis]:
        """One line of the table: axes, values and costs beside one another."""
        return {
            "study": self.study,
            "arm": self.arm,
            **self.axes,
            "seed": self.seed,
            **self.values,
            **self.cost,
            "run": self.run,
            "key": self.key,
        }


ROW = TypeAdapter(Row)


def row_from(record: object) -> Row:
    """A Row of the object that `to_json` made. Raises TypeError or ValueError where it is none."""
    checked(record, ROW)  # its numbers stay whole or not as they are
    assert isinstance(record, dict)
    return Row(**record)
