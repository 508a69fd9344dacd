"""What a table of many answers is asked of: a model, how it was loaded, who computes the parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vitrail.batch_prediction.parts import Images, parts_of
from vitrail.batch_prediction.predict_parts import Compute, OnThisMachine, Result, predict_parts
from vitrail.classifier import Classifier
from vitrail.errors import UsageError
from vitrail.spelling import as_utf8
from vitrail.studies.results.tables import require_pyarrow

TABLES = (".csv", ".jsonl", ".parquet")
PART_ROWS = 10_000
Tell = Callable[[str, int, int], None]  # what, rows done, of all


@dataclass(frozen=True)
class InParts:
    """Images of a part; who computes them: this machine, or a cluster at an address."""

    rows: int
    cluster: Literal["ray"] | None = None
    ray_address: str = "auto"


@dataclass(frozen=True)
class TableOrder:
    """A model, how it was loaded, and what is asked of it; options: as `vitrail.load` has them."""

    model: str | Path
    options: Mapping[str, Any]
    classifier: Classifier
    top: int
    batch_size: int

    def write(self, images: Images, out: Path, how: InParts, tell: Tell) -> Result:
        """Write `out` by parts; those that are there already are left as they are. tell: hears
        (what, done, total).
        """
        asked = {"identity": self.classifier.identity, "top": self.top}
        compute: Compute = OnThisMachine(self.classifier, self.top, self.batch_size)
        if how.cluster is not None:
            compute = self._on_ray(how, out)
        engine = self.classifier.runtime.info.engine
        about = {"model": as_utf8(str(self.model)), "engine": engine, **asked}
        given = {name: self.options.get(name) for name in ("tokens", "patch")}
        about |= {name: one for name, one in given.items() if one is not None}
        tell("parts that are there", 0, len(images.paths))
        parts = parts_of(images, how.rows, asked)
        return predict_parts(out, parts, about, compute, lambda *now: tell("images", *now))

    def _on_ray(self, how: InParts, out: Path) -> Compute:
        """The nodes of a cluster; each loads the model for itself, and computes on one thread."""
        from vitrail.batch_prediction import ray_parts

        info = self.classifier.runtime.info
        own: dict[str, Any] = {"engine": info.engine, "precision": info.precision}
        own |= {"threads": self.options.get("threads") or 1}
        own |= {"batch": min(self.batch_size, how.rows)}
        order = ray_parts.Order(
            os.fspath(self.model),
            {"device": "auto", **self.options, **own},
            self.classifier.identity,
            self.top,
            self.batch_size,
            os.getcwd(),
            os.fspath(out),
        )
        return ray_parts.OnRay(order, how.ray_address)


def check_table(out: Path) -> None:
    """Raise UsageError VIT-202 for an unknown kind of table; EnvironmentFault VIT-520 for Parquet
    without its library.
    """
    if out.suffix.lower() == ".parquet":
        require_pyarrow()
    if out.suffix.lower() not in TABLES:
        raise UsageError(
            "VIT-202",
            f"--out {out}: expected a name ending in {', '.join(TABLES)}, "
            f"got {out.suffix or 'none'}.",
            hint=f"For instance --out {out.with_suffix('.csv')}",
        )
