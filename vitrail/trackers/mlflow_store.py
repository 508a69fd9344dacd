"""MLflow: runs in the local file store `mlruns/` next to the runs, experiment "vitrail".

    MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri runs/mlruns

MLflow keeps that store without developing it further, hence the variable. Its telemetry is switched
off. A run that goes on is a second run of the same name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BATCH = 100  # settings that MLflow takes at a time
LONGEST = 500  # characters of a setting


class MLflowStore:
    """Written by the package mlflow-skinny, or mlflow."""

    name = "mlflow"
    _client: Any = None
    _run_id = ""

    def begin(self, run_dir: Path, settings: Mapping[str, str], step: int) -> None:
        """Begin a run with the settings as parameters."""
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient((run_dir.absolute().parent / "mlruns").as_uri())
        found = self._client.get_experiment_by_name("vitrail")
        experiment = found.experiment_id if found else self._client.create_experiment("vitrail")
        begun = self._client.create_run(experiment, run_name=run_dir.name)
        self._run_id = begun.info.run_id
        given = [Param(key, value[:LONGEST]) for key, value in settings.items()]
        for first in range(0, len(given), BATCH):
            self._client.log_batch(self._run_id, params=given[first : first + BATCH])

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """One metric a figure."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in figures.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        """The figures of the test split, and whether the run came to its end."""
        self.log(0, figures)
        self._client.set_terminated(self._run_id, "FINISHED" if status == "finished" else "KILLED")
