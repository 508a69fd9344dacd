"""Limits of containers and batch systems, from simulated files of the kernel."""

from __future__ import annotations

import pytest

from vitrail import device
from vitrail.system import containers

GB = 2**30
V1 = "/sys/fs/cgroup"
HOST = "/docker/abc/def"
MOUNTS_V1 = (
    "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "31 25 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:10 - cgroup cgroup rw,memory\n"
)
CPU = {  # what the kernel shows -> CPUs
    "none": ({}, None),
    "v2 of a container": ({f"{V1}/cpu.max": "150000 100000\n"}, 1.5),
    "v2 without a limit": ({f"{V1}/cpu.max": "max 100000\n"}, None),
    "v2 below the root": (
        {
            "/proc/self/cgroup": "0::/system.slice/job.service\n",
            f"{V1}/system.slice/job.service/cpu.max": "200000 100000\n",
        },
        2.0,
    ),
    "v2, the smallest on the way counts": (
        {
            "/proc/self/cgroup": "0::/slurm/job_7/step_0/task_1\n",
            f"{V1}/slurm/job_7/step_0/task_1/cpu.max": "max 100000\n",
            f"{V1}/slurm/job_7/step_0/cpu.max": "800000 100000\n",
            f"{V1}/slurm/job_7/cpu.max": "300000 100000\n",
            f"{V1}/slurm/cpu.max": "6400000 100000\n",
        },
        3.0,
    ),
    "v2 mounted elsewhere": (
        {
            "/proc/self/cgroup": "0::/job\n",
            "/groups/job/cpu.max": "100000 50000\n",
            "/proc/self/mountinfo": "35 24 0:30 / /groups rw - cgroup2 cgroup2 rw\n",
        },
        2.0,
    ),
    "v2, only a part of the tree is mounted": (
        {
            "/proc/self/cgroup": "0::/docker/abc/inner\n",
            "/proc/self/mountinfo": "35 24 0:30 /docker/abc /sys/fs/cgroup rw - cgroup2 c rw\n",
            f"{V1}/inner/cpu.max": "max 100000\n",
            f"{V1}/cpu.max": "400000 100000\n",
        },
        4.0,
    ),
    "v2, outside of what is seen": (
        {"/proc/self/cgroup": "0::/../../other\n", f"{V1}/cpu.max": "100000 100000\n"},
        1.0,
    ),
    "v1 of a container": (
        {
            "/proc/self/cgroup": f"4:cpu,cpuacct:{HOST}\n",
            f"{V1}/cpu/cpu.cfs_quota_us": "100000\n",
            f"{V1}/cpu/cpu.cfs_period_us": "100000\n",
        },
        1.0,
    ),
    "v1 without a limit": (
        {
            "/proc/self/cgroup": "4:cpu,cpuacct:/\n",
            f"{V1}/cpu/cpu.cfs_quota_us": "-1\n",
            f"{V1}/cpu/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
    "v1, a batch system": (
        {
            "/proc/self/cgroup": "3:memory:/slurm/7/step\n4:cpu,cpuacct:/slurm/7/step\n",
            "/proc/self/mountinfo": MOUNTS_V1,
            f"{V1}/cpu,cpuacct/slurm/7/step/cpu.cfs_quota_us": "-1\n",
            f"{V1}/cpu,cpuacct/slurm/7/step/cpu.cfs_period_us": "100000\n",
            f"{V1}/cpu,cpuacct/slurm/7/cpu.cfs_quota_us": "250000\n",
            f"{V1}/cpu,cpuacct/slurm/7/cpu.cfs_period_us": "100000\n",
        },
        2.5,
    ),
    "v1 beside v2": (
        {
            "/proc/self/cgroup": "4:cpu,cpuacct:/job\n0::/job\n",
            f"{V1}/cpu,cpuacct/job/cpu.cfs_quota_us": "300000\n",
            f"{V1}/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            "/proc/self/mountinfo": MOUNTS_V1
            + "32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            f"{V1}/unified/job/cpu.max": "max 100000\n",
        },
        3.0,
    ),
}
MEMORY = {
    "none": ({}, None),
    "v2 of a container": (
        {
            f"{V1}/memory.max": f"{2 * GB}\n",
            f"{V1}/memory.current": f"{GB}\n",
            f"{V1}/memory.stat": f"anon 5\ninactive_file {GB // 4}\n",
        },
        GB + GB // 4,
    ),
    "v2 below the root, the smallest rest counts": (
        {
            "/proc/self/cgroup": "0::/user/run\n",
            f"{V1}/user/run/memory.max": "max\n",
            f"{V1}/user/run/memory.current": f"{GB}\n",
            f"{V1}/user/memory.max": f"{8 * GB}\n",
            f"{V1}/user/memory.current": f"{7 * GB}\n",
            f"{V1}/memory.max": f"{64 * GB}\n",
            f"{V1}/memory.current": f"{9 * GB}\n",
        },
        GB,
    ),
    "v2, throttled before it is full": (
        {
            "/proc/self/cgroup": "0::/run\n",
            f"{V1}/run/memory.max": f"{8 * GB}\n",
            f"{V1}/run/memory.high": f"{3 * GB}\n",
            f"{V1}/run/memory.current": f"{GB}\n",
        },
        2 * GB,
    ),
    "v1 of a container": (
        {
            "/proc/self/cgroup": f"3:memory:{HOST}\n",
            f"{V1}/memory/memory.limit_in_bytes": f"{4 * GB}\n",
            f"{V1}/memory/memory.usage_in_bytes": f"{3 * GB}\n",
            f"{V1}/memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {GB}\n",
        },
        2 * GB,
    ),
    "v1, a batch system": (
        {
            "/proc/self/cgroup": "3:memory:/slurm/7/step\n",
            "/proc/self/mountinfo": MOUNTS_V1,
            f"{V1}/memory/slurm/7/memory.limit_in_bytes": f"{GB}\n",
            f"{V1}/memory/slurm/7/memory.usage_in_bytes": "0\n",
            f"{V1}/memory/memory.limit_in_bytes": "9223372036854771712\n",
            f"{V1}/memory/memory.usage_in_bytes": f"{9 * GB}\n",
        },
        GB,
    ),
}


def reading(files: dict[str, str]) -> containers.Read:
    return lambda path: files.get(path, "")


@pytest.mark.parametrize("case", CPU)
def test_the_cpu_limit_is_seen(case: str) -> None:
    files, share = CPU[case]
    assert containers.cpu_share(reading(files)) == share


@pytest.mark.parametrize("case", MEMORY)
def test_the_memory_limit_is_seen(case: str) -> None:
    files, rest = MEMORY[case]
    assert containers.memory_rest(reading(files)) == rest


def test_cores_and_memory_are_no_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {**MEMORY["v1, a batch system"][0], **CPU["v1, a batch system"][0]}
    files["/proc/meminfo"] = "MemAvailable:    64000000 kB\n"
    monkeypatch.setattr(device, "_read", reading(files))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert device.num_cores() == 2
    assert device.memory_bytes() == GB
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3}, raising=False)
    assert device.num_cores() == 1


