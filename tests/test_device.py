"""Which device, which number type and how much room: the rules, on whatever machine runs them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vitrail import device
from vitrail.errors import EnvironmentFault, UsageError


def test_auto_takes_the_best_device_there_is() -> None:
    expected = (
        "cuda"
        if torch.cuda.is_available()
        else "mps"
        if torch.backends.mps.is_available()
        else "cpu"
    )
    assert device.pick_device("auto").type == expected
    assert device.pick_device("cpu") == torch.device("cpu")


def test_unknown_and_absent_devices_are_named() -> None:
    with pytest.raises(UsageError, match="Did you mean cuda") as error:
        device.pick_device("cude")
    assert error.value.code == "VIT-241"
    with pytest.raises(EnvironmentFault, match="cuda:99 is not there.*cpu") as fault:
        device.pick_device("cuda:99")
    assert fault.value.code == "VIT-501"


CPU = torch.device("cpu")


def flags(monkeypatch: pytest.MonkeyPatch, *names: str, vendor: str = "AuthenticAMD") -> None:
    monkeypatch.setattr(device, "cpu_vendor", lambda: vendor)
    monkeypatch.setattr(device, "cpu_flags", lambda: frozenset({"sse2", "avx2", *names}))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


def test_a_cpu_without_bfloat16_products_never_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    flags(monkeypatch, "avx512f")
    precision, why = device.pick_precision("auto", CPU)
    assert precision == "float32"
    assert "75 to 130 times slower" in why
    with pytest.raises(UsageError, match="75 to 130 times slower") as error:
        device.pick_precision("bfloat16", CPU)
    assert error.value.code == "VIT-242"


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_with_bfloat16_products_uses_them(monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    flags(monkeypatch, flag)
    assert device.pick_precision("auto", CPU) == ("bfloat16", f"the CPU has {flag}")
    assert device.pick_precision("bfloat16", CPU) == ("bfloat16", "asked for")
    assert device.pick_precision("float32", CPU) == ("float32", "asked for")


def test_where_bfloat16_is_slower_auto_keeps_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    flags(monkeypatch, "avx512_bf16", vendor="GenuineIntel")
    precision, why = device.pick_precision("auto", CPU)
    assert precision == "float32"
    assert "half as fast" in why
    assert device.pick_precision("bfloat16", CPU) == ("bfloat16", "asked for")
    flags(monkeypatch, "avx512_bf16", "amx_bf16", vendor="GenuineIntel")
    assert device.pick_precision("auto", CPU)[0] == "bfloat16"


def test_a_torch_that_ignores_the_units_keeps_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    flags(monkeypatch, "avx512_bf16")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert device.pick_precision("auto", CPU)[0] == "float32"


def test_other_devices_and_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.pick_precision("auto", torch.device("mps"))[0] == "float32"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert device.pick_precision("auto", torch.device("cuda"))[0] == "float32"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert device.pick_precision("auto", torch.device("cuda"))[0] == "bfloat16"
    with pytest.raises(UsageError, match="Did you mean bfloat16"):
        device.pick_precision("bfloat", CPU)


def test_flags_are_read_as_whole_words(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx512_bf16_x avx2\n\n"
        "processor\t: 1\nflags\t\t: amx_bf16\n",
        encoding="utf-8",
    )
    assert device.cpu_flags(cpuinfo) == {"fpu", "avx512_bf16_x", "avx2"}
    assert device.cpu_flags(tmp_path / "absent") == frozenset()


def test_vendor_is_read_from_the_system(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: x\n")
    assert device.cpu_vendor(cpuinfo) == "GenuineIntel"
    assert device.cpu_vendor(tmp_path / "absent") == ""


def test_threads_are_set_and_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # fewer than the cores, where it is set
    before = torch.get_num_threads()
    try:
        assert device.set_threads(1) == torch.get_num_threads() == 1
        assert device.set_threads("auto") == torch.get_num_threads() == device.num_cores() >= 1
    finally:
        torch.set_num_threads(before)


def test_the_age_of_a_process_counts_its_imports() -> None:
    code = (
        "import time; time.sleep(0.4)\n"
        "from vitrail.device import process_age\n"
        "first = process_age(); time.sleep(0.2); print(first, process_age())"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    passed = time.monotonic() - began
    first, second = map(float, done.stdout.split())
    assert first + 0.19 < second < passed + 0.05
    assert first > (0.39 if sys.platform == "linux" else 0)


def test_freed_memory_is_kept_on_glibc() -> None:
    code = (
        "from vitrail.device import keep_freed_memory as k; import platform, sys\n"
        "linux = sys.platform == 'linux' and platform.libc_ver()[0] == 'glibc'\n"
        "sys.exit(0 if k() == linux and k() == linux and 'torch' not in sys.modules else 1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_room_is_measured(tmp_path: Path) -> None:
    assert 2**24 < device.memory_bytes() < 2**50
    assert device.free_disk(tmp_path / "not" / "yet") == pytest.approx(
        device.free_disk(tmp_path), rel=0.1
    )


def test_the_machine_is_described_without_names() -> None:
    import getpass
    import platform

    described = device.machine()
    text = json.dumps(described)
    assert {
        "cpu",
        "cores",
        "memory_available_bytes",
        "python",
        "torch",
        "threads",
        "gpus",
    } <= described.keys()
    assert platform.node() not in text or len(platform.node()) < 4
    assert f'"{getpass.getuser()}"' not in text
