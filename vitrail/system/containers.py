"""What a container, a batch system or systemd lets this process use: control groups of Linux.

Source: Documentation/admin-guide/cgroup-v2.rst (cpu.max, memory.max, memory.high) and cgroup-v1/ of
the kernel. A limit holds for everything below the group that has it, so the smallest one of all
groups from the root to our own counts. Groups are found by /proc/self/cgroup and
/proc/self/mountinfo; a container that sees only its own part of the tree, under other names, still
finds its limits where the tree is mounted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

Read = Callable[[str], str]  # a small file of the kernel; "" where it does not exist
ROOT = "/sys/fs/cgroup"


class ControlGroup(NamedTuple):
    """A folder of a tree of control groups."""

    folder: str
    is_v2: bool


def cpu_share(read: Read) -> float | None:
    """CPUs that may be busy at a time, for instance 1.5; None without a limit."""
    shares = []
    for folder, is_v2 in groups("cpu", read):
        if is_v2:
            quota, _, period = read(f"{folder}/cpu.max").partition(" ")
        else:
            quota = read(f"{folder}/cpu.cfs_quota_us")  # -1: no limit
            period = read(f"{folder}/cpu.cfs_period_us")
        if (limit := _number(quota)) is not None and (every := _number(period)):
            shares.append(limit / every)
    return min(shares, default=None)


def memory_rest(read: Read) -> int | None:
    """Bytes that may still be taken; None without a limit. Cached files count as free."""
    rests = []
    for folder, is_v2 in groups("memory", read):
        if is_v2:
            limits = [_number(read(f"{folder}/memory.{kind}")) for kind in ("max", "high")]
            used, cached = _number(read(f"{folder}/memory.current")), "inactive_file"
        else:
            limits = [_number(read(f"{folder}/memory.limit_in_bytes"))]
            used, cached = _number(read(f"{folder}/memory.usage_in_bytes")), "total_inactive_file"
        found = [limit for limit in limits if limit is not None]
        if found and used is not None:
            cache = re.search(rf"^{cached} (\d+)", read(f"{folder}/memory.stat"), re.MULTILINE)
            rests.append(max(0, min(found) - used + (int(cache[1]) if cache else 0)))
    return min(rests, default=None)


def groups(controller: str, read: Read) -> Iterator[ControlGroup]:
    """Our own group and all above it, in each tree that limits `controller`."""
    usual = ["0::/", f"1:{controller}:/"]  # where /proc says nothing
    for line in [*usual, *read("/proc/self/cgroup").splitlines()]:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        is_v2 = number == "0" and not controllers
        if is_v2 or controller in controllers.split(","):
            for place, root in _mounts(controller, read, is_v2=is_v2):
                yield from (ControlGroup(place + below, is_v2) for below in _upwards(path, root))


def _mounts(controller: str, read: Read, *, is_v2: bool) -> list[tuple[str, str]]:
    """(folder, which part of the tree is seen there) of each mount, or the usual folders."""
    found = []
    for line in read("/proc/self/mountinfo").splitlines():
        mount, _, kind = line.partition(" - ")
        fields, words = mount.split(), kind.split()
        is_ours = (
            words[:1] == ["cgroup2"]
            if is_v2
            else (words[:1] == ["cgroup"] and controller in words[-1].split(","))
        )
        if is_ours and len(fields) > 4:
            root, place = (
                re.sub(r"\\([0-7]{3})", lambda o: chr(int(o[1], 8)), field) for field in fields[3:5]
            )
            found.append((place.rstrip("/"), root))
    if found:
        return found
    if is_v2:
        return [(ROOT, "/")]
    names = ("cpu", "cpu,cpuacct") if controller == "cpu" else (controller,)
    return [(f"{ROOT}/{name}", "/") for name in names]


def _upwards(path: str, root: str) -> Iterator[str]:
    """Where the group `path` and those above it lie below a mount of `root`: "/a/b", "/a", ""."""
    own = path.rstrip("/")
    inside = root.rstrip("/")
    if own == inside or own.startswith(inside + "/"):
        own = own[len(inside) :]
    if ".." in own.split("/"):  # a group outside of what the container sees
        own = ""
    while own:
        yield own
        own = own.rpartition("/")[0]
    yield ""


def _number(text: str) -> int | None:
    """A limit; None for "max", -1 and a file that is absent."""
    return int(text) if text.strip().isdigit() else None
