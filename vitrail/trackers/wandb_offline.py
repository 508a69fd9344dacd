"""Weights & Biases, offline: files in `wandb/` next to the runs, project "vitrail".

Nothing is sent, whatever the environment says; `wandb sync runs/wandb/offline-run-...` sends a run
where its owner wants that. What W&B would find out about the machine and the code by itself is not
asked for. A run that goes on is a second run of the same name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class WandbOffline:
    """Written by the package wandb."""

    name = "wandb"
    _run: Any = None

    def begin(self, run_dir: Path, settings: Mapping[str, str], step: int) -> None:
        """Begin an offline run with the settings as its configuration."""
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb

        self._run = wandb.init(
            project="vitrail",
            name=run_dir.name,
            dir=str(run_dir.absolute().parent),
            config=dict(settings),
            mode="offline",
            settings=wandb.Settings(
                mode="offline",
                silent=True,
                console="off",
                disable_code=True,
                disable_git=True,
                x_disable_meta=True,
                x_disable_stats=True,
            ),
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """The figures of a step."""
        self._run.log(dict(figures), step=step)

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        """The figures of the test split as the run's summary, and its end."""
        self._run.summary.update({**figures, "status": status})
        self._run.finish(exit_code=0 if status == "finished" else 1)
