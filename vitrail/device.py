"""The machine a run computes on: which device, which number type, how many threads, how much memory
and disk.

No torch at import: `vitrail doctor --help` and the data commands read it too. Nothing here names
the host or the user.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.errors import EnvironmentFault, UsageError, nearest
from vitrail.spelling import count
from vitrail.system import containers

if TYPE_CHECKING:
    import torch

# Flags of /proc/cpuinfo for bfloat16 products in hardware. avx512_bf16: measured 3.5 to 3.9 x
# faster than float32 on AMD (training step of ViT-like layers, widths 48 to 384, one thread), half
# as fast on Intel, where AMX is what is fast. Without them torch emulates: 75 to 130 x slower.
NATIVE_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})
_IMPORTED = time.monotonic()
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc malloc.h
MOST_THREADS = 4  # a core; more only wait for each other


def pick_device(name: str = "auto") -> torch.device:
    """The device of "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:N" or "mps".

    Raises UsageError VIT-241 for another name and EnvironmentFault VIT-501 for a device that is not
    there.
    """
    import torch

    cuda, mps = (
        torch.cuda.device_count() if torch.cuda.is_available() else 0,
        torch.backends.mps.is_available(),
    )
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise UsageError("VIT-241", f"unknown device {name!r}. {device_meant(name)}")
    device = torch.device(name)
    if (device.type == "cuda" and (device.index or 0) >= cuda) or (
        device.type == "mps" and not mps
    ):
        here = ["cpu", *(f"cuda:{index}" for index in range(cuda)), *(["mps"] if mps else [])]
        raise EnvironmentFault(
            "VIT-501",
            f"device {name} is not there. torch {torch.__version__} sees: {', '.join(here)}.",
            hint="Choose one of these with --device, or leave it at auto.",
        )
    return device


def device_meant(name: str) -> str:
    """A sentence on which device is meant: "gpu", "0" and "gpu:1" are words of other tools."""
    found = re.fullmatch(r"(?:gpu|cuda|nvidia|rocm|hip)?[:_ ]?(\d+)?", name.strip().lower())
    if found and name.strip():
        meant = "cuda" if found[1] is None else f"cuda:{int(found[1])}"
        return f"Did you mean {meant}? auto takes a GPU where there is one."
    if name.lower() in ("metal", "apple", "m1", "m2", "mac"):
        return "Did you mean mps?"
    return nearest(name, ["auto", "cpu", "cuda", "cuda:0", "mps"])


def sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`values` of the host on `device`, without waiting for it: CUDA takes a copy of ordinary
    memory into a buffer before the call returns. MPS would read it later, and is waited for.
    """
    return values.to(device, non_blocking=device.type != "mps")


def pick_precision(name: str, device: torch.device) -> tuple[str, str]:
    """(precision, why) for "auto", "float32" or "bfloat16" on `device`; "bfloat16" means autocast
    with float32 weights. "auto" takes the faster one of the two that `device` has.

    Raises UsageError VIT-242 for bfloat16 where the hardware cannot multiply it, and for any other
    name.
    """
    if name not in ("auto", "float32", "bfloat16"):
        raise UsageError(
            "VIT-242",
            f"unknown precision {name!r}. {nearest(name, ['auto', 'float32', 'bfloat16'])}",
        )
    if name == "float32":
        return "float32", "asked for"
    able, why = _bfloat16_on(device)
    if able and name == "bfloat16":
        return "bfloat16", "asked for"
    if able and _is_slower(device):
        return "float32", f"{why} without amx_bf16: on Intel about half as fast as float32"
    if able:
        return "bfloat16", why
    if name == "bfloat16":
        raise UsageError(
            "VIT-242", f"precision bfloat16: {why}.", hint="Use --precision float32, or auto."
        )
    return "float32", why


def may_have_gpu() -> bool:
    """Whether torch could find a GPU here; it is not imported to ask."""
    return sys.platform == "darwin" or any(
        os.path.exists(name) for name in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    )


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16."""
    return bool(cpu_flags() & NATIVE_BFLOAT16)


def processor() -> str:
    """The processor's name."""
    name = _cpuinfo(Path("/proc/cpuinfo")).get("model name")
    return name or platform.processor() or platform.machine()


def _bfloat16_on(device: torch.device) -> tuple[bool, str]:
    import torch

    if device.type == "cuda":
        able = torch.cuda.get_device_capability(device) >= (8, 0)
        return (
            able,
            "the GPU has bfloat16 units"
            if able
            else "the GPU has no bfloat16 units (it is older than Ampere)",
        )
    if device.type != "cpu":
        return False, f"bfloat16 autocast is not relied on for {device.type}"
    flags = cpu_flags() & NATIVE_BFLOAT16
    if not flags:
        return False, (
            "this CPU has no bfloat16 products (no avx512_bf16 or amx_bf16): "
            "75 to 130 times slower than float32 there"
        )
    if (
        not torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        or not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    ):
        return False, f"the CPU has {min(flags)}, but this build of torch does not use it"
    return True, f"the CPU has {', '.join(sorted(flags))}"


