"""TensorBoard: event files in `tensorboard/` of the run; `tensorboard --logdir runs` shows all.

A run that goes on has a second file, which takes back what the first one knows from there on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TensorBoardFiles:
    """Written by torch with the package tensorboard."""

    name = "tensorboard"
    _writer: Any = None

    def begin(self, run_dir: Path, settings: Mapping[str, str], step: int) -> None:
        """Open an event file, with the settings as a table."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step)
        lines = [f"| {key} | {value} |" for key, value in settings.items()]
        self._writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *lines]))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """One scalar a figure."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        """The figures of the test split, and the end of the file."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, 0)
        self._writer.add_text("status", status)
        self._writer.close()
