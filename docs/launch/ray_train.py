"""A run on a Ray cluster: a torchrun on each of N machines, which Ray finds, reserves and watches.

    python ray_train.py 4 8 photos/ --out /shared/runs --name big --resume-or-start

The first two words are machines and processes a machine, the others those of `vitrail train`. Ray
starts nothing inside the processes: they are those that torchrun starts. Where a machine is
lost the whole group is started again, by the same command, and the run goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

PORT = 29500
RESTARTS = 10  # of the whole group


def torchrun(nodes: int, processes: int, head: str, words: Sequence[str]) -> list[str]:
    """The command of one machine."""
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes", str(nodes), "--nproc-per-node", str(processes)),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{head}:{PORT}"),
        *("--max-restarts", "3", "--signals-to-handle", "SIGTERM,SIGINT,SIGUSR1"),
        *("--shutdown-timeout", "300", "-m", "vitrail", "train"),
        *words,
    ]


def on_this_machine(line: Sequence[str]) -> int:
    """Run a command here; its exit code."""
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return subprocess.run(line, env=environment, check=False).returncode  # noqa: S603


def main(nodes: int, processes: int, words: Sequence[str]) -> int:
    """Reserve the machines, start a torchrun on each, start all again where one is lost."""
    import ray
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    ray.init()
    group = placement_group([{"GPU": processes}] * nodes, strategy="STRICT_SPREAD")
    ray.get(group.ready())
    places = [PlacementGroupSchedulingStrategy(group, index) for index in range(nodes)]
    address = ray.remote(num_gpus=0)(ray.util.get_node_ip_address)
    task = ray.remote(num_gpus=processes, max_retries=0)(on_this_machine)
    for _ in range(RESTARTS + 1):
        head = ray.get(address.options(scheduling_strategy=places[0]).remote())
        line = torchrun(nodes, processes, head, words)
        started = [task.options(scheduling_strategy=place).remote(line) for place in places]
        try:
            return max(ray.get(started))
        except ray.exceptions.RayError as error:
            sys.stderr.write(f"a machine is gone ({type(error).__name__}): all again\n")
            for one in started:
                ray.cancel(one, force=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