def _is_slower(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16, but more slowly than float32.

    GFLOP/s of one thread of an Intel Xeon whose AMX the virtual machine hides, (8320 x 192) times
    (192 x 576): float32 195, bfloat16 97; convolutions alike (docs/performance.md).
    """
    is_intel = cpu_vendor() == "GenuineIntel"
    return device.type == "cpu" and is_intel and "amx_bf16" not in cpu_flags()


def cpu_vendor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's maker as Linux names it ("GenuineIntel", "AuthenticAMD"); empty elsewhere."""
    return _cpuinfo(cpuinfo).get("vendor_id", "")


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The CPU's feature flags as Linux lists them; empty elsewhere."""
    return frozenset(_cpuinfo(cpuinfo).get("flags", "").split())


def _cpuinfo(path: Path) -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    try:
        first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def num_cores() -> int:
    """CPU cores this process may use: affinity, and the container's share where there is one; an
    equal share of them where several processes of this machine train a run (torchrun).
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    share = containers.cpu_share(_read)
    cores = cores if share is None else min(cores, max(1, round(share)))
    return max(1, cores // processes_here())


def processes_here() -> int:
    """Processes of this machine that train the same run, as torchrun says; else 1."""
    number = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(number)) if number.isdigit() and "LOCAL_RANK" in os.environ else 1


def num_threads() -> tuple[int, str]:
    """Threads to compute with, and why: the cores, or fewer where OMP_NUM_THREADS says so."""
    cores = num_cores()
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and 0 < int(asked) < cores:
        return int(asked), "OMP_NUM_THREADS"
    return cores, "the cores of this machine"


def resumed_threads(threads: int) -> tuple[int, str]:
    """Threads with which a run that began with `threads` goes on, and a sentence where there are
    fewer cores now.

    As many as before where that is possible, because sums then keep their order and the run its
    bits; one a core where more than MOST_THREADS of them would wait for each core.
    """
    cores = num_cores()
    if threads <= cores:
        return threads, ""
    if threads <= MOST_THREADS * cores:
        return threads, (
            f"{count(threads, 'thread', 'shares')} {_count_cores(cores)}: slower, but as the "
            "run began, which "
            "keeps its bits"
        )
    return (
        cores,
        f"{_count_cores(cores)} here: too few for the {count(threads, 'thread')} of this run",
    )


def _count_cores(cores: int) -> str:
    return "1 core" if cores == 1 else f"{cores} cores"


def set_threads(threads: int | str = "auto") -> int:
    """Let torch compute with this many threads ("auto": `num_threads`); returns the number."""
    import torch

    number = num_threads()[0] if threads == "auto" else int(threads)
    torch.set_num_threads(number)
    return number


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks instead of giving them back to the kernel; True where that
    was possible.

    Activations are freed and asked for again at every operation; each time the kernel would fault
    in zeroed pages (65,000 faults in one ViT-Ti forward of 32 images; 21 to 41 % of the time).
    Costs up to 50 MB.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def memory_bytes() -> int:
    """Main memory this process may still take: the system's available memory, or the container's
    rest if smaller.
    """
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"))
    if found:
        available = int(found[1]) * 1024
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return 4 * 2**30  # unknown: plan for a small computer
    rest = containers.memory_rest(_read)
    return available if rest is None else min(available, rest)


def process_age() -> float:
    """Seconds since this process was started, imports included."""
    since_import = time.monotonic() - _IMPORTED
    try:
        started = int(_read("/proc/self/stat").rpartition(")")[2].split()[19])  # ticks after boot
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (AttributeError, IndexError, ValueError, OSError):  # not Linux
        return since_import
    return max(age, since_import)


def free_disk(path: Path) -> int:
    """Bytes that may be written under `path`, or under its nearest folder that exists."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def machine() -> dict[str, Any]:
    """What a run's record and `vitrail doctor` say about the computer: no host name, no user name,
    no path.
    """
    import torch

    cuda = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "cpu": processor(),
        "cores": num_cores(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": sorted(cpu_flags() & NATIVE_BFLOAT16),
        "memory_available_bytes": memory_bytes(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in cuda],
        "cuda": torch.version.cuda,
        "mps": torch.backends.mps.is_available(),
    }


def _read(path: str) -> str:
    """A small file of the kernel; empty where it does not exist."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
