"""How a MODEL of another library is to be read: what its file does not say, as options.

`predict`, `eval`, `explain`, `probe`, `train --from` and `convert` take the same ones, and print
the same lines of what was stated, certain and assumed (`told.py`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vitrail.cli.display.output import Output
from vitrail.cli.engine_options import EngineOptions
from vitrail.errors import check_numbers

if TYPE_CHECKING:
    from vitrail.classifier import Classifier


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadAs:
    """What a checkpoint of another library does not say."""

    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = ()
    """A field of the architecture that a checkpoint does not say, e.g. num_heads=6."""
    origin: str | None = None
    """Read the checkpoint as a file of this library. Default: detected from the tensors."""
    table: str | None = None
    """Which weights of a training file, e.g. model_ema. Default: the first usual name."""
    name_map: Annotated[Path | None, Parameter(name="--map")] = None
    """A TOML file with the names of a home-made model (docs/checkpoints.md)."""

    def given(self) -> dict[str, bool]:
        """Of each option, by its name, whether it was given."""
        values = {"--set": self.settings, "--origin": self.origin, "--table": self.table}
        return {name: bool(value) for name, value in values.items()} | {
            "--map": self.name_map is not None
        }

    def load_options(self) -> dict[str, Any]:
        """As `vitrail.load` takes them. Raises UsageError VIT-202, VIT-211."""
        from vitrail.checkpoints.mapping.stated import read_settings

        return {
            "given": read_settings(self.settings),
            "origin": self.origin,
            "table": self.table,
            "name_map": None if self.name_map is None else str(self.name_map),
        }


def load(
    model: Path,
    read_as: ReadAs | None,
    output: Output,
    *,
    device: Any = "cpu",
    engine: EngineOptions | None = None,
    batch: int = 1,
    streams: int = 1,
) -> Classifier:
    """The classifier, with what its file does not say told on stderr, by the engine that
    `vitrail.load` takes unless one is given. batch: images that will come at a time; streams:
    batches at a time.

    Raises what `vitrail.load` raises, and UsageError VIT-202, VIT-211.
    """
    from vitrail.classifier import load as load_classifier
    from vitrail.cli.display.progress import progress_of
    from vitrail.cli.display.told import tell

    engine = engine or EngineOptions(engine=None)
    if engine.threads is not None:
        check_numbers({"--threads": engine.threads})
    classifier = load_classifier(
        model,
        device=device,
        engine=engine.engine,
        precision=engine.precision,
        threads=engine.threads,
        batch=batch,
        streams=streams,
        progress=progress_of(output),
        tokens=engine.tokens,
        patch=engine.patch_px,
        **(read_as or ReadAs()).load_options(),
    )
    tell(classifier, output)
    return classifier
