"""Jobs on a Ray cluster (extra "ray"). Every node needs vitrail, and sees the study's folder and
the data at the same paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import chdir
from typing import Any

from vitrail.errors import EnvironmentFault, VitrailError, lacking
from vitrail.studies.engine.job import Job
from vitrail.studies.engine.processes import STOP_SECS, Event, revived


def on_ray(record: dict[str, Any]) -> dict[str, Any]:
    """What a node does: the job of `record`; an error comes back as plain data."""
    from vitrail.studies.engine.job import run_job
    from vitrail.studies.engine.worker import described

    try:
        return {"row": run_job(Job.from_json(record), lambda share: None)}
    except Exception as error:
        return {"error": described(error)}


class RayEngine:
    """Every job asks for `cpus` cores and `gpus` GPUs of the cluster at `address` ("auto": the one
    this machine belongs to; "local": a new one on this machine).
    """

    def __init__(self, address: str = "auto", cpus: int = 1, gpus: int = 0) -> None:
        self._ray = connect(address, hint="use --engine local")
        self._needs = {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}
        self._remote = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(on_ray)
        self._running: dict[Any, Job] = {}
        if self._room() == 0:
            self._ray.shutdown()
            raise EnvironmentFault(
                "VIT-511",
                f"no machine of the Ray cluster at {address!r} has {cpus} cores and {gpus} GPUs.",
                hint="Use fewer --threads, or --device cpu",
            )

    def _room(self) -> int:
        """Jobs that fit into the machines of the cluster, each into one."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return sum(
            min(int(node.get(name, 0) // number) for name, number in self._needs.items())
            for node in nodes
        )

    @property
    def free(self) -> int:
        """Jobs that the cluster still has room for; 1 at least, which waits for a machine."""
        return max(1, self._room()) - len(self._running)

    def start(self, job: Job) -> None:
        """Hand `job` to the cluster."""
        self._running[self._remote.remote(job.to_json())] = job

    def events(self, max_secs: float) -> Iterator[Event]:
        """Jobs that have ended."""
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=max_secs)
        for reference in ended:
            job = self._running.pop(reference)
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                yield Event("failed", job.key, error=_lost(job, error))
                continue
            if "error" in answer:
                yield Event("failed", job.key, error=revived(answer["error"]))
            else:
                yield Event("done", job.key, row=answer["row"])

    def close(self) -> None:
        """Ask running jobs to write a checkpoint, wait for it, let go of the cluster."""
        running = list(self._running)
        for reference in running:
            self._ray.cancel(reference)  # a KeyboardInterrupt there: `control.signals` catches it
        if running:
            self._ray.wait(running, num_returns=len(running), timeout=STOP_SECS)
        for reference in running:
            self._ray.cancel(reference, force=True)
        self._ray.shutdown()


def _lost(job: Job, error: Exception) -> VitrailError:
    return EnvironmentFault(
        "VIT-510",
        f"the process that computed {job.arm}, seed {job.seed} was lost: {error}",
        hint="Repeat the command to continue.",
    )


def connect(address: str, *, hint: str) -> Any:
    """The module ray, connected to the cluster at `address`; hint: the way out without one.

    Raises EnvironmentFault VIT-511 where there is none, VIT-520 without the package.
    """
    ray = _import_ray()
    try:
        with chdir(os.sep):  # its workers would import from the working directory first
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, ray.exceptions.RayError) as error:
        # ValueError: no address at all; RayError: nobody answers there
        raise EnvironmentFault(
            "VIT-511",
            f"no Ray cluster at {address!r}: {error}",
            hint="Start one: ray start --head, and on the other machines "
            f"ray start --address HOST:6379; or {hint}",
        ) from error
    return ray


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise lacking("computing on a Ray cluster", "ray", "ray") from error
    return ray