@pytest.mark.parametrize(
    ("asked", "threads", "why"),
    [
        ("", 8, "the cores of this machine"),
        ("3", 3, "OMP_NUM_THREADS"),
        ("2,4", 2, "OMP_NUM_THREADS"),
        ("99", 8, "the cores of this machine"),
        ("many", 8, "the cores of this machine"),
        ("0", 8, "the cores of this machine"),
    ],
)
def test_fewer_threads_where_the_user_says_so(
    monkeypatch: pytest.MonkeyPatch, asked: str, threads: int, why: str
) -> None:
    monkeypatch.setattr(device, "num_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert device.num_threads() == (threads, why)


@pytest.mark.parametrize(
    ("threads", "cores", "goes_on_with", "word"),
    [
        (2, 2, 2, ""),
        (2, 8, 2, ""),
        (4, 1, 4, "keeps its bits"),
        (5, 1, 1, "too few for the 5"),
        (64, 2, 2, "2 cores here"),
    ],
)
def test_a_run_goes_on_with_fewer_cores(
    monkeypatch: pytest.MonkeyPatch, threads: int, cores: int, goes_on_with: int, word: str
) -> None:
    monkeypatch.setattr(device, "num_cores", lambda: cores)
    found, sentence = device.resumed_threads(threads)
    assert found == goes_on_with
    assert word in sentence
    assert bool(word) == bool(sentence)
